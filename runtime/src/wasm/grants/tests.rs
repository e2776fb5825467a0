//! Two parties say yes, or nothing happens; and whoever is missing is named with the line to add.

use super::*;
use crate::wasm::Manifest;

fn asked() -> Asked {
    let manifest = Manifest::parse(
        r#"
        [allow]
        enqueue = ["image.*"]
        kv = true
        config = ["SIZES", "UNSET"]
        secrets = ["KEY"]
        [[allow.http]]
        url = "https://api.acme.test/v1"
        methods = ["GET"]
        header = { Authorization = "Bearer ${API_KEY}" }
        [allow.blobs]
        photos = "read-write"
        "#,
    );
    manifest.expect("is right").allow
}

fn acme() -> TenantRules {
    let folder = BlobAt::Folder { base: ".".into(), below: "photos".into() };
    TenantRules {
        config: BTreeMap::from([("SIZES".to_owned(), "256".to_owned()), ("OTHER".to_owned(), "x".to_owned())]),
        secrets: BTreeMap::from([("KEY".to_owned(), Secret::new("k")), ("API_KEY".to_owned(), Secret::new("s3cret"))]),
        blobs: BTreeMap::from([("photos".to_owned(), BlobPlace::new(BlobMode { read: true, write: false }, folder))]),
        ..TenantRules::of("acme")
    }
}

fn url(text: &str) -> ::url::Url {
    ::url::Url::parse(text).expect("is a URL")
}

#[test]
fn a_tenant_starts_with_nothing_whatever_its_manifests_ask_for() {
    let grants = Grants::new(asked(), Arc::new(TenantRules::of("acme")));
    let why = grants.enqueue("image.resize").expect_err("is denied").to_string();
    assert!(why.contains("`enqueue = [\"image.resize\"]` to [tenants.acme.max]") && !why.contains("manifest"), "{why}");
    assert!(grants.kv().is_err());
    assert!(grants.http("GET", &url("https://api.acme.test/v1/x")).is_err());
    assert!(grants.blob("photos", false).is_err() && grants.secret("KEY").is_err());
}

#[test]
fn neither_side_can_widen_the_other() {
    let mut rules = acme();
    rules.max = Max {
        enqueue: vec!["*.resize".to_owned()],
        kv: true,
        http: vec![UrlPattern::parse("https://*.acme.test").expect("is a pattern")],
        ..Max::default()
    };
    let grants = Grants::new(asked(), Arc::new(rules));
    assert!(grants.enqueue("image.resize").is_ok() && grants.kv().is_ok());
    assert!(grants.enqueue("image.crop").is_err() && grants.enqueue("mail.resize").is_err());
    assert!(grants.http("GET", &url("https://api.acme.test/v1/x")).is_ok());
    for (method, to) in [
        ("POST", "https://api.acme.test/v1/x"),
        ("GET", "https://api.acme.test/v2"),
        ("GET", "https://other.acme.test/v1"),
    ] {
        let why = grants.http(method, &url(to)).expect_err("is denied").to_string();
        assert!(why.contains("[[allow.http]]") && !why.contains("max"), "{why}");
    }
    assert!(grants.blob("photos", false).is_ok(), "both sides allow reading");
    let why = grants.blob("photos", true).expect_err("the operator allows reading only").to_string();
    assert!(why.contains("[tenants.acme]") && !why.contains("manifest"), "{why}");
    assert_eq!(grants.config("SIZES"), Ok(Some("256")));
    assert_eq!(grants.config("UNSET"), Ok(None));
    assert!(grants.config("OTHER").is_err(), "the manifest does not ask for it");
}

#[test]
fn whoever_checks_a_plugin_sees_what_becomes_of_everything_that_it_asks_for() {
    let seen = |rules: TenantRules| -> BTreeMap<String, String> {
        Grants::new(asked(), Arc::new(rules)).review().into_iter().collect()
    };
    let own = seen(TenantRules { secrets: acme().secrets, ..TenantRules::of("default") });
    for what in ["enqueue image.*", "kv", "secret KEY", "http GET https://api.acme.test/v1", "header authorization"] {
        assert_eq!(own[what], "granted", "{what}");
    }
    assert!(own["blobs photos read"].contains("[tenants.default]"), "{own:?}");
    assert_eq!(own["config SIZES"], "not set by the operator");
    let nothing = seen(TenantRules::of("acme"));
    for what in ["enqueue image.*", "kv", "http GET https://api.acme.test/v1"] {
        assert!(nothing[what].contains("[tenants.acme.max]"), "{what}: {}", nothing[what]);
    }
    let mut rules = acme();
    rules.max = Max { enqueue: vec!["image.resize".to_owned()], ..Max::default() };
    let some = seen(rules);
    assert_eq!(
        (some["enqueue image.*"].as_str(), some["config SIZES"].as_str()),
        ("granted within image.resize", "set")
    );
}

#[test]
fn a_secret_of_a_header_is_not_readable_and_never_shown() {
    let grants = Grants::new(asked(), Arc::new(acme()));
    assert!(grants.secret("KEY").is_ok() && grants.secret("API_KEY").is_err());
    let (_, template) = &grants.asked().http[0].headers[0];
    assert_eq!(grants.header(template).map(|value| value.reveal().to_owned()), Ok("Bearer s3cret".to_owned()));
    assert!(!format!("{grants:?}").contains("s3cret"));
}

#[test]
fn limits_stay_within_the_operators_bounds() {
    let manifest = Manifest::parse("[limits]\ntimeout = \"10m\"\nmemory = \"1GiB\"\nfuel = \"5T\"").expect("is right");
    let asked = manifest.limits("any");
    assert_eq!(TenantRules::of("default").clamp(&asked), asked, "the folder is the operator's own");
    let usual = TenantRules::of("acme").clamp(&asked);
    assert_eq!((usual.timeout, usual.memory_bytes), (Limits::default().timeout, Limits::default().memory_bytes));
    let mut rules = acme();
    let minutes = |n: u64| Some(runner_store::job::time::Millis::secs(60 * n));
    rules.max.limits =
        LimitsMax { timeout: minutes(5), memory_bytes: Some(2 << 30), fuel: Some(1 << 40), ..LimitsMax::default() };
    let clamped = rules.clamp(&asked);
    assert_eq!((Some(clamped.timeout), clamped.memory_bytes, clamped.fuel), (minutes(5), 1 << 30, Some(1 << 40)));
}

#[test]
fn a_star_stands_for_anything() {
    for (pattern, text, expected) in [
        ("*", "a.b", true),
        ("image.*", "image.resize", true),
        ("image.*", "imagine", false),
        ("*.mail", "alert.mail", true),
        ("a*b*c", "a.x.b.y.c", true),
        ("a*b*c", "a.c", false),
        ("a", "a", true),
        ("a", "ab", false),
        ("a*a", "a", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn instances_are_kept_only_where_the_operator_says_so_or_owns_the_folder() {
    let grants = |rules| Grants::new(asked(), Arc::new(rules)).reuse();
    assert!(grants(TenantRules::of("default")));
    assert!(!grants(TenantRules::of("acme")));
    assert!(grants(TenantRules { max: Max { reuse: true, ..Max::default() }, ..TenantRules::of("acme") }));
}
