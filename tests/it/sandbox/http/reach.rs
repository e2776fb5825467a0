//! What is reached: what was granted, by whatever way it is spelled, and no private address that was not named.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use runner_runtime::wasm::{HostSettings, Manifest, PluginError};
use runner_store::job::outcome::Outcome;
use runner_store::job::time::Millis;

use super::super::guests::{CONTRACT, REALLOC, component_in};
use super::fetchers::{Fetch, fetcher, wasi_fetcher, wasi_idler};
use super::server::{Server, authority, silent, write};
use super::{Web, asks, output, request, rules, rules_of_acme, rules_with_key};

const HELLO: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nx-own: a\r\n\r\nhello";
const KEY: &str = "sk-0123456789";
/// HTTP-request-denied and destination-IP-prohibited among the cases of `error-code`.
const DENIED: &str = "error 015\n";
const PROHIBITED: &str = "error 004\n";

fn local(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

#[test]
fn a_grant_reaches_its_server_with_everything_the_guest_said() {
    let server = Server::says(HELLO);
    let url = format!("http://{}", local(&server));
    let fetch = Fetch {
        method: "POST",
        headers: &[("X-Guest", "1"), ("Accept", "a"), ("accept", "b")],
        body: "body",
        ..Fetch::default()
    };
    let (got, log) =
        Web::new(&[], None).fetch(&fetch, &format!("{url}/a/../b?c=d#e"), &asks(&url), rules(&[local(&server)]));
    assert_eq!((got.as_str(), log.as_str()), ("200\ncontent-length: 5\nx-own: a\n\nhello", ""));
    let [request] = &server.requests()[..] else { panic!("one request") };
    let (head, body) = request.split_once("\r\n\r\n").expect("has a head");
    assert!(head.starts_with("POST /b?c=d HTTP/1.1\r\n"), "{head}");
    for line in ["x-guest: 1", "accept: a", "accept: b", "content-length: 4", "connection: close"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(head.contains(&format!("host: {}", local(&server))) && body == "body", "{request}");
}

#[test]
fn without_a_grant_of_both_sides_nothing_is_sent_and_the_log_says_what_to_add() {
    let server = Server::says(HELLO);
    let (url, private) = (format!("http://{}", local(&server)), [local(&server)]);
    let web = Web::new(&[], None);
    let check = |manifest: &str, rules, lines: &[&str]| {
        let (got, log) = web.get(&url, manifest, rules);
        assert!(got.starts_with("error denied: "), "{got}");
        for line in lines {
            assert!(log.contains(line), "{line} in {log}");
        }
    };
    let manifests = format!("`[[allow.http]] url = \"{url}\" methods = [\"GET\"]` to the manifest");
    let operators = format!("`http = [\"{url}\"]` to [tenants.acme.max] of the configuration");
    check("", rules(&private), &[&manifests]);
    check(&asks("https://other.test"), rules(&private), &[&manifests]);
    check(&asks(&url), rules_of_acme(&[], &private), &[&operators]);
    check("", rules_of_acme(&[], &private), &[&manifests, &operators]);
    let post_only = format!("[[allow.http]]\nurl = \"{url}\"\nmethods = [\"POST\"]");
    check(&post_only, rules(&private), &[&manifests]);
    assert_eq!(server.connections(), 0);
    assert!(web.get(&url, &asks(&url), rules_of_acme(&[&url], &private)).0.starts_with("200\n"));
}

/// The grant is as wide as it can be, it names every spelling; still only what `private` names is reached.
#[test]
fn no_spelling_of_a_private_address_reaches_a_server_that_was_not_named() {
    let allowed = Server::says(HELLO);
    let v4 = Server::trap(([127, 0, 0, 1], 0).into()).expect("a port is to be had");
    let port = v4.port();
    // The same port on the other addresses of this machine, where there are any.
    let others: Vec<_> = ["[::1]", "127.0.0.2"]
        .iter()
        .filter_map(|ip| Server::trap(format!("{ip}:{port}").parse().expect("is an address")))
        .collect();
    let names: &[(&str, &[&[&str]])] = &[
        ("localhost", &[&["127.0.0.1"]]),
        ("six.test", &[&["::1"]]),
        ("mapped.test", &[&["::ffff:127.0.0.1"]]),
        ("a.localhost", &[&["127.0.0.1"]]),
        ("metadata.test", &[&["169.254.169.254"]]),
        ("lan.test", &[&["10.0.0.1"]]),
        ("any.test", &[&["0.0.0.0"]]),
    ];
    let web = Web::new(names, None);
    let guest = fetcher(&Fetch::default());
    let spellings = [
        "127.0.0.1",
        "127.1",
        "127.0.1",
        "0x7f.1",
        "0x7f000001",
        "0x7f.0.0.1",
        "017700000001",
        "0177.0.0.1",
        "2130706433",
        "127.0.0.1.",
        "127.0.0.2",
        "127.255.255.254",
        "0.0.0.0",
        "0",
        "0x0",
        "[::1]",
        "[0:0:0:0:0:0:0:1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[::ffff:0:127.0.0.1]",
        "[64:ff9b::127.0.0.1]",
        "[64:ff9b:1::127.0.0.1]",
        "[2002:7f00:1::]",
        "[2001::7f00:1]",
        "[fe80::1]",
        "[fc00::1]",
        "[fec0::1]",
        "[ff02::1]",
        "localhost",
        "localhost.",
        "LOCALHOST",
        "a.localhost",
        "six.test",
        "mapped.test",
        "metadata.test",
        "lan.test",
        "any.test",
        "１２７.０.０.１",
        "127。0。0。1",
        "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ",
        "10.0.0.1",
        "192.168.0.1",
        "172.16.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "0xa9fea9fe",
        "168.63.129.16",
        "224.0.0.1",
        "255.255.255.255",
        "192.0.2.1",
        "198.18.0.1",
    ];
    for spelling in spellings {
        let url = format!("http://{spelling}:{port}/");
        let plugin = web.plugin(&guest, &asks(&url));
        let report = web.run(&plugin, request(&plugin, &url, rules(&[local(&allowed)])));
        let got = output(&report);
        assert!(got.starts_with("error denied: reaching "), "{spelling}: {got}");
        assert!(report.log.shown().contains("`private = ["), "{spelling}: {}", report.log.shown());
    }
    assert_eq!(v4.connections() + others.iter().map(Server::connections).sum::<usize>(), 0, "somebody came");
    // The one that was named is reached by any spelling of its address.
    for spelling in ["127.0.0.1", "127.1", "0x7f.1", "2130706433", "localhost"] {
        let url = format!("http://{spelling}:{}/", allowed.port());
        assert!(web.get(&url, &asks(&url), rules(&[local(&allowed)])).0.ends_with("hello"), "{spelling}");
    }
    assert_eq!(allowed.connections(), 5);
}

#[test]
fn a_url_that_two_readers_could_take_differently_reaches_only_what_was_granted() {
    let (allowed, inner) = (Server::says(HELLO), Server::says(HELLO));
    let web = Web::new(&[("evil.test", &[&["127.0.0.1"]])], None);
    let (a, b) = (local(&allowed), local(&inner));
    for (url, starts) in [
        (format!("http://{a}@{b}/"), "error invalid: "),
        (format!("http://{a}:x@{b}/"), "error invalid: "),
        (format!("http://{b}\\@{a}/"), "error denied: "),
        (format!("http://{b}#@{a}/"), "error denied: "),
        (format!("http://{b}?@{a}/"), "error denied: "),
        (format!("http://{a}\r\nhost: {b}/"), "error invalid: "),
        (format!("http://{a} {b}/"), "error invalid: "),
        (format!("http:{b}"), "error denied: "),
        (format!("//{a}/"), "error invalid: "),
        (format!("gopher://{a}/"), "error invalid: "),
        ("file:///etc/passwd".to_owned(), "error invalid: "),
        ("".to_owned(), "error invalid: "),
    ] {
        let (got, _) = web.get(&url, &asks(&format!("http://{a}")), rules(&[a.clone(), b.clone()]));
        assert!(got.starts_with(starts), "{url}: {got}");
    }
    assert_eq!((allowed.connections(), inner.connections()), (0, 0));
}

#[test]
fn a_name_is_looked_up_once_and_the_checked_address_is_the_one_that_is_reached() {
    let allowed = Server::says(HELLO);
    fn web(names: super::Names<'_>) -> Web {
        Web::new(names, None)
    }
    let url = format!("http://moving.test:{}/", allowed.port());
    // What it would answer next time is nobody's concern.
    let moving = web(&[("moving.test", &[&["127.0.0.1"], &["10.0.0.1"]])]);
    let plugin = moving.plugin(&fetcher(&Fetch::default()), &asks(&url));
    assert!(output(&moving.run(&plugin, request(&plugin, &url, rules(&[local(&allowed)])))).ends_with("hello"));
    assert_eq!(*moving.lookups.lock().unwrap(), ["moving.test"]);
    let head = &allowed.requests()[0];
    assert!(head.contains(&format!("host: moving.test:{}", allowed.port())), "{head}");
    // One that may be reached and one that may not, whichever comes first: refused as a whole, and asked once.
    for answer in [["10.0.0.1", "127.0.0.1"], ["127.0.0.1", "10.0.0.1"]] {
        let mixed = web(&[("moving.test", &[&answer, &["127.0.0.1"]])]);
        let (got, log) = mixed.get(&url, &asks(&url), rules(&[local(&allowed)]));
        assert!(got.starts_with("error denied: ") && log.contains("10.0.0.1"), "{got}{log}");
        assert_eq!(mixed.lookups.lock().unwrap().len(), 1);
    }
    let unknown = web(&[]);
    assert!(unknown.get(&url, &asks(&url), rules(&[local(&allowed)])).0.starts_with("error unavailable: the name "));
    assert_eq!(allowed.connections(), 1);
}

#[test]
fn a_redirect_is_an_answer_and_is_not_followed() {
    let inner = Server::says(HELLO);
    let answer = format!("HTTP/1.1 302 Found\r\nlocation: http://{}/\r\ncontent-length: 0\r\n\r\n", local(&inner));
    let server = Server::says(&answer);
    let url = format!("http://{}", local(&server));
    let (got, _) = Web::new(&[], None).get(&url, &asks(&url), rules(&[local(&server)]));
    assert!(got.starts_with(&format!("302\nlocation: http://{}/\n", local(&inner))), "{got}");
    assert_eq!((server.connections(), inner.connections()), (1, 0));
}

#[test]
fn a_secret_goes_over_https_to_its_server_and_is_never_seen() {
    use base64::Engine as _;
    let (roots, config) = authority(&["api.test"]);
    let echo = move |request: &str, wire: &mut dyn super::server::Wire| {
        let line = request.lines().find(|line| line.starts_with("authorization: ")).unwrap_or_default();
        let body = format!("{line}\n{}\n{KEY}", base64::engine::general_purpose::STANDARD.encode(line));
        let head = format!("HTTP/1.1 200 OK\r\nx-echo: {line}\r\nx-{KEY}: a\r\ncontent-length: {}\r\n\r\n", body.len());
        // In two pieces, the second of which begins within the secret.
        let (first, second) = body.split_at(body.len() - 5);
        let sent = write(wire, format!("{head}{first}").as_bytes()) && write(wire, second.as_bytes());
        assert!(sent, "the client reads it all");
    };
    let server = Server::tls(config, echo);
    let web = Web::new(&[("api.test", &[&["127.0.0.1"]]), ("other.test", &[&["127.0.0.1"]])], Some(roots));
    let url = format!("https://api.test:{}", server.port());
    let manifest = format!("{}\nheader = {{ Authorization = \"Bearer ${{KEY}}\" }}", asks(&url));
    let fetch = Fetch { headers: &[("Authorization", "my own")], ..Fetch::default() };
    let (got, log) = web.fetch(&fetch, &url, &manifest, rules_with_key(&[local(&server)], KEY));
    let requests = server.requests();
    assert!(requests[0].contains(&format!("authorization: Bearer {KEY}\r\n")), "{requests:?}");
    assert!(!requests[0].contains("my own"), "{requests:?}");
    let stars = "*".repeat(KEY.len() - "[secret]".len());
    assert!(got.contains(&format!("x-echo: authorization: Bearer [secret]{stars}\n")), "{got}");
    assert!(got.ends_with(&format!("\n[secret]{stars}")) && got.matches("[secret]").count() == 4, "{got}");
    assert!(!got.contains(KEY) && !log.contains(KEY), "{got}{log}");
    let length = got.split_once("\n\n").map(|(_, body)| body.len()).expect("has a body");
    assert!(got.contains(&format!("content-length: {length}\n")), "{got}");
    // By the other interface, which reads it as it comes.
    let plugin = web.plugin(&wasi_fetcher(true, &format!("api.test:{}", server.port()), "/", 1), &manifest);
    let report = web.run(&plugin, request(&plugin, "", rules_with_key(&[local(&server)], KEY)));
    assert!(
        output(&report).starts_with(&format!("200 authorization: Bearer [secret]{stars}\n")),
        "{}",
        output(&report)
    );
    assert!(!output(&report).contains(KEY), "{}", output(&report));
    // Somebody else's certificate, and no certificate at all.
    let other = format!("https://other.test:{}", server.port());
    let (got, log) = web.get(&other, &asks(&other), rules_with_key(&[local(&server)], KEY));
    assert!(got.starts_with("error unavailable: no TLS with other.test"), "{got}{log}");
    let untrusting = Web::new(&[("api.test", &[&["127.0.0.1"]])], None);
    let (got, log) = untrusting.get(&url, &manifest, rules_with_key(&[local(&server)], KEY));
    assert!(got.starts_with("error unavailable: no TLS") && !got.contains(KEY) && !log.contains(KEY), "{got}{log}");
    assert_eq!(server.requests().len(), 2, "nothing was sent to whom nobody vouches for");
}

#[test]
fn wasi_http_is_linked_and_denied_without_a_grant() {
    let web = Web::new(&[], None);
    let idle = web.plugin(&wasi_idler(), "");
    assert_eq!(output(&web.run(&idle, request(&idle, "", rules(&[])))), "");
    let server = Server::says(HELLO);
    let guest = wasi_fetcher(false, &local(&server), "/path?q", 1);
    let denied = web.plugin(&guest, "");
    let report = web.run(&denied, request(&denied, "", rules(&[local(&server)])));
    assert_eq!(output(&report), DENIED);
    let line = format!("`[[allow.http]] url = \"http://{}\" methods = [\"GET\"]` to the manifest", local(&server));
    assert!(report.log.shown().contains(&line), "{}", report.log.shown());
    // Granted, but private.
    let granted = web.plugin(&guest, &asks(&format!("http://{}", local(&server))));
    let report = web.run(&granted, request(&granted, "", rules(&[])));
    assert_eq!(output(&report), PROHIBITED);
    assert!(report.log.shown().contains(&format!("`private = [\"{}\"]`", local(&server))), "{}", report.log.shown());
    assert_eq!(server.connections(), 0);
    let report = web.run(&granted, request(&granted, "", rules(&[local(&server)])));
    assert_eq!((output(&report).as_str(), report.log.shown().as_str()), ("200 hello\n", ""));
    assert!(server.requests()[0].starts_with("GET /path?q HTTP/1.1\r\n"), "{:?}", server.requests());
}

#[test]
fn an_incoming_handler_is_no_import_that_is_offered() {
    let wit = "package wasi:http@0.2.0; interface incoming-handler { handle: func(); }";
    let guest = "package test:guest;
        world guest { include runner:plugin/plugin@0.1.0; import wasi:http/incoming-handler@0.2.0; }";
    let module = format!(
        r#"(module (import "wasi:http/incoming-handler@0.2.0" "handle" (func $handle))
          (memory (export "memory") 1) {REALLOC}
          (func (export "runner:plugin/handler@0.1.0#handle") (param i32) (result i32) (call $handle) (i32.const 64)))"#
    );
    let compiled =
        Web::new(&[], None).host.compile("guest", &component_in(CONTRACT, &[wit, guest], &module), Manifest::default());
    match compiled {
        Err(PluginError::UnknownImports { names }) => assert!(names[0].contains("incoming-handler"), "{names:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_run_has_eight_requests_at_once_and_the_others_wait() {
    const AT_ONCE: usize = 8;
    let (now, most, seen) = (AtomicUsize::new(0), Arc::new(AtomicUsize::new(0)), AtomicUsize::new(0));
    let counted = Arc::clone(&most);
    let server = Server::start(move |_, wire| {
        most_of(&counted, now.fetch_add(1, Ordering::SeqCst) + 1);
        seen.fetch_add(1, Ordering::SeqCst);
        // Nobody is answered before as many are here as may be.
        let began = Instant::now();
        while seen.load(Ordering::SeqCst) < AT_ONCE && began.elapsed() < Duration::from_secs(20) {
            std::thread::yield_now();
        }
        now.fetch_sub(1, Ordering::SeqCst);
        write(wire, HELLO.as_bytes());
    });
    let web = Web::new(&[], None);
    let guest = wasi_fetcher(false, &local(&server), "/", 12);
    let plugin = web.plugin(&guest, &asks(&format!("http://{}", local(&server))));
    let report = web.run(&plugin, request(&plugin, "", rules(&[local(&server)])));
    assert_eq!(output(&report), "200 hello\n".repeat(12));
    assert_eq!((most.load(Ordering::SeqCst), server.connections()), (AT_ONCE, 12));
}

fn most_of(most: &AtomicUsize, now: usize) {
    most.fetch_max(now, Ordering::SeqCst);
}

#[test]
fn a_run_that_is_over_takes_its_connections_along() {
    let server = Server::start(|_, wire| silent(wire));
    let web = Web::new(&[], None);
    let url = format!("http://{}", local(&server));
    let timeout = Millis(500);
    for (at, guest) in [fetcher(&Fetch::default()), wasi_fetcher(false, &local(&server), "/", 3)].iter().enumerate() {
        let plugin = web.plugin(guest, &asks(&url));
        let mut request = request(&plugin, &url, rules(&[local(&server)]));
        request.limits.timeout = timeout;
        let report = web.run(&plugin, request);
        assert_eq!(report.outcome, Outcome::TimedOut { limit: timeout });
        let late = report.wall.saturating_sub(timeout.into());
        assert!(late < Duration::from_millis(250), "ended {late:?} after its time-out");
        server.wait_ended(if at == 0 { 1 } else { 4 });
    }
    // A cancel in the middle of a call.
    let plugin = web.plugin(&fetcher(&Fetch::default()), &asks(&url));
    let request = request(&plugin, &url, rules(&[local(&server)]));
    let cancel = request.cancel.clone();
    let running = web.host.spawn(Arc::clone(&plugin), request);
    let began = Instant::now();
    while server.requests().len() < 5 {
        assert!(began.elapsed() < Duration::from_secs(20), "nobody came");
        std::thread::yield_now();
    }
    cancel.cancel();
    assert_eq!(super::block_on(running).expect("the host never panics").outcome, Outcome::Cancelled);
    server.wait_ended(5);
}

#[test]
fn the_systems_resolver_and_certificates_serve_where_nothing_else_is_said() {
    let server = Server::says(HELLO);
    let settings = HostSettings { slots: 1, threads: 1, pooled: false, ..HostSettings::default() };
    let host = runner_runtime::wasm::Host::new(&settings).expect("wasmtime runs here");
    let url = format!("http://localhost:{}", server.port());
    let manifest = Manifest::parse(&asks(&url)).expect("the manifest is right");
    let plugin = Arc::new(host.compile("guest", &fetcher(&Fetch::default()), manifest).expect("is a plugin"));
    let private = [local(&server), format!("[::1]:{}", server.port())];
    let report = super::block_on(host.spawn(Arc::clone(&plugin), request(&plugin, &url, rules(&private))));
    assert!(output(&report.expect("the host never panics")).ends_with("hello"));
}
