//! `runner tenant`: look at tenants, make them, say what they may have.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::ask;
use super::client::{Client, Common};
use super::exit::Failure;
use super::job::percent;
use super::output::{Format, Table, bytes, print, print_json};
use super::queue::{four, from, or_dash, or_none};
use crate::api::tenants::{TenantShown, TenantsShown};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List tenants with their jobs and what they may have
    #[command(after_help = "Example: runner tenant list")]
    List(Common),
    /// Show one tenant
    #[command(after_help = "Example: runner tenant show acme")]
    Show(One),
    /// Make a tenant. Its plugins may do nothing but compute, unless the configuration says more
    #[command(after_help = "Example: runner tenant create acme --concurrency 4 --fuel 2_000G/1h")]
    Create(Box<Set>),
    /// Say what a tenant may have; `none` takes back a limit on its runs
    #[command(after_help = "Example: runner tenant set acme --capacity 100000 --memory none")]
    Set(Box<Set>),
    /// Delete a tenant that has nothing left: no jobs, schedules, keys of plugins, tokens
    #[command(after_help = "Example: runner tenant delete acme")]
    Delete(One),
}

#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The tenant
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Set {
    /// The tenant
    name: String,
    /// Jobs that have not ended, at most; more are refused
    #[arg(long, value_name = "N")]
    capacity: Option<u64>,
    /// Bytes of args, outputs, checkpoints and logs, at most, for example 10GiB
    #[arg(long, value_name = "SIZE")]
    stored_bytes: Option<String>,
    /// How long completed jobs are kept, for example 7d
    #[arg(long, value_name = "DURATION")]
    keep_completed: Option<String>,
    /// How long cancelled jobs are kept
    #[arg(long, value_name = "DURATION")]
    keep_cancelled: Option<String>,
    /// How long discarded jobs are kept
    #[arg(long, value_name = "DURATION")]
    keep_discarded: Option<String>,
    /// Completed jobs at most; the oldest go first
    #[arg(long, value_name = "N")]
    completed_max: Option<u64>,
    /// Runs at once, or none
    #[arg(long, value_name = "N|none")]
    concurrency: Option<String>,
    /// Memory of its runs together, for example 512MiB, or none
    #[arg(long, value_name = "SIZE|none")]
    memory: Option<String>,
    /// Fuel of its runs in a period, for example 2_000G/1h, or none
    #[arg(long, value_name = "FUEL/TIME|none")]
    fuel: Option<String>,
    #[command(flatten)]
    common: Common,
}

impl Set {
    fn body(&self) -> Result<Map<String, Value>, Failure> {
        let mut body = Map::new();
        let mut put = |name: &str, value: Option<Value>| value.map(|value| body.insert(name.to_owned(), value));
        put("capacity", self.capacity.map(|n| json!(n)));
        put("completed_max", self.completed_max.map(|n| json!(n)));
        for (name, text) in [
            ("stored_bytes", &self.stored_bytes),
            ("keep_completed", &self.keep_completed),
            ("keep_cancelled", &self.keep_cancelled),
            ("keep_discarded", &self.keep_discarded),
        ] {
            put(name, text.as_ref().map(|text| json!(text)));
        }
        for (name, text) in [("memory_bytes", &self.memory), ("fuel", &self.fuel)] {
            put(name, text.as_ref().map(|text| if text == "none" { Value::Null } else { json!(text) }));
        }
        let concurrency = match self.concurrency.as_deref() {
            None => None,
            Some("none") => Some(Value::Null),
            Some(text) => {
                let wrong = || Failure::usage(format!("--concurrency {text}: must be a whole number, or none"));
                Some(json!(text.parse::<u32>().map_err(|_| wrong())?))
            }
        };
        put("concurrency", concurrency);
        Ok(body)
    }
}

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::List(args) => ask(&args.target, async |client| list(client, args.output).await),
        Verb::Show(args) => ask(&args.common.target, async |client| {
            Ok(show(&client.get(&path(&args.name)).await?.json()?, args.common.output))
        }),
        Verb::Create(args) => {
            let mut body = args.body()?;
            body.insert("name".to_owned(), json!(args.name));
            ask(&args.common.target, async |client| {
                let body = Value::Object(body).to_string();
                Ok(show(&client.post("/v1/tenants", None, Some(body)).await?.json()?, args.common.output))
            })
        }
        Verb::Set(args) => {
            let body = args.body()?;
            if body.is_empty() {
                return Err(Failure::usage("say what to set, for example --capacity 100000"));
            }
            ask(&args.common.target, async |client| {
                let body = Value::Object(body).to_string();
                Ok(show(&client.patch(&path(&args.name), body).await?.json()?, args.common.output))
            })
        }
        Verb::Delete(args) => ask(&args.common.target, async |client| {
            client.delete(&path(&args.name)).await?;
            match args.common.output {
                Format::Json => print_json(&json!({ "name": args.name, "deleted": true })),
                Format::Table => print(&format!("deleted {}\n", args.name)),
            }
            Ok(ExitCode::SUCCESS)
        }),
    }
}

async fn list(client: &Client, format: Format) -> Result<ExitCode, Failure> {
    let TenantsShown { tenants } = client.get("/v1/tenants").await?.json()?;
    if format == Format::Json {
        tenants.iter().for_each(print_json);
        return Ok(ExitCode::SUCCESS);
    }
    let mut table = Table::new(&["tenant", "available", "running", "waiting", "ended", "at once", "memory", "fuel"]);
    for tenant in tenants {
        let [available, running, waiting, ended] = four(&tenant.states);
        let memory = tenant.memory_bytes.map_or_else(|| "-".to_owned(), bytes);
        let fuel = tenant.fuel.unwrap_or_else(|| "-".to_owned());
        table.row([tenant.name, available, running, waiting, ended, or_dash(tenant.concurrency), memory, fuel]);
    }
    table.print("there are no tenants");
    Ok(ExitCode::SUCCESS)
}

fn show(tenant: &TenantShown, format: Format) -> ExitCode {
    if format == Format::Json {
        print_json(tenant);
        return ExitCode::SUCCESS;
    }
    let mut table = Table::new(&["field", "value"]);
    let from = |key: &str| from(&tenant.sources, key);
    let memory = tenant.memory_bytes.map(bytes);
    let fields = [
        ("tenant", tenant.name.clone()),
        ("configured", if tenant.configured { "yes" } else { "no" }.to_owned()),
        ("capacity", tenant.capacity.to_string()),
        ("stored_bytes", bytes(tenant.stored_bytes)),
        ("keep_completed", tenant.keep_completed.clone()),
        ("keep_cancelled", tenant.keep_cancelled.clone()),
        ("keep_discarded", tenant.keep_discarded.clone()),
        ("completed_max", tenant.completed_max.to_string()),
        ("concurrency", format!("{}{}", or_none(tenant.concurrency.as_ref()), from("concurrency"))),
        ("memory", format!("{}{}", or_none(memory.as_ref()), from("memory_bytes"))),
        ("fuel", format!("{}{}", or_none(tenant.fuel.as_ref()), from("fuel"))),
    ];
    fields.into_iter().for_each(|(name, value)| table.row([name.to_owned(), value]));
    tenant.states.iter().for_each(|(state, jobs)| table.row([state.clone(), jobs.to_string()]));
    table.print("");
    ExitCode::SUCCESS
}

fn path(name: &str) -> String {
    format!("/v1/tenants/{}", percent(name))
}
