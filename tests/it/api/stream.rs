//! Jobs as a stream of lines, and an answer line for each.

use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Frame;
use tokio::sync::mpsc;

use super::*;

const NDJSON: &str = "application/x-ndjson";

/// A body that comes piece by piece.
pub(super) struct Coming(pub(super) mpsc::UnboundedReceiver<Result<Bytes, std::io::Error>>);

impl hyper::body::Body for Coming {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

/// A stream that goes on, and its answers as they come.
struct Going {
    send: Option<mpsc::UnboundedSender<Result<Bytes, std::io::Error>>>,
    answers: Body,
    told: Vec<Value>,
}

impl Api {
    async fn stream(&self, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Vec<Value> {
        let headers = [&[("content-type", NDJSON)], headers].concat();
        let answer = self.send(Method::POST, path, &headers, body).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.text().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    async fn begin(&self) -> Going {
        let (send, come) = mpsc::unbounded_channel();
        let request = Request::post("/v1/jobs").header("content-type", "Application/X-NDJSON; charset=utf-8");
        let request = request.body(Body::new(Coming(come))).unwrap();
        let answer = TowerToHyperService::new(self.router.clone()).call(request).await.unwrap();
        assert_eq!((answer.status(), answer.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, NDJSON));
        Going { send: Some(send), answers: answer.into_body(), told: Vec::new() }
    }

    async fn count(&self) -> u64 {
        self.get("/v1/jobs/count").await.json()["total"].as_u64().unwrap()
    }
}

impl Going {
    fn send(&self, piece: &str) {
        self.send.as_ref().unwrap().send(Ok(Bytes::from(piece.to_owned()))).unwrap();
    }

    /// The next answer; none: there are no more.
    async fn next(&mut self) -> Option<Value> {
        if self.told.is_empty() {
            let page = self.answers.frame().await?.unwrap().into_data().unwrap();
            let lines = std::str::from_utf8(&page).unwrap().lines();
            self.told = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        }
        Some(self.told.remove(0))
    }
}

/// The problem of a line: its code, field and sentence.
#[track_caller]
fn check_refused(told: &Value, line: u64, code: &str, field: Option<&str>, words: &str) {
    let problem = &told["problem"];
    assert_eq!(
        (&told["line"], problem["code"].as_str(), problem["field"].as_str()),
        (&json!(line), Some(code), field),
        "{told}"
    );
    assert!(problem["detail"].as_str().unwrap().contains(words) && told["id"].is_null(), "{told}");
}

#[tokio::test]
async fn each_line_is_answered_in_its_place() {
    let api = Api::new();
    let long = format!("{{\"kind\": \"a\", \"args\": \"{}\"}}", "x".repeat(2 << 20));
    let lines: Vec<&[u8]> = vec![
        br#"{"kind": "a"}"#,
        b"",
        br#"{"kind": "a", "kinda": 1}"#,
        b"  \r",
        b"{\"kind\": ",
        b"{\"kind\": \"\xff\"}",
        long.as_bytes(),
        br#"[{"kind": "a"}]"#,
        br#"{"kind": "a", "depends_on": [{"position": 0}]}"#,
        br#"{"kind": "a", "depends_on": [{"position": 1}]}"#,
        br#"{"kind": "a", "depends_on": [{"position": 8}]}"#,
        br#"{"kind": "a", "depends_on": [{"position": 6, "on_failure": "run"}, "1"]}"#,
        br#"{"kind": "a", "depends_on": ["99"]}"#,
        br#"{"kind": "a", "ack": "buffered"}"#,
        br#"{"kind": "a", "args": {"last": true}}"#,
        b"\xef\xbb\xbf{\"kind\": \"a\"}",
    ];
    let told = api.stream("/v1/jobs", &[], lines.join(&b'\n')).await;
    assert_eq!(told[0], json!({"line": 0, "id": "1", "state": "available", "duplicate": false}));
    check_refused(&told[1], 1, "invalid", Some("kinda"), "did you mean `kind`?");
    check_refused(&told[2], 2, "malformed", None, "column 9");
    check_refused(&told[3], 3, "malformed", None, "not UTF-8 at byte 10");
    check_refused(&told[4], 4, "too_large", None, "1.5 MiB");
    check_refused(&told[5], 5, "invalid", Some("body"), "must be an object");
    assert_eq!((&told[6]["line"], &told[6]["state"]), (&json!(6), &json!("blocked")));
    check_refused(&told[7], 7, "invalid", Some("depends_on"), "line 1 was not accepted");
    check_refused(&told[8], 8, "invalid", Some("depends_on"), "line 8 is not an earlier line");
    assert_eq!(told[9]["state"], "blocked");
    check_refused(&told[10], 10, "invalid", Some("depends_on"), "there is no job 99");
    check_refused(&told[11], 11, "invalid", Some("ack"), "must be durable in a stream");
    assert_eq!((told[12]["line"].as_u64(), told[12]["state"].as_str()), (Some(12), Some("available")));
    check_refused(&told[13], 13, "malformed", None, "byte order mark");
    assert_eq!(told.len(), 14);
    let shown = api.get(&format!("/v1/jobs/{}", told[9]["id"].as_str().unwrap())).await.json();
    assert_eq!(shown["depends_on"], json!([told[6]["id"], "1"]));
    assert_eq!(api.count().await, 4);
    assert_eq!(api.stream("/v1/jobs", &[], "\n \n").await, Vec::<Value>::new());
}

/// More than a transaction takes: later groups name lines of earlier ones, and the answers keep their order.
#[tokio::test]
async fn a_stream_of_several_groups_keeps_its_order() {
    let api = Api::new();
    let mut body = "{\"kind\": \"a\", \"hold\": true}\n".repeat(2_500);
    body += "{\"kind\": \"b\", \"depends_on\": [{\"position\": 0}, {\"position\": 1999}, {\"position\": 2499}]}";
    let told = api.stream("/v1/jobs", &[], body).await;
    assert_eq!(told.len(), 2_501);
    for (n, line) in told.iter().enumerate() {
        assert_eq!((line["line"].as_u64(), line["id"].is_string()), (Some(n as u64), true), "{line}");
    }
    let shown = api.get(&format!("/v1/jobs/{}", told[2_500]["id"].as_str().unwrap())).await.json();
    assert_eq!(shown["depends_on"], json!([told[0]["id"], told[1_999]["id"], told[2_499]["id"]]));
    // Groups by bytes as well, of which a line may have more than a group.
    let large = format!("{{\"kind\": \"a\", \"args\": \"{}\"}}\n", "x".repeat(900_000));
    let told = api.stream("/v1/jobs", &[], large.repeat(5)).await;
    assert_eq!(told.iter().filter(|line| line["state"] == "available").count(), 5);
}

#[tokio::test]
async fn a_line_that_the_store_refuses_takes_no_other_with_it() {
    let api = Api::new();
    api.enqueue(&json!({"kind": "a", "queue": "shut"})).await;
    assert_eq!(api.post("/v1/queues/shut/drain", &json!({})).await.status, 200);
    api.enqueue(&json!({"kind": "a", "unique": {"key": "k"}})).await;
    let body = "{\"kind\": \"a\"}\n{\"kind\": \"a\", \"queue\": \"shut\"}\n{\"kind\": \"b\", \"depends_on\": [{\"position\": 0}]}\n\
                {\"kind\": \"a\", \"unique\": {\"key\": \"k\", \"on_conflict\": \"reject\"}}\n{\"kind\": \"b\", \"depends_on\": [{\"position\": 1}]}\n\
                {\"kind\": \"a\", \"unique\": {\"key\": \"k\"}}\n";
    let told = api.stream("/v1/jobs?on_error=continue", &[], body).await;
    check_refused(&told[1], 1, "queue_drains", None, "queue shut drains");
    check_refused(&told[3], 3, "unique_held", None, "holds this unique key");
    assert_eq!(told[3]["problem"]["job"], "2");
    check_refused(&told[4], 4, "invalid", Some("depends_on"), "line 1 was not accepted");
    assert_eq!(told[5], json!({"line": 5, "id": "2", "state": "available", "duplicate": true}));
    assert_eq!((told.len(), &told[0]["state"], &told[2]["state"]), (6, &json!("available"), &json!("blocked")));
    assert_eq!(api.count().await, 4);
}

#[tokio::test]
async fn the_first_bad_line_is_the_end_where_that_is_asked_for() {
    let api = Api::new();
    let good = "{\"kind\": \"a\"}\n";
    let told = api.stream("/v1/jobs?on_error=stop", &[], format!("{good}{good}oops\n{good}")).await;
    assert_eq!((told.len(), &told[2]["problem"]["code"], api.count().await), (3, &json!("malformed"), 2));
    // The same where the store says no.
    api.enqueue(&json!({"kind": "a", "queue": "shut"})).await;
    api.post("/v1/queues/shut/drain", &json!({})).await;
    let shut = "{\"kind\": \"a\", \"queue\": \"shut\"}\n";
    let told = api.stream("/v1/jobs?on_error=stop", &[], format!("{good}{shut}{good}{}", "x\n".repeat(3_000))).await;
    assert_eq!((told.len(), &told[1]["problem"]["code"], api.count().await), (2, &json!("queue_drains"), 4));
    let refused =
        async |path: &str, headers: &[(&str, &str)]| api.send(Method::POST, path, headers, "{\"kind\": \"a\"}").await;
    let stream = ("content-type", NDJSON);
    refused("/v1/jobs?on_error=halt", &[stream]).await.check_refused(422, "invalid", Some("on_error"), "continue");
    let json = refused("/v1/jobs?on_error=stop", &[("content-type", "application/json")]).await;
    json.check_refused(422, "invalid", Some("on_error"), "is for a stream");
    let key = "k".repeat(110);
    let long = refused("/v1/jobs", &[stream, ("idempotency-key", &key)]).await;
    long.check_refused(422, "invalid", Some("Idempotency-Key"), "1 to 109 bytes");
    // The story: a variable that was not set became the key of everybody who had not set it, and equal lines vanished.
    let empty = refused("/v1/jobs", &[stream, ("idempotency-key", "")]).await;
    empty.check_refused(422, "invalid", Some("Idempotency-Key"), "1 to 128 bytes");
}

/// A stream that broke is sent again under its key, and goes on where it broke.
#[tokio::test]
async fn a_repeated_stream_goes_on_where_it_broke() {
    let api = Api::new();
    let line = |n: usize| {
        format!(
            "{{\"kind\": \"a\", \"args\": {n}, \"depends_on\": [{}]}}\n",
            if n == 7 { "{\"position\": 3}" } else { "" }
        )
    };
    let lines: Vec<String> = (0..1_200).map(line).collect();
    let key = [("idempotency-key", "list-7")];
    let first = api.stream("/v1/jobs", &key, lines[..700].concat()).await;
    let all = api.stream("/v1/jobs", &key, lines.concat()).await;
    assert_eq!((first.len(), all.len(), api.count().await), (700, 1_200, 1_200));
    for (first, again) in first.iter().zip(&all) {
        let same = json!({"line": first["line"], "id": first["id"], "state": first["state"], "duplicate": true});
        assert_eq!(*again, same, "what was accepted is answered as it was");
    }
    let changed = api.stream("/v1/jobs", &key, format!("{}{}", lines[0], line(5))).await;
    assert_eq!((&changed[0]["id"], &changed[0]["duplicate"]), (&all[0]["id"], &json!(true)));
    check_refused(&changed[1], 1, "idempotency_key_reused", Some("Idempotency-Key"), "");
    assert_eq!(api.count().await, 1_200);
}

/// The story: lines were remembered as `KEY#NUMBER`, which is also what somebody else may call a single job. Whoever came
/// second was told of the first one's job as if it were its own, or that the key was used for something else.
#[tokio::test]
async fn no_key_of_a_call_is_that_of_a_line() {
    let api = Api::new();
    let (same, other) = ("{\"kind\": \"a\"}\n", "{\"kind\": \"b\"}\n");
    let single = async |key: &str, body: &str| {
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        let answer = api.send(Method::POST, "/v1/jobs", &headers, body.to_owned()).await;
        assert_eq!(answer.status, 201, "{key}: {}", answer.text());
    };
    single("k#0", same).await;
    single("k#1", same).await;
    let told = api.stream("/v1/jobs", &[("idempotency-key", "k")], [same, other, same].concat()).await;
    assert!(told.iter().all(|line| line["duplicate"] == false), "{told:?}");
    for key in ["k#2", "k/2", "2/k", "#2/k"] {
        single(key, same).await;
    }
    // Nor is a line of one stream that of another.
    let told = api.stream("/v1/jobs", &[("idempotency-key", "k#1")], [same, same].concat()).await;
    assert!(told.iter().all(|line| line["duplicate"] == false), "{told:?}");
    assert_eq!(api.count().await, 11);
    let longest = "k".repeat(109);
    let told = api.stream("/v1/jobs", &[("idempotency-key", &longest)], same).await;
    assert_eq!(told[0]["duplicate"], false, "{told:?}");
}

#[tokio::test]
async fn a_line_is_answered_while_the_stream_goes_on() {
    let api = Api::new();
    let mut going = api.begin().await;
    for n in 0..3 {
        going.send("{\"kind\":");
        going.send(" \"a\"}\n");
        assert_eq!(going.next().await.unwrap()["line"], n);
    }
    // The last line needs no end.
    going.send("{\"kind\": \"a\"}");
    going.send = None;
    assert_eq!(going.next().await.unwrap()["id"], "4");
    assert_eq!(going.next().await, None);
}

/// What a client has not sent to the end of a line is nobody's, and nothing of it is kept.
#[tokio::test]
async fn a_client_that_vanishes_costs_nothing() {
    let api = Api::new();
    for _ in 0..50 {
        let going = api.begin().await;
        going.send(&format!("{{\"kind\": \"a\", \"args\": \"{}", "x".repeat(1_000_000)));
        let broken = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        going.send.as_ref().unwrap().send(Err(broken)).unwrap();
        let mut going = going;
        // Whoever has only ended to send can still read it.
        check_refused(&going.next().await.unwrap(), 0, "malformed", None, "did not arrive whole");
        assert_eq!(going.next().await, None);
    }
    // Those that only go away: their room is there again, or a large call would be refused.
    let all: Vec<Going> = halves(&api, 300).await;
    drop(all);
    api.enqueue(&json!({"kind": "a", "args": "x".repeat(900_000)})).await;
    assert_eq!(api.count().await, 1);
}

async fn halves(api: &Api, n: usize) -> Vec<Going> {
    let mut all = Vec::new();
    for _ in 0..n {
        let going = api.begin().await;
        going.send(&format!("{{\"kind\": \"a\", \"args\": \"{}", "x".repeat(1_000_000)));
        tokio::task::yield_now().await;
        all.push(going);
    }
    all
}

#[tokio::test]
async fn a_server_that_stops_says_so_in_the_stream() {
    let api = Api::new();
    let mut going = api.begin().await;
    going.send("{\"kind\": \"a\"}\n{\"kind\"");
    assert_eq!(going.next().await.unwrap()["id"], "1");
    api.app.end_streams();
    check_refused(&going.next().await.unwrap(), 1, "stopped", None, "send it again");
    assert_eq!(going.next().await, None);
}
