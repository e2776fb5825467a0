//! What goes to a worker and what its finish brings, and how much of each.

use base64::Engine as _;
use serde_json::{Value, json};

use super::Site;

/// The story: a worker's finish could bring as much as a body takes, which no handler may stage, and its one transaction held
/// up all others.
#[tokio::test(flavor = "multi_thread")]
async fn a_finish_brings_no_more_than_a_handler_may_stage() {
    let site = Site::new().await;
    let large = |mib: usize, field: &str, unit: &str| {
        let jobs: Vec<Value> = (0..mib).map(|_| json!({"kind": "ok", "hold": true, field: unit})).collect();
        json!({"outcome": "completed", "enqueue": jobs})
    };
    let mib = "x".repeat((1 << 20) - 2);
    site.enqueue(json!({"kind": "render"})).await;
    let run = site.take("render", "30s").await;
    let refused = async |said: Value, field: &str, words: &str| {
        site.say(&run, "finish", said).await.check_refused(422, "invalid", Some(field), words);
    };
    refused(large(4, "args", &mib), "enqueue", "one finish may have 4194304 (`staged`)").await;
    // What is staged is what will be stored: it is larger by a third only on its way.
    let encoded = base64::engine::general_purpose::STANDARD.encode(&mib);
    refused(large(4, "args_base64", &encoded), "enqueue", "one finish may have 4194304 (`staged`)").await;
    let mut with_output = large(3, "args", &mib);
    with_output["output"] = mib.clone().into();
    refused(with_output, "enqueue", "of args and output").await;
    let answer = site.say(&run, "finish", large(3, "args_base64", &encoded)).await;
    assert_eq!((answer.status.as_u16(), answer.json()["enqueued"].as_array().map(Vec::len)), (200, Some(3)));

    // As the configuration has it.
    site.enqueue(json!({"kind": "video.cut"})).await;
    let run = site.take("video.cut", "30s").await;
    let refused = async |said: Value, field: &str| {
        let answer = site.say(&run, "finish", said).await;
        answer.check_refused(422, "invalid", Some(field), "one finish may have 1024 (`staged`)");
    };
    refused(json!({"outcome": "completed", "output": "x".repeat(1_024)}), "output").await;
    refused(json!({"outcome": "discarded", "enqueue": [{"kind": "ok", "args": "x".repeat(1_024)}]}), "enqueue").await;
    let said = json!({"outcome": "completed", "output": "x".repeat(1_000)});
    assert_eq!(site.say(&run, "finish", said).await.status, 200);
    site.stop().await;
}

/// The story: what was taken and did not fit into the answer was handed back, and had used up tokens of its rate.
#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_into_an_answer_goes_back_and_costs_no_token() {
    let site = Site::new().await;
    let set = site.api.patch("/v1/kinds/render", &json!({"rate": "9/1h burst 9"})).await;
    assert_eq!(set.status, 200, "{}", set.text());
    let args = "x".repeat((1 << 20) - 2);
    for _ in 0..9 {
        site.enqueue(json!({"kind": "render", "args": args})).await;
    }
    let ask = json!({"kinds": ["render"], "max": 100, "worker": "w", "wait": "30s"});
    let first = site.lease(ask.clone()).await.json();
    assert_eq!(first["runs"].as_array().unwrap().len(), 8, "as many as fit");
    let second = site.lease(ask).await.json();
    let runs: Vec<_> = second["runs"].as_array().unwrap().iter().map(|run| (&run["id"], &run["run"])).collect();
    assert_eq!(runs, [(&json!("9"), &json!(2))], "the ninth of nine tokens was there");
    site.stop().await;
}
