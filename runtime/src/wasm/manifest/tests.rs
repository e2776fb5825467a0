//! Manifests: what is read, and what is refused on which line.

use super::*;

#[track_caller]
fn check_refused(text: &str, line: usize, expected: &str) {
    let error = Manifest::parse(text).expect_err("is refused");
    assert!(error.message.contains(expected), "{error}");
    assert_eq!(error.line, line, "{error}");
}

#[test]
fn a_manifest_means_what_it_says() {
    let manifest = Manifest::parse(
        r#"
        kinds = ["image.resize", "image.crop"]
        [limits]
        timeout = "30s"
        fuel = "1_800G"
        memory = "64MiB"
        host_calls = 1_000_000
        [retry]
        max_attempts = 5
        backoff = "linear"
        base = "2s"
        jitter = 0.1
        [[kind]]
        name = "image.crop"
        timeout = "5s"
        queue = "media"
        priority = -3
        delays = ["1s", "5m"]
        [allow]
        enqueue = ["image.*"]
        "#,
    )
    .expect("is right");
    let (resize, crop) = (manifest.limits("image.resize"), manifest.limits("image.crop"));
    assert_eq!((resize.timeout, resize.fuel()), (Millis::secs(30), 1_800_000_000_000));
    assert_eq!((crop.timeout, crop.memory_bytes), (Millis::secs(5), 64 << 20));
    let backoff = |kind| manifest.retry(kind).policy.expect("is given").backoff;
    assert_eq!(backoff("image.resize"), runner_store::job::retry::Backoff::Linear { base: Millis::secs(2) });
    let delays = vec![Millis::secs(1), Millis::secs(300)];
    assert_eq!(backoff("image.crop"), runner_store::job::retry::Backoff::List(delays));
    assert_eq!(manifest.retry("image.crop").max_attempts, Some(5));
    assert_eq!(manifest.of("image.crop").expect("is given").priority, Some(-3));
    assert_eq!(manifest.allow.enqueue, ["image.*"]);
}

#[test]
fn what_is_limited_and_ordered_by_key_stands_with_the_kind() {
    let manifest = Manifest::parse(
        r#"
        kinds = ["mail", "ledger", "plain"]
        [[kind]]
        name = "mail"
        key = "args.customer.id"
        key_concurrency = 2_147_483_648
        key_rate = "100/1m burst 10"
        [[kind]]
        name = "ledger"
        key = "args"
        key_concurrency = 1
        strict_order = true
        "#,
    )
    .expect("is right");
    let (mail, ledger, plain) =
        (manifest.kind_limits("mail"), manifest.kind_limits("ledger"), manifest.kind_limits("plain"));
    assert_eq!((mail.key_concurrency, mail.strict_order), (Some(1 << 31), false));
    assert_eq!(mail.key_rate, Some(Rate { jobs: 100, per: Millis(60_000), burst: 10 }));
    assert!(ledger.strict_order && plain == KindLimits::default());
    let key = |kind| manifest.key(kind).map(|path| path.as_str().to_owned());
    assert_eq!(
        [key("mail"), key("ledger"), key("plain")],
        [Some("args.customer.id".into()), Some("args".into()), None]
    );
}

#[test]
fn what_is_wrong_about_keys_is_named_with_its_line() {
    let check = |keys: &str, line: usize, expected: &str| {
        check_refused(&format!("[[kind]]\nname = \"a\"\n{keys}"), line + 2, expected);
    };
    check("keyy = \"args.c\"", 1, "unknown key `keyy` in [kind]; did you mean `key`?");
    check("key = \"args.c\"\nkey_concurency = 1", 2, "did you mean `key_concurrency`?");
    check("key = \"customer\"", 1, "`kind.key` must be the path of a field of the args, for example \"args.customer\"");
    check("key = 7", 1, "bare number 7");
    check("key = \"args..c\"", 1, "must be the path");
    check("key_concurrency = 1", 1, "`kind.key_concurrency` needs a `key`");
    check("key_rate = \"1/1s\"", 1, "`kind.key_rate` needs a `key`");
    check("strict_order = true", 1, "`kind.strict_order` needs a `key`");
    check("key = \"args.c\"\nkey_concurrency = 0", 2, "must be between 1 and");
    check("key = \"args.c\"\nkey_concurrency = 4_294_967_296", 2, "must be between 1 and");
    check("key = \"args.c\"\nkey_rate = \"0/0s\"", 2, "at least 1 job");
    check("key = \"args.c\"\nkey_rate = \"0/1m\"", 2, "at least 1 job");
    check("key = \"args.c\"\nstrict_order = 1", 2, "must be true or false");
    check("key = \"args.c\"\nstrict_order = true\nkey_concurrency = 2", 3, "must be 1 or absent beside `strict_order`");
    check("key = \"args.c\"\nbatch = { max = 5 }\nstrict_order = true", 3, "and `batch` exclude each other");
}

/// A plugin's policy may say one thing and its manifest another: order wins over calls of several jobs.
#[test]
fn what_runs_in_order_goes_one_by_one_whoever_says_what() {
    let mut manifest = Manifest::parse("[[kind]]\nname = \"a\"\nbatch = { max = 5 }").expect("is right");
    let ordered = KindSettings { strict_order: Some(true), ..KindSettings::default() };
    manifest.described.push(("a".to_owned(), ordered));
    assert_eq!(manifest.batch("a").map(|batch| batch.max), Some(1));
}

#[test]
fn without_a_fuel_of_its_own_a_run_gets_more_than_its_time_can_burn() {
    let limits = Manifest::parse("[limits]\ntimeout = \"2s\"").expect("is right").limits("any");
    assert_eq!(limits.fuel(), 400_000_000_000);
}

#[test]
fn what_is_wrong_is_named_with_its_line() {
    check_refused("[limits]\n\nmemroy = \"1MiB\"", 3, "unknown key `memroy` in [limits]; did you mean `memory`?");
    check_refused("knids = []", 1, "did you mean `kinds`?");
    check_refused("[limits]\nmemory = 64", 2, "bare number 64");
    check_refused("[limits]\nmemory = \"64MB\"", 2, "`MB` is not a unit of size");
    check_refused("[limits]\ntimeout = \"60\"", 2, "has no unit");
    check_refused("[limits]\ntimeout = \"2d\"", 2, "between 1ms and 24h");
    check_refused("[limits]\ncancel_grace = \"31s\"", 2, "between 0s and 30s");
    check_refused("kinds = [\"a\",\n \"a\"]", 2, "has `a` twice");
    check_refused("kinds = [\"../etc\"]", 1, "must begin with a letter or a digit");
    check_refused("kinds = [\"a\"]\n[[kind]]\nname = \"b\"", 3, "not among `kinds`");
    check_refused("[allow]\nkv = 1", 2, "must be true or false");
    check_refused("[allow]\nkv_ = true", 2, "unknown key `kv_` in [allow]; did you mean `kv`?");
    check_refused("[allow.blobs]\n\n\"../x\" = \"read\"", 3, "must begin with a letter or a digit");
    check_refused("[allow.blobs]\nphotos = \"r\"", 2, "must be read, write or read-write");
    check_refused("[[allow.http]]\nurl = \"a.test\"", 2, "is no URL");
    check_refused("[[allow.http]]\nmethods = [\"GET\"]", 1, "needs a `url`");
    check_refused("[[allow.http]]\nurl = \"https://a.test\"\nmethods = [\"FETCH\"]", 3, "has the method `FETCH`");
    check_refused(
        "[[allow.http]]\nurl = \"http://a.test\"\nheader = { Authorization = \"Bearer ${KEY}\" }",
        3,
        "goes over https only",
    );
    check_refused("[[allow.http]]\nurl = \"https://a.test\"\nheader = { Host = \"x\" }", 3, "is the runner's own");
    check_refused("[allow]\nenv = { \"A=B\" = \"x\" }", 2, "is no right name");
    check_refused("[instance]\nreuse = \"always\"", 2, "must be \"never\" or { max_runs = n }");
    check_refused("[[kind]]\nname = \"a\"\nbatch = { max = 0 }", 3, "must be between 1 and");
    check_refused("[[kind]]\nname = \"a\"\nbatch = { linger = \"1s\" }", 3, "needs a `max`");
    check_refused("[retry]\nbackoff = \"sometimes\"", 2, "exponential, linear, constant or never");
    check_refused("[retry]\nbackoff = \"never\"\ndelays = [\"1s\"]", 3, "exclude each other");
    check_refused("sha256 = \"abc\"", 1, "64 hexadecimal digits");
    check_refused("kinds = [", 1, "");
}

#[test]
fn a_kind_listens_to_events_of_others() {
    let text = "kinds = [\"alert\", \"log\"]\n[[on]]\nevent = \"discarded\"\nof = [\"image.*\", \"mail\"]\nkind = \"alert\"\n\
                [[on]]\nevent = \"enqueued\"\nof = [\"*\"]\nkind = \"log\"";
    let on = Manifest::parse(text).expect("is right").on;
    assert_eq!(on.len(), 2);
    assert_eq!((on[0].event.as_str(), on[0].kind.as_str()), ("discarded", "alert"));
    assert_eq!(on[0].of, ["image.*", "mail"]);
}

#[test]
fn what_is_wrong_about_whom_a_kind_listens_to_is_named_with_its_line() {
    let on = |event: &str, of: &str, kind: &str| format!("[[on]]\nevent = {event}\nof = {of}\nkind = {kind}");
    let check = |text: &str, line, words| check_refused(text, line, words);
    check(&on("\"failed\"", "[\"a\"]", "\"b\""), 2, "must be one of enqueued, released, blocked");
    check(&on("\"cancel_requested\"", "[\"a\"]", "\"b\""), 2, "must be one of");
    check(&on("[\"started\"]", "[\"a\"]", "\"b\""), 2, "must be a text");
    check(&on("\"started\"", "\"a\"", "\"b\""), 3, "must be a list");
    check(&on("\"started\"", "[]", "\"b\""), 3, "must have 1 to 100 kinds");
    check(&on("\"started\"", "[\"a..*\"]", "\"b\""), 3, "which no kind can match");
    check(&on("\"started\"", "[\"a\"]", "\"b c\""), 4, "is no right name");
    check("[[on]]\nof = [\"a\"]\nkind = \"b\"", 1, "needs an `event`");
    check("[[on]]\nevent = \"started\"\nkind = \"b\"", 1, "needs an `of`");
    check("[[on]]\nevent = \"started\"\nof = [\"a\"]", 1, "needs a `kind`");
    check(&format!("kinds = [\"a\"]\n{}", on("\"started\"", "[\"a\"]", "\"b\"")), 5, "not among `kinds`: a");
    check(&format!("{}\nqueue = \"q\"", on("\"started\"", "[\"a\"]", "\"b\"")), 5, "unknown key `queue` in [on]");
    check("on = 1", 1, "must be a list");
    check(&on("\"started\"", "[\"a\"]", "\"b\"").repeat(101).replace("[[on]]", "\n[[on]]"), 2, "at most 100 tables");
}
