//! The keys of the operator's configuration, and what each means.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use runner_store::command::{FUEL_PERIOD_MIN, Fuel};
use runner_store::job::name_problem;

use super::{Layer, Operator, Tenant, read_secret};
use crate::externals::Externals;
use crate::table::{self, Table, TableError, Value};
use crate::wasm::grants::{BlobAt, BlobPlace, Bucket, GrantBy, LimitsMax, Max, Secret, TenantRules};
use crate::wasm::manifest::{KindSettings, allow};
use crate::wasm::units;

/// Tenants of one node.
const TENANTS_MAX: usize = 10_000;
/// A tenant's name is a folder's, and part of addresses some day.
const TENANT_BYTES_MAX: usize = 63;
/// Middleware around one handler: each is a call of its own.
const LAYERS_MAX: usize = 8;
/// Containers of one tenant: each is kept open once it was used.
const CONTAINERS_MAX: usize = 100;
/// How often the node's memory may be promised, at most: beyond, most runs would be interrupted.
const OVERCOMMIT_MAX: f64 = 10.0;
/// A secret: a key or a token, or a certificate.
pub(super) const SECRET_BYTES_MAX: u64 = 64 << 10;

pub(super) fn operator(text: &str, folder: &Path) -> Result<Operator, TableError> {
    let parsed = table::parse(text)?;
    let mut root = Table::new(text, "", parsed.get_ref());
    let mut operator = Operator::default();
    if let Some(value) = root.take("tenants") {
        let entries = value.table()?.entries();
        if entries.len() > TENANTS_MAX {
            return Err(value.error(&format!("has more than {TENANTS_MAX} tenants")));
        }
        for (name, value) in entries {
            if let Some(problem) = tenant_problem(name) {
                return Err(value.error(&format!("is no right name of a tenant: {problem}")));
            }
            operator.tenants.insert(name.to_owned(), tenant(name, &value, folder)?);
        }
    }
    if let Some(value) = root.take("middleware") {
        operator.middleware = layers(&value)?;
    }
    if let Some(value) = root.take("kinds") {
        operator.externals = Arc::new(Externals::read(&value)?);
    }
    if let Some(value) = root.take("node") {
        let mut table = value.table()?;
        operator.memory_bytes = table.take("memory").map(|value| value.size()).transpose()?;
        if let Some(value) = table.take("overcommit") {
            operator.overcommit_permille = value.permille(OVERCOMMIT_MAX)?;
            if operator.overcommit_permille < 1_000 {
                return Err(value.error("must be at least 1: less than all of it is a smaller `memory`"));
            }
        }
        table.done()?;
    }
    // How the process itself is to be is read where its flags are.
    _ = root.take("serve");
    root.done()?;
    Ok(operator)
}

/// What is wrong with a tenant's name, if anything.
pub(super) fn tenant_problem(name: &str) -> Option<String> {
    if let Some(problem) = name_problem(name) {
        return Some(problem);
    }
    if name.len() > TENANT_BYTES_MAX {
        return Some(format!("it has {} bytes, at most {TENANT_BYTES_MAX} are allowed", name.len()));
    }
    name.bytes().any(|b| b.is_ascii_uppercase()).then(|| "it must be lower case".to_owned())
}

fn tenant(name: &str, value: &Value<'_>, folder: &Path) -> Result<Tenant, TableError> {
    let mut table = value.table()?;
    let mut tenant = Tenant::of(name);
    let mut rules = TenantRules::of(name);
    if let Some(value) = table.take("grant") {
        rules.grant = match value.str()? {
            "manifest" => GrantBy::Manifest,
            "max" => GrantBy::Both,
            _ => return Err(value.error("must be \"manifest\" (whatever manifests ask for) or \"max\" (within `max`)")),
        };
    }
    if let Some(value) = table.take("concurrency") {
        tenant.concurrency = u32::try_from(value.integer(1, i64::from(u32::MAX))?).ok();
    }
    tenant.memory_bytes = table.take("memory").map(|value| value.size()).transpose()?;
    tenant.fuel = table.take("fuel").map(|value| fuel(&value)).transpose()?;
    if let Some(value) = table.take("config") {
        rules.config = texts(&value)?;
    }
    if let Some(value) = table.take("secrets") {
        rules.secrets = secrets(&value, folder)?;
    }
    if let Some(value) = table.take("max") {
        rules.max = max(value.table()?)?;
    }
    if let Some(value) = table.take("blobs") {
        let entries = value.table()?.entries();
        if entries.len() > CONTAINERS_MAX {
            return Err(value.error(&format!("has more than {CONTAINERS_MAX} containers")));
        }
        for (name, value) in entries {
            let place = container(name, &value, folder, &rules.secrets)?;
            rules.blobs.insert(name.to_owned(), place);
        }
    }
    // Keys of buckets are the runner's to use, and no manifest's to ask for.
    let keys: Vec<Secret> = rules.blobs.values().filter_map(|place| place.keys()).flatten().collect();
    rules.secrets.retain(|_, secret| !keys.contains(secret));
    if let Some(value) = table.take("middleware") {
        tenant.middleware = layers(&value)?;
    }
    table.done()?;
    tenant.rules = Arc::new(rules);
    Ok(tenant)
}

/// Fuel and a period: `2_000G/1h`.
fn fuel(value: &Value<'_>) -> Result<Fuel, TableError> {
    let wrong = |why: &str| value.error(&format!("is refused: {why}"));
    let fuel = units::fuel_per(value.str()?).map_err(|why| wrong(&why))?;
    if fuel.per < FUEL_PERIOD_MIN {
        return Err(wrong("the period is shorter than 1s; write for example `2_000G/1h`"));
    }
    Ok(fuel)
}

fn texts(value: &Value<'_>) -> Result<BTreeMap<String, String>, TableError> {
    let one = |(name, value): (&str, Value<'_>)| match name_problem(name) {
        None => Ok((name.to_owned(), value.str()?.to_owned())),
        Some(problem) => Err(value.error(&format!("is no right name: {problem}"))),
    };
    value.table()?.entries().into_iter().map(one).collect()
}

fn secrets(value: &Value<'_>, folder: &Path) -> Result<BTreeMap<String, Secret>, TableError> {
    let one = |(name, value): (&str, Value<'_>)| match name_problem(name) {
        None => Ok((name.to_owned(), secret(&value, folder)?)),
        Some(problem) => Err(value.error(&format!("is no right name: {problem}"))),
    };
    value.table()?.entries().into_iter().map(one).collect()
}

/// `{ file = "…" }` or `{ env = "…" }`: never the secret itself, as configurations are copied and committed.
fn secret(value: &Value<'_>, folder: &Path) -> Result<Secret, TableError> {
    const HOW: &str = "must say where the secret is: { file = \"…\" } or { env = \"…\" }";
    if !value.is_table() {
        return Err(value.error(HOW));
    }
    let mut table = value.table()?;
    let (file, env) = (table.take("file"), table.take("env"));
    table.done()?;
    match (file, env) {
        (Some(file), None) => {
            let path = folder.join(file.str()?);
            let text = read_secret(&path);
            let text = text
                .map_err(|error| file.error(&format!("names `{}`, which cannot be read: {error}", path.display())))?;
            Ok(Secret::new(&text))
        }
        (None, Some(env)) => {
            let name = env.str()?;
            let set = std::env::var(name).map_err(|_| {
                env.error(&format!("names `{}`, which is not set in the environment", name.escape_debug()))
            });
            Ok(Secret::new(&set?))
        }
        _ => Err(value.error(HOW)),
    }
}

fn max(mut table: Table<'_>) -> Result<Max, TableError> {
    let mut max = Max::default();
    let mut bounds = KindSettings::default();
    crate::wasm::manifest::limits_of(&mut table, &mut bounds)?;
    max.limits = LimitsMax {
        timeout: bounds.timeout,
        fuel: bounds.fuel,
        memory_bytes: bounds.memory_bytes,
        output_bytes: bounds.output_bytes,
        staged_bytes: bounds.staged_bytes,
        host_calls: bounds.host_calls,
        enqueues: bounds.enqueues,
        http_body_bytes: bounds.http_body_bytes,
        cancel_grace: bounds.cancel_grace,
    };
    if let Some(value) = table.take("enqueue") {
        max.enqueue = allow::patterns(&value)?;
    }
    if let Some(value) = table.take("kv") {
        max.kv = value.bool()?;
    }
    if let Some(value) = table.take("reuse") {
        max.reuse = value.bool()?;
    }
    if let Some(value) = table.take("http") {
        max.http = value.list()?.iter().map(allow::url).collect::<Result<_, _>>()?;
    }
    if let Some(value) = table.take("private") {
        let address = |value: &Value<'_>| {
            let text = value.str()?;
            let wrong = "must be an address and a port, as 127.0.0.1:9000 or [::1]:9000";
            text.parse::<std::net::SocketAddr>().map_err(|_| value.error(wrong))
        };
        max.private = value.list()?.iter().map(address).collect::<Result<_, _>>()?;
    }
    table.done()?;
    Ok(max)
}

/// Where a container lies.
fn container(
    name: &str,
    value: &Value<'_>,
    folder: &Path,
    known: &BTreeMap<String, Secret>,
) -> Result<BlobPlace, TableError> {
    if let Some(problem) = name_problem(name) {
        return Err(value.error(&format!("is no right name: {problem}")));
    }
    let mut table = value.table()?;
    let Some(url) = table.take("url") else { return Err(value.error("needs a `url`: where it lies")) };
    let mode = match table.take("mode") {
        Some(mode) => allow::blob_mode(&mode)?,
        None => return Err(value.error("needs a `mode`: read, write or read-write")),
    };
    let at = match url.str()?.split_once(':') {
        Some(("file", path)) => {
            let below = inside(path).ok_or_else(|| {
                url.error(
                    "must stay within the folder of the configuration: file:photos, without `..` and not from the root",
                )
            })?;
            BlobAt::Folder { base: folder.to_owned(), below }
        }
        Some(("memory", "")) => BlobAt::Memory,
        Some(("s3", bucket)) => BlobAt::S3(self::bucket(&url, bucket, &mut table, known)?),
        _ => return Err(url.error("must be file:FOLDER, memory: or s3://BUCKET/PREFIX")),
    };
    table.done()?;
    Ok(BlobPlace::new(mode, at))
}

fn bucket(
    url: &Value<'_>,
    text: &str,
    table: &mut Table<'_>,
    known: &BTreeMap<String, Secret>,
) -> Result<Bucket, TableError> {
    let rest = text.strip_prefix("//").unwrap_or_default();
    let (name, prefix) = rest.split_once('/').unwrap_or((rest, ""));
    if name_problem(name).is_some() {
        return Err(url.error("names no bucket: write s3://BUCKET/PREFIX"));
    }
    let secret = |value: Value<'_>| {
        let name = value.str()?;
        known.get(name).cloned().ok_or_else(|| {
            value.error(&format!("names `{}`, which is not among this tenant's `secrets`", name.escape_debug()))
        })
    };
    let prefix = prefix.trim_matches('/');
    if !prefix.is_empty() && prefix.split('/').any(|part| matches!(part, "" | "." | "..")) {
        return Err(url.error("has a prefix with an empty part, `.` or `..`"));
    }
    let endpoint = table.take("endpoint").map(|value| endpoint(&value)).transpose()?;
    let region = table.take("region").map(|value| value.str().map(str::to_owned)).transpose()?;
    let (id, key) =
        (table.take("access_key").map(secret).transpose()?, table.take("secret_key").map(secret).transpose()?);
    let keys = match (id, key) {
        (Some(id), Some(key)) => Some((id, key)),
        (None, None) => None,
        _ => return Err(url.error("needs `access_key` and `secret_key` together, each the name of a secret")),
    };
    Ok(Bucket { name: name.to_owned(), prefix: prefix.to_owned(), endpoint, region, keys })
}

/// Where a bucket is asked for. Plain HTTP is the operator's own choice, as it is spelled out here.
fn endpoint(value: &Value<'_>) -> Result<String, TableError> {
    let text = value.str()?;
    let is_one = url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username() == ""
    });
    if is_one {
        Ok(text.to_owned())
    } else {
        Err(value.error("must be a URL, as https://s3.example.com or http://127.0.0.1:9000"))
    }
}

/// A path below the folder of the configuration, if it is one.
fn inside(path: &str) -> Option<PathBuf> {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::CurDir);
    let path = Path::new(path);
    let names_one = path.components().any(|part| matches!(part, Component::Normal(_)));
    (names_one && path.components().all(plain)).then(|| path.to_owned())
}

fn layers(value: &Value<'_>) -> Result<Vec<Layer>, TableError> {
    let layers = value.list()?;
    if layers.len() > LAYERS_MAX {
        return Err(value.error(&format!("has more than {LAYERS_MAX} entries")));
    }
    let one = |value: &Value<'_>| {
        let mut table = value.table()?;
        let Some(plugin) = table.take("plugin") else { return Err(value.error("needs a `plugin`: its name")) };
        let name = plugin.str()?;
        if let Some(problem) = name_problem(name) {
            return Err(plugin.error(&format!("is no right name: {problem}")));
        }
        let kinds = match table.take("kinds") {
            Some(kinds) => allow::patterns(&kinds)?,
            None => vec!["*".to_owned()],
        };
        table.done()?;
        Ok(Layer { plugin: name.to_owned(), kinds })
    };
    layers.iter().map(one).collect()
}
