//! What is no request, over each of the ways to a server: it is told why, and the command line's own socket is none the worse.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::Value;

use super::Place;
use super::access::certificate;

/// A good request, one that is none, and one that is never read.
const ASKED: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n\
    GET /v1/jobs HTTP/1.1\r\nHost: localhost\r\nContent-Length: some\r\n\r\n\
    GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[track_caller]
fn check(mut stream: impl Read + Write) {
    stream.write_all(ASKED.as_bytes()).unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let answers: Vec<&str> = text.split("HTTP/1.1 ").skip(1).collect();
    assert_eq!(answers.len(), 2, "{text}");
    assert!(answers[0].starts_with("200 OK") && answers[0].ends_with("\r\n\r\nok\n"), "{text}");
    let (head, body) = answers[1].split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("400 Bad Request\r\n") && head.contains("connection: close"), "{text}");
    let problem: Value = serde_json::from_str(body).unwrap();
    assert_eq!((problem["code"].as_str(), problem["field"].as_str()), (Some("malformed"), Some("Content-Length")));
    assert!(!body.contains("some"), "what was sent is not repeated: {body}");
}

#[test]
fn what_is_no_request_is_told_why_over_tcp_tls_and_the_unix_socket() {
    let place = Place::new();
    certificate(&place, "cert.pem", "key.pem");
    let server = place.serve(&["--tls-cert", "cert.pem", "--tls-key", "key.pem"]);
    check(UnixStream::connect(place.path("runner-data/runner.sock")).unwrap());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(place.path("cert.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let name = ServerName::try_from("localhost").unwrap();
    let tls = ClientConnection::new(config, name).unwrap();
    check(StreamOwned::new(tls, TcpStream::connect(&server.address).unwrap()));
    place.check(&["enqueue", "ok", "--wait"], 0, &["completed"]);

    let other = Place::new();
    let server = other.serve(&[]);
    check(TcpStream::connect(&server.address).unwrap());
    // TLS where none is spoken is told so.
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(&[0x16, 3, 1, 0, 0xa5, 1, 0, 0, 0xa1, 3, 3]).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.contains("this is TLS"), "{text}");
}
