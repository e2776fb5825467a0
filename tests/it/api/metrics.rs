//! `GET /metrics`: what it says of jobs, which words become labels, and that a parser of Prometheus' format takes it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hyper_util::service::TowerToHyperService;
use prometheus_parse::{Sample, Scrape, Value as Of};
use runner_runtime::api::metrics;
use runner_runtime::api::plugins::Plugins;
use runner_runtime::wasm::Catalog;
use runner_store::command::Enqueue;
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::Commit;
use runner_store::job::{JobSpec, Priority};

use super::*;

/// Read by somebody else's parser: each line that is no comment became a sample of a family that has a help and a type.
pub(crate) fn parse(text: &str) -> Scrape {
    let scrape = Scrape::parse(text.lines().map(|line| Ok(line.to_owned()))).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with('#')).count();
    let histograms: usize =
        scrape.samples.iter().map(|sample| ranges(sample).map_or(0, |ranges| ranges.len() - 1)).sum();
    assert_eq!(scrape.samples.len() + histograms, lines, "{text}");
    for sample in &scrape.samples {
        let name = &sample.metric;
        let family = ["_sum", "_count"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
        assert!(text.contains(&format!("# HELP {family} ")) && text.contains(&format!("# TYPE {family} ")), "{name}");
        assert!(name.starts_with("runner_"), "{name}");
        let counts = matches!(sample.value, Of::Counter(_));
        assert_eq!(counts, name.ends_with("_total"), "{name}: {:?}", sample.value);
    }
    scrape
}

fn ranges(sample: &Sample) -> Option<&[prometheus_parse::HistogramCount]> {
    match &sample.value {
        Of::Histogram(ranges) => Some(ranges),
        _ => None,
    }
}

/// The value of the one sample of this name with these labels.
#[track_caller]
pub(crate) fn value(scrape: &Scrape, name: &str, labels: &[(&str, &str)]) -> f64 {
    let found = find(scrape, name, labels);
    assert_eq!(found.len(), 1, "{name} {labels:?}: {found:?}");
    number(&found[0].value)
}

fn number(value: &Of) -> f64 {
    match value {
        Of::Counter(value) | Of::Gauge(value) | Of::Untyped(value) => *value,
        other => panic!("{other:?} is no number"),
    }
}

pub(crate) fn find<'a>(scrape: &'a Scrape, name: &str, labels: &[(&str, &str)]) -> Vec<&'a Sample> {
    let fits = |sample: &&Sample| {
        sample.metric == name && labels.iter().all(|(label, value)| sample.labels.get(label) == Some(value))
    };
    scrape.samples.iter().filter(fits).collect()
}

async fn scrape(api: &Api) -> Scrape {
    let answer = api.get("/metrics").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    parse(&answer.text())
}

#[tokio::test]
async fn jobs_are_counted_by_state_and_as_they_come() {
    let api = Api::new();
    let before = scrape(&api).await;
    assert!(find(&before, "runner_jobs", &[]).is_empty(), "an empty store has none");
    for body in [json!([{"kind": "a", "queue": "q"}, {"kind": "a", "queue": "q"}]), json!({"kind": "b", "hold": true})]
    {
        assert_eq!(api.post("/v1/jobs", &body).await.status, 201);
    }
    let now = scrape(&api).await;
    let of = [("tenant", "default"), ("queue", "q"), ("state", "available")];
    assert_eq!(value(&now, "runner_jobs", &of), 2.0);
    assert_eq!(value(&now, "runner_jobs", &[("queue", "default"), ("state", "held")]), 1.0);
    assert_eq!(value(&now, "runner_jobs_enqueued_total", &[("queue", "q")]), 2.0);
    assert!(value(&now, "runner_queue_oldest_available_seconds", &[("queue", "q")]) < 60.0);
    assert!(
        find(&now, "runner_queue_oldest_available_seconds", &[("queue", "default")]).is_empty(),
        "held, not available"
    );
    assert!(value(&now, "runner_writer_batch_commands_count", &[]) >= 2.0);
    assert!(value(&now, "runner_writer_commit_seconds_count", &[]) >= 2.0);
    assert_eq!(value(&now, "runner_writer_queue_commands", &[]), 0.0);
}

/// Whoever may enqueue may invent kinds and queues: they must not become series that somebody keeps for a year.
#[tokio::test]
async fn a_name_that_somebody_made_up_is_no_label() {
    let api = Api::new();
    let job = |i: usize| json!({"kind": format!("made-up.{i}"), "queue": format!("q{i}")});
    let enqueue = async |range: std::ops::Range<usize>| {
        let list = json!(range.map(job).collect::<Vec<_>>());
        assert_eq!(api.post("/v1/jobs", &list).await.status, 201);
    };
    // More than there may be at once: names that have a number are taken back.
    enqueue(0..200).await;
    api.operation("/v1/jobs/delete", &json!({"all": true})).await;
    enqueue(200..1_200).await;
    enqueue(0..200).await;
    let now = scrape(&api).await;
    let kinds: Vec<_> = now.samples.iter().filter_map(|sample| sample.labels.get("kind")).collect();
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| *kind == "_other"), "no plugin provides any of them");
    let jobs = find(&now, "runner_jobs", &[]);
    let others = find(&now, "runner_jobs", &[("queue", "_other")]);
    let others: f64 = others.iter().map(|sample| number(&sample.value)).sum();
    assert_eq!((jobs.len(), others), (1_001, 200.0), "a thousand queues, and one for the others");
    assert_eq!(find(&now, "runner_queue_oldest_available_seconds", &[]).len(), 1_001);
}

#[tokio::test]
async fn what_is_refused_is_counted_by_its_code() {
    let api = Api::new();
    let refused = |scrape: &Scrape| {
        let found = find(scrape, "runner_requests_rejected_total", &[("code", "no_output"), ("status", "404")]);
        found.first().map_or(0.0, |sample| match sample.value {
            Of::Counter(value) => value,
            _ => panic!("{sample:?}"),
        })
    };
    let id = api.enqueue(&json!({"kind": "a"})).await;
    let before = refused(&scrape(&api).await);
    api.get(&format!("/v1/jobs/{id}/output")).await.check_refused(404, "no_output", None, "no output yet");
    // Of the whole process, in which other tests ask, too.
    assert!(refused(&scrape(&api).await) >= before + 1.0);
    let answer = api.get("/metrics?name[]=runner_jobs").await;
    answer.check_refused(422, "invalid", Some("name[]"), "is no known parameter");
}

/// A listener that has the metrics has nothing else. Who may see those of all tenants says the table of routes.
#[tokio::test]
async fn a_listener_for_the_metrics_has_nothing_else() {
    let api = Api::new();
    let alone = metrics::router(Arc::clone(&api.app));
    let request = |path| Request::builder().uri(path).body(Body::empty()).unwrap();
    let status = async |path| TowerToHyperService::new(alone.clone()).call(request(path)).await.unwrap().status();
    assert_eq!([status("/metrics").await, status("/v1/jobs").await, status("/healthz").await], [200, 404, 404]);
}

/// What takes long is measured beside the page, and is there one of the next times. How long a page takes is a bench's to say.
#[tokio::test]
async fn a_store_in_a_file_is_measured_beside_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let data = StoreDir::new(dir.path().join("data"));
    let engine = data.open(Create::NewFolder, Clock::System, Commit::default()).unwrap();
    let live = Some(data.live(&engine));
    let (store, _writer) = Handle::start(Box::new(engine)).unwrap();
    let app = App::on(store.clone(), Plugins::of_node(Arc::<Catalog>::default()), Box::new(|| None), live, None);
    let api = Api { router: api::router(Arc::clone(&app)), app, store };
    // Two priorities in each queue: the one that has waited longest may be behind the other.
    for priority in [3, -3] {
        let spec = |queue: usize| JobSpec {
            queue: format!("q{queue}"),
            priority: Priority(priority),
            ..JobSpec::new("k", "{}")
        };
        let call = Enqueue::new(TenantId::DEFAULT, (0..1_000).map(spec).collect());
        assert!(matches!(api.store.call(Command::Enqueue(call)).await.unwrap(), Reply::Enqueued(_)));
    }
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        let now = scrape(&api).await;
        assert_eq!(find(&now, "runner_queue_oldest_available_seconds", &[]).len(), 1_000);
        assert!(value(&now, "runner_store_bytes", &[]) > 0.0);
        if !find(&now, "runner_store_live_bytes", &[]).is_empty() {
            break;
        }
        assert!(Instant::now() < until, "the store was never measured");
    }
}
