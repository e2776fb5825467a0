//! An external worker of a server: it outlives the server's death, and the command line says who has what.

use std::io::{Read, Write};
use std::net::TcpStream;

use serde_json::{Value, json};

use super::Place;
use super::server::{Server, signal};

const CONFIG: &[u8] = b"[kinds.no]\nexternal = true\n[kinds.\"video.cut\"]\nexternal = true\n";

/// The status and the body of an answer.
fn post(server: &Server, path: &str, body: &Value) -> (u16, Value) {
    let (address, body) = (&server.address, body.to_string());
    let mut stream = TcpStream::connect(address).unwrap();
    let length = body.len();
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, serde_json::from_str(body).unwrap_or_default())
}

#[test]
fn a_worker_outlives_the_death_of_its_server() {
    let place = Place::new();
    place.write("runner.toml", CONFIG);
    let mut server = place.serve(&["--config", "runner.toml"]);
    place.check(&["plugin", "list"], 1, &["its kind `no` is external by the configuration"]);
    let id = place.check(&["enqueue", "video.cut", "{\"reel\": 3}"], 0, &[]).out.trim().to_owned();
    place.check(&["job", "why", &id], 0, &["no_worker: no worker has asked for kind video.cut since"]);
    place.check(&["job", "start", &id], 4, &["external workers take the jobs of its kind"]);

    let ask = json!({"kinds": ["video.cut", "no"], "worker": "cutter-7", "wait": "30s"});
    let (status, given) = post(&server, "/v1/lease", &ask);
    let run = &given["runs"][0];
    assert_eq!((status, &run["id"], &run["args"]), (200, &json!(id), &json!({"reel": 3})), "{given}");
    let token = run["lease_token"].as_str().unwrap().to_owned();
    place.check(&["job", "show", &id], 0, &["running", "worker", "cutter-7"]);
    place.check(&["job", "why", &id], 0, &["at the external worker cutter-7"]);
    server.child.kill().unwrap();
    let log = server.ended().err;
    assert!(!log.contains(&token) && !log.contains("rnl_"), "a token is in no log: {log}");

    let mut server = place.serve(&["--config", "runner.toml"]);
    place.check(&["job", "show", &id], 0, &["running", "cutter-7"]);
    let path = format!("/v1/runs/{id}/1/renew");
    assert_eq!(post(&server, &path, &json!({"lease_token": token})).0, 200);
    let said = json!({"lease_token": token, "outcome": "completed", "output": "cut"});
    let path = format!("/v1/runs/{id}/1/finish");
    let (status, answer) = post(&server, &path, &said);
    assert_eq!((status, &answer["state"]), (200, &json!("completed")), "{answer}");
    assert_eq!(post(&server, &path, &said), (200, answer), "whoever did not hear the answer asks again");
    place.check(&["job", "show", &id], 0, &["completed", "cut", "WORKER", "cutter-7"]);
    place.check(&["kind", "list", "-o", "json"], 0, &[r#""name":"video.cut","plugin":null,"external":true"#]);
    signal(server.child(), "TERM");
    let log = server.ended();
    log.check(0, &["stopped"]);
    assert!(!log.err.contains("rnl_"), "{}", log.err);
}
