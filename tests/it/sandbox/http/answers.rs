//! Servers that answer wrongly, too much, too slowly or never.

use std::time::Duration;

use runner_store::job::outcome::Outcome;
use runner_store::job::time::Millis;

use super::fetchers::{Fetch, fetcher, wasi_fetcher};
use super::server::{Server, Wire, silent, write};
use super::{Web, asks, output, request, rules};

/// HTTP-response-body-size and HTTP-response-incomplete, as they end a body that has begun.
const CUT: &str = "!\n";

fn local(server: &Server) -> String {
    format!("127.0.0.1:{}", server.port())
}

/// Fetches with both interfaces and expects of the first what it says, of the second what `wasi` says of it.
#[track_caller]
fn check(reply: impl Fn(&mut dyn Wire) + Send + Sync + 'static, expected: &str, wasi: impl Fn(&str) -> bool) {
    let server = Server::start(move |_, wire| reply(wire));
    let web = Web::new(&[], None);
    let url = format!("http://{}", local(&server));
    let (got, _) = web.get(&url, &asks(&url), rules(&[local(&server)]));
    assert!(got.starts_with(expected), "{}, not {expected}", &got[..got.len().min(200)]);
    let plugin = web.plugin(&wasi_fetcher(false, &local(&server), "/", 1), &asks(&url));
    let got = output(&web.run(&plugin, request(&plugin, "", rules(&[local(&server)]))));
    assert!(wasi(&got), "wasi:http: {}", &got[..got.len().min(200)]);
    server.wait_ended(2);
}

#[track_caller]
fn check_says(answer: &str, expected: &str, wasi: impl Fn(&str) -> bool) {
    let answer = answer.to_owned();
    check(
        move |wire| {
            write(wire, answer.as_bytes());
        },
        expected,
        wasi,
    );
}

#[test]
fn an_endless_answer_ends_at_the_limit() {
    let endless = |head: &'static str, piece: &'static str| {
        move |wire: &mut dyn Wire| {
            let mut more = write(wire, head.as_bytes());
            while more {
                more = write(wire, piece.as_bytes());
            }
        }
    };
    const LIMIT: &str = "error limit: the answer's body has more than 65536 bytes (`http_body`)";
    let cut = |got: &str| got.starts_with("200 ") && got.ends_with(CUT) && got.len() < 66_000;
    check(endless("HTTP/1.1 200 OK\r\n\r\n", "and so on "), LIMIT, cut);
    check(endless("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "5\r\nhello\r\n"), LIMIT, cut);
    check(endless("HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n", "and so on "), LIMIT, |got| {
        got == "200 !\n"
    });
    // Headers without end.
    let head = "error limit: the answer has more than 256 headers";
    check(endless("HTTP/1.1 200 OK\r\n", "a: b\r\n"), head, |got| got.starts_with("error "));
    check(endless("HTTP/1.1 200 OK\r\na: ", "aaaaaaaaaaaaaaaa"), head, |got| got.starts_with("error "));
}

#[test]
fn a_bomb_is_only_its_bytes() {
    // Ten bytes that say they are a thousand million.
    let bomb = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 10\r\n\r\n\u{1f}01234567X";
    check_says(bomb, "200\ncontent-encoding: gzip\ncontent-length: 10\n\n\u{1f}01234567X", |got| got.ends_with("X\n"));
}

#[test]
fn an_answer_that_contradicts_itself_is_none() {
    let broken = |got: &str| got.starts_with("error ") || got.ends_with(CUT);
    let ended = "error unavailable: the answer ended too early";
    check_says("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhello", ended, broken);
    check_says("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", ended, broken);
    check_says("HTTP/1.1 200 OK\r\n", ended, broken);
    check_says("", ended, broken);
    let malformed = "error unavailable: the answer is not HTTP: ";
    check_says("HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!", malformed, broken);
    check_says("HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nhello", malformed, broken);
    check_says("HTTP/1.1 200 OK\r\na b: c\r\n\r\n", malformed, broken);
    check_says("220 mail.test ESMTP\r\n", malformed, broken);
    check_says("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n", malformed, broken);
    // Less than was said is fine where nothing was to come.
    check_says("HTTP/1.1 204 No Content\r\n\r\n", "204\n", |got| got == "204 \n");
}

#[test]
fn what_comes_after_an_answer_is_nobodys() {
    let two = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nokHTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    check_says(two, "200\ncontent-length: 2\n\nok", |got| got == "200 ok\n");
    let trailers = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nx-late: a\r\n\r\n";
    check_says(trailers, "200\n\nok", |got| got == "200 ok\n");
}

#[test]
fn a_server_that_drips_or_never_answers_is_left_in_time() {
    let drip = |wire: &mut dyn Wire| {
        let mut more = write(wire, b"HTTP/1.1 200 OK\r\n\r\n");
        while more {
            // The drip itself, not a wait for something.
            std::thread::park_timeout(Duration::from_millis(20));
            more = write(wire, b"x");
        }
    };
    let dripping = Server::start(move |_, wire| drip(wire));
    let silent = Server::start(|_, wire| silent(wire));
    // Answers before the answer, without end.
    let hesitant = Server::start(|_, wire| while write(wire, b"HTTP/1.1 100 Continue\r\n\r\n") {});
    let web = Web::new(&[], None);
    for server in [&dripping, &silent, &hesitant] {
        let url = format!("http://{}", local(server));
        // The guest's own time-out: an error, and the run goes on.
        let fetch = Fetch { timeout_ms: Some(200), ..Fetch::default() };
        let (got, _) = web.fetch(&fetch, &url, &asks(&url), rules(&[local(server)]));
        assert!(got.starts_with("error unavailable: the request took longer than allowed"), "{got}");
        // The run's.
        let plugin = web.plugin(&fetcher(&Fetch::default()), &asks(&url));
        let mut request = request(&plugin, &url, rules(&[local(server)]));
        request.limits.timeout = Millis(400);
        let report = web.run(&plugin, request);
        assert_eq!(report.outcome, Outcome::TimedOut { limit: Millis(400) });
        assert!(report.wall < Duration::from_millis(400 + 250), "{:?}", report.wall);
        server.wait_ended(2);
    }
}

#[test]
fn a_request_is_bounded_too() {
    let server = Server::says("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let web = Web::new(&[], None);
    let url = format!("http://{}", local(&server));
    let asks = asks(&url).replace("64KiB", "1KiB");
    let body = "x".repeat(1025);
    for (body, starts) in [(&body[..], "error limit: the request's body"), (&body[..1024], "200\n")] {
        let fetch = Fetch { method: "POST", body, ..Fetch::default() };
        let (got, _) = web.fetch(&fetch, &url, &asks, rules(&[local(&server)]));
        assert!(got.starts_with(starts), "{got}");
    }
    let smuggled: [&[(&str, &str)]; 5] = [
        &[("transfer-encoding", "chunked")],
        &[("content-length", "7")],
        &[("x", "y\r\nz: a")],
        &[("x\r\nz", "a")],
        &[("host", "evil.test")],
    ];
    for headers in smuggled {
        let (got, _) = web.fetch(&Fetch { headers, ..Fetch::default() }, &url, &asks, rules(&[local(&server)]));
        assert!(got.starts_with("error invalid: the header"), "{got}");
    }
    let head = Fetch { method: "HEAD", ..Fetch::default() };
    assert!(web.fetch(&head, &url, &asks, rules(&[local(&server)])).0.starts_with("200\n"));
}
