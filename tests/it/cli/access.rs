//! Who may ask a server that runs: tokens that survive a restart and are in no log, its first token, TLS, tenants.

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rcgen::{CertificateParams, KeyPair};

use super::server::{Server, signal};
use super::{Place, Said, until};

impl Place {
    fn token(&self, args: &[&str]) -> String {
        let said = self.check(&[&["token", "create"], args].concat(), 0, &[]);
        let token = said.out.trim().to_owned();
        assert!(token.starts_with("rnr_") && token.len() == 47, "alone on stdout: {token}");
        assert!(!said.err.contains(&token), "{}", said.err);
        token
    }

    /// The command line with a token.
    fn with(&self, token: &str, args: &[&str]) -> Said {
        Said::from(self.command(args).env("RUNNER_TOKEN", token).output().unwrap())
    }

    fn serve_with(&self, prepare: impl FnOnce(&mut Command), more: &[&str]) -> Server {
        let mut command = self.command(&[&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"], more].concat());
        prepare(&mut command);
        Server::new(command)
    }
}

fn stop(mut server: Server) -> String {
    signal(server.child(), "TERM");
    let said = server.ended();
    said.check(0, &["stopped"]);
    said.err
}

#[test]
fn tokens_survive_a_restart_and_are_revoked_at_once() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    place.check(&["token", "list"], 0, &["there are no tokens"]);
    let token = place.token(&["ci", "--scope", "enqueue,read", "--expires-in", "30d"]);
    for _ in 0..2 {
        let server = place.serve(&["--init"]);
        let url = server.url();
        place.check(&["job", "list", "--url", &url], 6, &["this needs a token", "runner token create"]);
        place.with("rnr_wrong", &["job", "list", "--url", &url]).check(6, &["the token is wrong, or was revoked"]);
        place.with(&token, &["enqueue", "ok", "--wait", "--url", &url]).check(0, &["completed"]);
        place.with(&token, &["job", "cancel", "1", "--url", &url]).check(6, &["this needs the scope admin, operate"]);
        place.with(&token, &["token", "list", "--url", &url]).check(6, &["this needs the scope admin"]);
        // The unix socket is its owner's, and with a token it is the token's.
        place.check(&["token", "list"], 0, &["ci", "default", "enqueue,read", "active"]);
        place.with(&token, &["token", "list"]).check(6, &["this needs the scope admin"]);
        stop(server);
    }
    let server = place.serve(&[]);
    let listed = place.check(&["token", "list", "-o", "json"], 0, &[r#""last_used_at":"2"#]).out;
    let id = listed.split(r#""id":""#).nth(1).unwrap().split('"').next().unwrap().to_owned();
    // Somebody follows what happens.
    let mut follow = place.command(&["events", "--follow", "--url", &server.url()]);
    let mut follow = follow.env("RUNNER_TOKEN", &token).stdout(std::process::Stdio::null()).spawn().unwrap();
    place.check(&["token", "revoke", &id], 0, &["revoked"]);
    until("whoever follows is cut", || follow.try_wait().unwrap().is_some());
    place.with(&token, &["job", "list", "--url", &server.url()]).check(6, &["was revoked"]);
    place.check(&["token", "revoke", &id], 3, &["there is no token of this id"]);
    // The last one is gone: the address is open to this machine again, and the log says so.
    place.check(&["job", "list", "--url", &server.url()], 0, &[]);
    assert!(stop(server).contains("the last token was revoked"));
}

/// Whatever is done with tokens, rightly and wrongly, no log has one.
#[test]
fn no_log_has_a_token_in_it() {
    let place = Place::new();
    let (admin, wrong) = ("chosen-by-an-operator-0123456789abcdef", format!("rnr_{}", "x".repeat(43)));
    let prepare = |command: &mut Command| _ = command.env("RUNNER_ADMIN_TOKEN", admin).env("RUNNER_LOG", "trace");
    let mut server = place.serve_with(prepare, &[]);
    let url = server.url();
    let token = place.token(&["shop", "--scope", "operate"]);
    let mut told = String::new();
    for (who, code) in [(token.as_str(), 0), (admin, 0), (&wrong, 6)] {
        let said = place.with(who, &["job", "list", "--url", &url]);
        assert_eq!(said.code, Some(code), "{}", said.err);
        told.push_str(&said.err);
        let request = format!(
            "POST /v1/session HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{{\"token\": \"{who}\"}}",
            who.len() + 13
        );
        let status = if code == 0 { "HTTP/1.1 201 Created" } else { "HTTP/1.1 401 Unauthorized" };
        assert_eq!(server.raw(&request), status);
        let in_url =
            format!("GET /v1/jobs?token={who} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {who}\r\n\r\n");
        server.raw(&in_url);
    }
    let said = place.with(&token, &["token", "list", "--url", &url]);
    told.push_str(&said.err);
    let debug =
        place.command(&["job", "list", "--url", &url]).env("RUNNER_TOKEN", &token).env("RUNNER_LOG", "trace").output();
    told.push_str(&Said::from(debug.unwrap()).err);
    signal(server.child(), "TERM");
    let log = server.ended();
    log.check(0, &["a token was made", "stopped"]);
    told.push_str(&log.err);
    for secret in [token.as_str(), admin, &wrong] {
        assert!(!told.contains(secret), "{secret} was told");
    }
    assert!(!told.contains("rnr_"), "not even a part of one");
}

#[test]
fn a_container_starts_with_its_first_token() {
    let place = Place::new();
    let chosen = "chosen-by-an-operator-0123456789abcdef";
    place.write("secret", format!("{chosen}\n").as_bytes());
    let listen = ["serve", "--plugins", "plugins", "--listen", "0.0.0.0:0"];
    place.check(&listen, 6, &["there are no tokens", "RUNNER_ADMIN_TOKEN", "--insecure-no-auth"]);
    assert!(!place.path("runner-data").exists(), "nothing was made");
    let short = Said::from(place.command(&listen).env("RUNNER_ADMIN_TOKEN", "changeme").output().unwrap());
    short.check(2, &["RUNNER_ADMIN_TOKEN", "at least 32"]);
    assert!(!short.err.contains("changeme"));
    let both =
        place.command(&listen).env("RUNNER_ADMIN_TOKEN", chosen).env("RUNNER_ADMIN_TOKEN_FILE", "secret").output();
    Said::from(both.unwrap()).check(2, &["exclude each other"]);

    let mut command = place.command(&listen);
    command.env("RUNNER_ADMIN_TOKEN_FILE", "secret");
    let server = Server::new(command);
    let url = format!("http://127.0.0.1:{}", server.address.rsplit(':').next().unwrap());
    place.check(&["job", "list", "--url", &url], 6, &["this needs a token"]);
    place.with(chosen, &["tenant", "create", "acme", "--url", &url]).check(0, &["acme"]);
    let acme = ["--tenant", "acme", "--url", &url];
    let token = place.with(chosen, &[&["token", "create", "shop", "--scope", "enqueue"][..], &acme].concat());
    token.check(0, &["tenant acme"]);
    let token = token.out.trim();
    place.with(token, &["enqueue", "ok", "--url", &url]).check(0, &["1"]);
    place.with(token, &["enqueue", "ok", "--url", &url, "--tenant", "default"]).check(6, &["names no other"]);
    let listed = place.with(chosen, &[&["job", "list", "-o", "json"][..], &acme].concat());
    listed.check(0, &[r#""tenant":"acme""#]);
    let wrong_host = "GET /v1/jobs HTTP/1.1\r\nHost: evil.example\r\n\r\n";
    let port = server.address.rsplit(':').next().unwrap();
    assert!(raw(port, wrong_host).starts_with("HTTP/1.1 403"));
    assert!(raw(port, "GET /readyz HTTP/1.1\r\nHost: evil.example\r\n\r\n").starts_with("HTTP/1.1 200"));
    let log = stop(server);
    assert!(log.contains("draining"), "{log}");
    // A store that has tokens needs none from outside.
    place.token(&["first", "--scope", "admin"]);
    stop(Server::new(place.command(&listen)));
}

fn raw(port: &str, request: &str) -> String {
    use std::io::{BufRead, BufReader, Write};
    let mut stream = std::net::TcpStream::connect(format!("127.0.0.1:{port}")).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer).unwrap();
    answer
}

#[test]
fn a_restored_store_lets_in_nobody_with_a_token_until_that_is_confirmed() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    let token = place.token(&["ci", "--scope", "read"]);
    place.check(&["store", "backup", "backup"], 0, &[]);
    place.check(&["store", "restore", "backup", "restored"], 0, &["1 tokens let nobody in", "--keep-tokens"]);
    let kept = ["store", "restore", "backup", "kept", "--keep-tokens"];
    place.check(&kept, 0, &["1 tokens let in whom they did"]);
    for (data, code, words) in [("restored", 6, "--keep-tokens"), ("kept", 0, "")] {
        let server = place.serve(&["--data", data]);
        place.with(&token, &["job", "list", "--url", &server.url()]).check(code, &[words]);
        // It is not open beside that.
        place.check(&["job", "list", "--url", &server.url()], 6, &["this needs a token"]);
        stop(server);
    }
}

/// A certificate for this machine that signs itself, and its key, in PEM.
pub(super) fn certificate(place: &Place, cert: &str, key: &str) {
    let pair = KeyPair::generate().unwrap();
    let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
    let signed = CertificateParams::new(names).unwrap().self_signed(&pair).unwrap();
    let pem = |what: &str, bytes: &[u8]| {
        let text = STANDARD.encode(bytes);
        let lines: Vec<&str> = text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap()).collect();
        format!("-----BEGIN {what}-----\n{}\n-----END {what}-----\n", lines.join("\n"))
    };
    place.write(cert, pem("CERTIFICATE", signed.der()).as_bytes());
    place.write(key, pem("PRIVATE KEY", &pair.serialize_der()).as_bytes());
}

#[test]
fn a_server_speaks_tls_and_reads_its_certificate_again() {
    let place = Place::new();
    certificate(&place, "cert.pem", "key.pem");
    certificate(&place, "other.pem", "other-key.pem");
    for (args, words) in [
        (&["--tls-cert", "cert.pem"][..], "--tls-key"),
        (&["--tls-cert", "none.pem", "--tls-key", "key.pem"], "none.pem"),
        (&["--tls-cert", "key.pem", "--tls-key", "key.pem"], "has 0 certificates"),
        (&["--tls-cert", "cert.pem", "--tls-key", "other-key.pem"], "cannot be used"),
    ] {
        let serve = [&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"], args].concat();
        place.check(&serve, 2, &[words]);
    }
    let server = place.serve(&["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let url = format!("https://localhost:{port}");
    let list = |ca: &str| place.runner(&["job", "list", "--url", &url, "--ca-file", ca]);
    list("cert.pem").check(0, &[]);
    list("other.pem").check(5, &["does not answer", "certificate"]);
    place.check(&["job", "list", "--url", &url], 5, &["certificate"]);
    place.check(&["job", "list", "--url", &format!("http://localhost:{port}")], 5, &["does not answer"]);
    let by_address = format!("https://127.0.0.1:{port}");
    place.check(&["enqueue", "ok", "--wait", "--url", &by_address, "--ca-file", "cert.pem"], 0, &["completed"]);

    std::fs::copy(place.path("other.pem"), place.path("cert.pem")).unwrap();
    std::fs::copy(place.path("other-key.pem"), place.path("key.pem")).unwrap();
    signal(server.child(), "HUP");
    until("the other one is shown", || list("other.pem").code == Some(0));
    place.write("cert.pem", b"nonsense");
    signal(server.child(), "HUP");
    list("other.pem").check(0, &[]);
    let log = stop(server);
    assert!(log.contains("the certificate was read again") && log.contains("from before serves on"), "{log}");
}

#[test]
fn tenants_are_made_listed_limited_and_deleted() {
    let place = Place::new();
    let server = place.serve(&[]);
    place.check(&["tenant", "create", "acme", "--concurrency", "2", "--memory", "512MiB"], 0, &["acme", "2 (set)"]);
    place.check(&["tenant", "create", "acme"], 4, &["a tenant of this name already"]);
    place.check(&["tenant", "set", "acme", "--concurrency", "none", "--fuel", "5G/1h"], 0, &["5G/1h (set)"]);
    place.check(&["tenant", "set", "acme"], 2, &["say what to set"]);
    place.check(&["tenant", "set", "acme", "--concurrency", "some"], 2, &["a whole number, or none"]);
    place.check(&["tenant", "set", "acmee", "--capacity", "5"], 3, &["did you mean `acme`?"]);
    place.check(&["tenant", "list"], 0, &["acme", "default", "5G/1h", "512"]);
    place.check(&["enqueue", "ok", "--hold", "--tenant", "acme"], 0, &["1"]);
    place.check(&["tenant", "show", "acme"], 0, &["held"]);
    place.check(&["tenant", "delete", "acme"], 4, &["still has 1 jobs"]);
    place.check(&["job", "delete", "1", "--tenant", "acme"], 0, &[]);
    place.check(&["tenant", "delete", "acme"], 0, &["deleted acme"]);
    place.check(&["enqueue", "ok", "--tenant", "acme"], 3, &["there is no tenant `acme`"]);
    place.check(&["tenant", "delete", "default"], 4, &["stands in the configuration"]);
    stop(server);
}
