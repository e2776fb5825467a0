//! How long does a page of metrics take? With 1,000 queues of which each has jobs, few and many, in a store on the disk.
//!
//! `cargo bench -p runner --bench metrics`. The page must not take more than 20 ms, and not grow with the jobs: it is put
//! together from counts, and from a few keys for each queue.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use runner_runtime::api::plugins::Plugins;
use runner_runtime::api::{self, App};
use runner_runtime::wasm::Catalog;
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Command, Enqueue, Reply};
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::Commit;
use runner_store::job::{JobSpec, Priority, TenantId};

const QUEUES: usize = 1_000;
const PAGES: usize = 200;
/// What a page may take, and the margin that a machine of any kind is given.
const PAGE_MAX: Duration = Duration::from_millis(20);
const MARGIN: u32 = 5;

#[tokio::main]
async fn main() {
    println!("hardware: {} threads", std::thread::available_parallelism().map_or(1, usize::from));
    let place = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
    let dir = StoreDir::new(place.path().join("data"));
    let engine = dir.open(Create::NewFolder, Clock::System, Commit::default()).expect("a new store");
    let live = Some(dir.live(&engine));
    let (store, writer) = Handle::start(Box::new(engine)).expect("a writer");
    let app = App::on(store.clone(), Plugins::of_node(Arc::<Catalog>::default()), Box::new(|| None), live, None);
    let router = api::router(Arc::clone(&app));
    for lists in [1, 9, 90] {
        for list in 0..lists {
            enqueue(&store, list).await;
        }
        pages(&router).await;
    }
    app.stop().await;
    drop((router, app, store));
    tokio::task::spawn_blocking(|| writer.join()).await.expect("the writer ends");
}

/// One more job in each queue, of one of five priorities.
async fn enqueue(store: &Handle, list: i16) {
    let spec = |queue| JobSpec { queue: format!("q{queue}"), priority: Priority(list % 5), ..JobSpec::new("k", "{}") };
    let call = Enqueue::new(TenantId::DEFAULT, (0..QUEUES).map(spec).collect());
    let reply = store.call(Command::Enqueue(call)).await.expect("the store answers");
    assert!(matches!(reply, Reply::Enqueued(_)), "{reply:?}");
}

async fn pages(router: &axum::Router) {
    let (mut took, mut bytes) = (Vec::with_capacity(PAGES), 0);
    for _ in 0..PAGES {
        let request = Request::builder().uri("/metrics").body(Body::empty()).expect("a request");
        let began = Instant::now();
        let answer = TowerToHyperService::new(router.clone()).call(request).await.expect("an answer");
        let text = answer.into_body().collect().await.expect("a body").to_bytes();
        took.push(began.elapsed());
        bytes = text.len();
    }
    took.sort_unstable();
    let (median, p99) = (took[PAGES / 2], took[PAGES * 99 / 100]);
    println!("a page of {QUEUES} queues, {bytes} bytes: median {median:?}, p99 {p99:?}, n = {PAGES}");
    assert!(median <= PAGE_MAX * MARGIN, "{median:?}");
}
