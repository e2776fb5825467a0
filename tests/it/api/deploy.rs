//! Plugins that are put into the folder of a node and taken out of it, through the API.

use std::fs;
use std::sync::Arc;

use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_runtime::operator::Operator;
use runner_runtime::wasm::loader::Loader;
use runner_runtime::wasm::{Host, HostSettings};
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::engine::memory::Memory;

use super::*;
use crate::sandbox::guests::says;

/// An API with a node that follows a folder, in which `acme` may have one, too.
pub(super) struct World {
    pub(super) api: Api,
    pub(super) loader: Loader,
    folder: tempfile::TempDir,
}

impl World {
    async fn new() -> Self {
        Self::by(Operator::default()).await
    }

    /// The same, as an operator has configured it.
    pub(super) async fn by(operator: Operator) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (store, _writer) = Handle::start(Box::new(Memory::new(Clock::System))).unwrap();
        let host = Arc::new(Host::new(&HostSettings::default()).unwrap());
        let loader =
            Loader::start(Arc::clone(&host), folder.path(), Arc::new(|name: &str| name == "acme")).await.unwrap();
        let plugins = Plugins::of_node(loader.catalog()).with_reload(loader.reload()).with_deploy(loader.deploy());
        let app = App::new(store.clone(), plugins.run_by(host, Arc::new(operator)), Box::new(|| None));
        Self { api: Api { router: api::router(Arc::clone(&app)), app, store }, loader, folder }
    }

    async fn put(&self, name: &str, media: &str, body: impl Into<Bytes>) -> Answer {
        self.api.send(Method::PUT, &format!("/v1/plugins/{name}"), &[("content-type", media)], body).await
    }

    async fn put_form(&self, name: &str, parts: &[(&str, &[u8])]) -> Answer {
        self.put(name, "multipart/form-data; boundary=\"x-x\"", form("x-x", parts)).await
    }

    /// The files of the folder, by name.
    pub(super) fn files(&self, below: &str) -> Vec<String> {
        let Ok(entries) = fs::read_dir(self.folder.path().join(below)) else { return Vec::new() };
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn form(boundary: &str, parts: &[(&str, &[u8])]) -> Vec<u8> {
    let mut body = b"this is for nobody".to_vec();
    for (name, bytes) in parts {
        let head = format!(
            "\r\n--{boundary}\r\nContent-Type: x/y\r\ncontent-disposition: form-data; filename=\"f\"; name=\"{name}\"\r\n\r\n"
        );
        body.extend(head.as_bytes());
        body.extend(*bytes);
    }
    body.extend(format!("\r\n--{boundary}--\r\n").as_bytes());
    body
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", runner_runtime::wasm::plugin::digest(bytes))
}

const WASM: &str = "application/wasm";

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_serves_when_its_put_is_answered_and_is_gone_when_its_delete_is() {
    let world = World::new().await;
    let (one, two) = (says("1", "", 0), says("2", "", 0));
    world.api.get("/v1/plugins/a").await.check_refused(404, "not_found", None, "no plugin of this name");
    let answer = world.put("a", WASM, one.clone()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["plugin"]["digest"]), (201, &json!(digest(&one))));
    assert_eq!(answer.json(), world.api.get("/v1/plugins/a").await.json());
    assert_eq!(world.api.get("/v1/kinds/a").await.status, 200);
    // With a manifest, which the next version keeps, and another takes away.
    let manifest = b"kinds = [\"b\", \"c\"]\n";
    let answer = world.put_form("a", &[("plugin", &two), ("manifest", manifest)]).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["plugin"]["kinds"]), (200, &json!(["b", "c"])));
    let answer = world.put("a", WASM, one.clone()).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["plugin"]["kinds"]), (200, &json!(["b", "c"])));
    assert_eq!(world.files(""), ["a.toml", "a.wasm"]);
    let answer = world.put_form("a", &[("manifest", b""), ("plugin", &one)]).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["plugin"]["kinds"]), (200, &json!(["a"])));
    assert_eq!(world.files(""), ["a.wasm"]);
    assert_eq!(fs::read(world.folder.path().join("a.wasm")).unwrap(), one);
    let delete = async |name: &str| world.api.send(Method::DELETE, &format!("/v1/plugins/{name}"), &[], "").await;
    assert_eq!(delete("a").await.status, 204);
    assert_eq!(world.files(""), Vec::<String>::new());
    assert_eq!(world.api.get("/v1/plugins/a").await.status, 404);
    for name in ["a", "..", ".incoming", "%2e%2e%2fa", "b%00"] {
        delete(name).await.check_refused(404, "not_found", None, "no plugin of this name");
    }
    world.loader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_says_why_and_changes_nothing() {
    let world = World::new().await;
    let good = says("1", "", 0);
    assert_eq!(world.put("a", WASM, good.clone()).await.status, 201);
    let before = world.api.get("/v1/plugins").await.text();
    for (bytes, words) in [
        (b"oops, a text".as_slice(), "not WebAssembly but a text"),
        (b"", "is empty"),
        (&good[..good.len() / 2], "ends too early"),
        (&wat::parse_str("(module)").unwrap(), "does not export _start"),
    ] {
        world.put("a", WASM, bytes.to_vec()).await.check_refused(422, "plugin_refused", Some("plugin"), words);
    }
    world.put("a", "text/javascript", "x").await.check_refused(409, "exists", None, "a file `a.wasm`");
    let js = world.put("b", "text/javascript", "x").await;
    js.check_refused(422, "plugin_refused", Some("plugin"), "js-engine.wasm`, is not in the plugin folder");
    let with =
        async |manifest: &str| world.put_form("a", &[("plugin", &good), ("manifest", manifest.as_bytes())]).await;
    with("kinda = 1").await.check_refused(422, "invalid", Some("manifest"), "unknown key `kinda`");
    with("sha256 = \"00\"").await.check_refused(422, "invalid", Some("manifest"), "sha256");
    let asks = with("[allow]\nsecrets = [\"key\"]\n").await;
    asks.check_refused(422, "not_granted", Some("manifest"), "secret key");
    assert!(asks.text().contains("nothing was changed"), "{}", asks.text());
    for name in ["a.wasm", "a.toml", "-a", "%2e", "a%20b", "a%2fb", "%C3%A4"] {
        world.put(name, WASM, good.clone()).await.check_refused(422, "invalid", Some("name"), "");
    }
    world.put("js-engine", WASM, good.clone()).await.check_refused(403, "not_allowed", None, "of all tenants");
    let delete = world.api.send(Method::DELETE, "/v1/plugins/js-engine", &[], "").await;
    delete.check_refused(403, "not_allowed", None, "of all tenants");
    assert_eq!(world.put("a/../../b", WASM, good.clone()).await.status, 404);
    assert_eq!(world.api.get("/v1/plugins").await.text(), before);
    assert_eq!(world.files(""), ["a.wasm"], "and nothing was left");
    world.loader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_no_plugin_or_no_form_is_refused_before_anything_is_read_of_it() {
    let world = World::new().await;
    let good = says("1", "", 0);
    for media in ["application/json", "", "text/html", "multipart/mixed; boundary=x"] {
        world.put("a", media, good.clone()).await.check_refused(
            415,
            "media_type",
            None,
            "`Content-Type: application/wasm`",
        );
    }
    let large = vec![0; 34 << 20];
    world.put("a", WASM, large).await.check_refused(413, "too_large", None, "(33 MiB)");
    let too_large = world.put("a", WASM, vec![0; (32 << 20) + 1]).await;
    too_large.check_refused(422, "plugin_refused", Some("plugin"), "at most 33554432 are loaded");
    let put = async |media: &str, body: &[u8]| world.put("a", media, body.to_vec()).await;
    let media = "multipart/form-data; boundary=x-x";
    put("multipart/form-data", b"").await.check_refused(400, "malformed", None, "has no boundary");
    for (body, words) in [
        (b"".as_slice(), "its boundary is nowhere"),
        (b"--x-x", "does not end its line"),
        (b"--x-x\r\n", "ends within a part"),
        (b"--x-x\r\nname: x\r\n--x-x--", "no empty line after its head"),
        (b"--x-x\r\nname: x\r\n\r\n\r\n--x-x--", "Content-Disposition"),
        (b"--x-x\r\nContent-Disposition: form-data; name=\xff\r\n\r\n\r\n--x-x--", "is not UTF-8"),
    ] {
        put(media, body).await.check_refused(400, "malformed", None, words);
    }
    let form = async |parts: &[(&str, &[u8])]| world.put_form("a", parts).await;
    form(&[]).await.check_refused(422, "invalid", Some("plugin"), "is missing");
    form(&[("manifest", b"")]).await.check_refused(422, "invalid", Some("plugin"), "is missing");
    form(&[("manifesto", b"")]).await.check_refused(422, "invalid", Some("manifesto"), "known are plugin");
    form(&[("plugin", &good), ("script", b"")]).await.check_refused(422, "invalid", Some("script"), "a second one");
    let long = vec![b'#'; (1 << 20) + 1];
    form(&[("plugin", &good), ("manifest", &long)]).await.check_refused(
        422,
        "invalid",
        Some("manifest"),
        "at most 1048576",
    );
    assert_eq!(world.files(""), Vec::<String>::new());
    world.loader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_a_folder_of_its_own() {
    let world = World::new().await;
    world.api.tenant("acme").await;
    let (ours, theirs) = (says("1", "", 0), says("2", "", 0));
    let acme = [("content-type", WASM), ("runner-tenant", "acme")];
    let as_acme = async |method: Method, body: Vec<u8>| world.api.send(method, "/v1/plugins/a", &acme, body).await;
    assert_eq!(world.put("a", WASM, ours.clone()).await.status, 201);
    assert_eq!(as_acme(Method::GET, Vec::new()).await.status, 404);
    assert_eq!(as_acme(Method::PUT, theirs.clone()).await.status, 201);
    assert_eq!((world.files(""), world.files("acme")), (vec!["a.wasm".into(), "acme".into()], vec!["a.wasm".into()]));
    assert_eq!(as_acme(Method::GET, Vec::new()).await.json()["plugin"]["digest"], digest(&theirs));
    assert_eq!(world.api.get("/v1/plugins/a").await.json()["plugin"]["digest"], digest(&ours));
    assert_eq!(as_acme(Method::DELETE, Vec::new()).await.status, 204);
    assert_eq!(as_acme(Method::DELETE, Vec::new()).await.status, 404);
    assert_eq!(world.api.get("/v1/plugins/a").await.json()["plugin"]["digest"], digest(&ours));
    // A folder that is a link is not the tenant's.
    fs::remove_dir(world.folder.path().join("acme")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), world.folder.path().join("acme")).unwrap();
    as_acme(Method::PUT, theirs).await.check_refused(409, "plugins_folder", None, "leaves the plugin folder");
    assert_eq!(fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    // The story: a manifest that is a folder was found out when the plugin was in its place already.
    for (folder, name) in [("f.toml", "f"), ("g.wasm", "g")] {
        fs::create_dir(world.folder.path().join(folder)).unwrap();
        let put = world.put_form(name, &[("plugin", &ours), ("manifest", b"timeout = \"5s\"")]).await;
        put.check_refused(409, "plugins_folder", None, &format!("{folder}` is a folder"));
        fs::remove_dir(world.folder.path().join(folder)).unwrap();
        assert!(!world.files("").iter().any(|file| file.starts_with(name)));
    }
    // What the operator keeps in `default/` is changed there.
    fs::create_dir(world.folder.path().join("default")).unwrap();
    fs::rename(world.folder.path().join("a.wasm"), world.folder.path().join("default/a.wasm")).unwrap();
    assert_eq!(world.put("a", WASM, ours).await.status, 200);
    assert_eq!(world.files("default"), ["a.wasm"]);
    world.loader.stop().await;
}

/// One is compiled at a time, whoever sends many: of each tenant one waits, and the next is told so.
#[tokio::test(flavor = "multi_thread")]
async fn pushes_wait_in_turn_and_each_tenant_has_one() {
    let world = World::new().await;
    world.api.tenant("acme").await;
    let put = async |tenant: &'static str, name: &str| {
        let headers = [("content-type", WASM), ("runner-tenant", tenant)];
        world.api.send(Method::PUT, &format!("/v1/plugins/{name}"), &headers, says(name, "", 0)).await
    };
    let (a, b, theirs) = tokio::join!(put("default", "a"), put("default", "b"), put("acme", "c"));
    let (late, name) = if a.status == 503 { (&a, "a") } else { (&b, "b") };
    late.check_refused(503, "overloaded", None, "nothing happened: try again when that is done");
    assert_eq!(late.retry_after.as_deref(), Some("1"));
    let mut statuses = [a.status, b.status, theirs.status].map(|status| status.as_u16());
    statuses.sort_unstable();
    assert_eq!(statuses, [201, 201, 503], "{}\n{}\n{}", a.text(), b.text(), theirs.text());
    assert_eq!(theirs.status, 201, "the other tenant's waits, and is put: {}", theirs.text());
    assert_eq!(put("default", name).await.status, 201, "and now it is its turn");
    assert_eq!(world.files(""), ["a.wasm", "acme", "b.wasm"]);
    world.loader.stop().await;
}

#[tokio::test]
async fn where_no_node_follows_a_folder_nothing_is_put() {
    let api = Api::new();
    let put = api.send(Method::PUT, "/v1/plugins/a", &[("content-type", WASM)], "x").await;
    put.check_refused(409, "no_node", None, "runner serve");
    api.send(Method::DELETE, "/v1/plugins/a", &[], "").await.check_refused(409, "no_node", None, "runner serve");
    api.post("/v1/plugins/a", &json!({})).await.check_refused(405, "method_not_allowed", None, "/v1/plugins/reload");
}
