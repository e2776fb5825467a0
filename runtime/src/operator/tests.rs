//! The operator's configuration: what is read, and what is refused on which line.

use runner_store::job::time::Millis;

use super::*;
use crate::wasm::grants::{BlobAt, BlobMode, GrantBy};

#[track_caller]
fn check_refused(text: &str, line: usize, expected: &str) {
    let error = Operator::read(text, Path::new(".")).expect_err("is refused");
    assert!(error.message.contains(expected), "{error}");
    assert_eq!(error.line, line, "{error}");
}

#[test]
fn a_configuration_means_what_it_says() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("key"), "s3cret\r\n").expect("is written");
    std::fs::write(folder.path().join("s3"), "bucket's own").expect("is written");
    let text = r#"
        [tenants.default]
        grant = "max"
        [tenants.acme]
        concurrency = 8
        memory = "512MiB"
        fuel = "2_000G/1h"
        config = { SIZES = "256,512" }
        secrets = { API_KEY = { file = "key" }, S3_KEY = { file = "s3" } }
        [tenants.acme.max]
        timeout = "5m"
        enqueue = ["*"]
        kv = true
        http = ["https://api.example.com", "https://*.acme.test"]
        private = ["127.0.0.1:9000"]
        [tenants.acme.blobs]
        photos = { url = "file:photos", mode = "read" }
        scratch = { url = "memory:", mode = "read-write" }
        remote = { url = "s3://b/some/prefix/", mode = "write", access_key = "S3_KEY", secret_key = "S3_KEY" }
        [[tenants.acme.middleware]]
        plugin = "check"
        kinds = ["image.*"]
        [[middleware]]
        plugin = "audit"
        [node]
        memory = "4GiB"
        overcommit = 1.5
    "#;
    let operator = Operator::read(text, folder.path()).expect("is right");
    assert_eq!(operator.tenants().map(|(name, _)| name).collect::<Vec<_>>(), ["acme", "default"]);
    assert_eq!(operator.rules("default").grant, GrantBy::Both);
    let acme = operator.tenant("acme").expect("is there");
    let fuel = Fuel { fuel: 2_000_000_000_000, per: Millis::secs(3_600) };
    assert_eq!((acme.concurrency, acme.memory_bytes, acme.fuel), (Some(8), Some(512 << 20), Some(fuel)));
    assert_eq!(acme.rules.secrets["API_KEY"].reveal(), "s3cret", "without the editor's newline");
    assert!(!format!("{operator:?}").contains("s3cret"), "a secret is never shown");
    assert_eq!(acme.rules.max.limits.timeout, Some(Millis::secs(300)));
    assert_eq!(acme.rules.blobs["photos"].at, BlobAt::Folder { base: folder.path().into(), below: "photos".into() });
    assert_eq!(acme.rules.blobs["photos"].mode, BlobMode { read: true, write: false });
    let BlobAt::S3(bucket) = &acme.rules.blobs["remote"].at else { panic!("it is a bucket") };
    assert!(!acme.rules.secrets.contains_key("S3_KEY"), "no manifest can ask for a bucket's key");
    assert_eq!((bucket.name.as_str(), bucket.prefix.as_str()), ("b", "some/prefix"));
    assert_eq!(operator.middleware, [Layer { plugin: "audit".into(), kinds: vec!["*".into()] }]);
    assert_eq!(acme.middleware, [Layer { plugin: "check".into(), kinds: vec!["image.*".into()] }]);
    assert_eq!((operator.memory_bytes, operator.overcommit_permille), (Some(4 << 30), 1_500));
}

#[test]
fn external_kinds_have_the_settings_of_a_plugins() {
    let text = "[kinds.\"video.cut\"]\nexternal = true\nqueue = \"video\"\nkey = \"args.customer\"\nstrict_order = true\n\
        max_attempts = 3\nrate = \"10/1s\"\n[kinds.ok]\nexternal = false\n";
    let operator = Operator::read(text, Path::new(".")).expect("is right");
    assert_eq!(operator.externals.names().collect::<Vec<_>>(), ["video.cut"], "`ok` says that it is none");
    let cut = operator.externals.get("video.cut").expect("is there");
    let limits = cut.kind_limits("video.cut");
    assert!(limits.strict_order && limits.rate.is_some() && cut.key("video.cut").is_some());
    assert_eq!(cut.retry("video.cut").max_attempts, Some(3));
    assert_eq!(cut.setting("video.cut", |settings| settings.queue.clone()).as_deref(), Some("video"));
    check_refused("[kinds.video.cut]\nexternal = true", 1, "a name with dots is quoted, as [kinds.\"video.x\"]");
    check_refused("[kinds.a]\nexternal = true\nfuel = \"1G\"", 3, "is about runs in a sandbox");
    check_refused("[kinds.a]\nexternal = true\nstrict_order = true", 3, "needs a `key`");
    check_refused("[kinds.a]\nexternl = true", 1, "must say `external = true`");
    check_refused("[kinds.\"a b\"]\nexternal = true", 1, "is no right name of a kind");
}

#[test]
fn nobody_gets_anything_of_whom_nothing_is_said() {
    assert_eq!(Operator::default().rules("acme").grant, GrantBy::Both);
    assert_eq!(Operator::default().rules("default").grant, GrantBy::Manifest);
    let operator = Operator::read("[tenants.acme]", Path::new(".")).expect("is right");
    assert_eq!(operator.rules("acme").grant, GrantBy::Both);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    check_refused("[tenant.acme]", 1, "did you mean `tenants`?");
    check_refused("[tenants.acme]\nconcurency = 1", 2, "did you mean `concurrency`?");
    check_refused("[tenants.ACME]", 1, "must be lower case");
    check_refused("[tenants.\"../x\"]", 1, "must begin with a letter or a digit");
    check_refused("[tenants.acme]\nconcurrency = 0", 2, "must be between 1");
    check_refused("[node]\novercommit = 0.5", 2, "must be at least 1");
    check_refused("[node]\novercommit = 11", 2, "must be a number between 0 and 10");
    check_refused("[tenants.acme]\nmemory = \"512MB\"", 2, "`MB` is not a unit of size");
    check_refused("[tenants.acme]\nfuel = \"2_000G\"", 2, "names no period");
    check_refused("[tenants.acme]\ngrant = \"all\"", 2, "must be \"manifest\"");
    check_refused("[tenants.acme]\nsecrets = { A = \"plain\" }", 2, "must say where the secret is");
    check_refused("[tenants.acme]\nsecrets = { A = { file = \"nowhere\" } }", 2, "cannot be read");
    check_refused("[tenants.acme]\nsecrets = { A = { env = \"NO_SUCH_VARIABLE\" } }", 2, "not set");
    check_refused("[tenants.acme.max]\ntimout = \"1s\"", 2, "did you mean `timeout`?");
    check_refused("[tenants.acme.max]\nprivate = [\"127.0.0.1\"]", 2, "an address and a port");
    check_refused("[tenants.acme.max]\nhttp = [\"a.test\"]", 2, "is no URL");
    let blob = |url: &str| format!("[tenants.acme.blobs]\nphotos = {{ url = \"{url}\", mode = \"read\" }}");
    for outside in ["file:../x", "file:/etc", "file:a/../../x", "file:."] {
        check_refused(&blob(outside), 2, "must stay within the folder");
    }
    check_refused(&blob("ftp://x"), 2, "must be file:FOLDER, memory: or s3://BUCKET/PREFIX");
    check_refused(&blob("s3:bucket"), 2, "names no bucket");
    check_refused(&blob("s3://bucket/a/../b"), 2, "has a prefix with an empty part");
    for endpoint in ["s3.example.com", "ftp://a.test", "https://user@a.test", "https://a.test?x"] {
        let blob = format!("photos = {{ url = \"s3://b\", mode = \"read\", endpoint = \"{endpoint}\" }}");
        check_refused(&format!("[tenants.acme.blobs]\n{blob}"), 2, "must be a URL");
    }
    check_refused("[tenants.acme.blobs]\nphotos = { url = \"memory:\" }", 2, "needs a `mode`");
    check_refused("[[middleware]]\nkinds = [\"*\"]", 1, "needs a `plugin`");
}
