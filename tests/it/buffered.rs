//! Jobs that are received first and accepted a moment later: an orderly stop loses none of them.

use runner_runtime::buffered::Buffered;
use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::Part;
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::Commit;
use runner_store::job::{JobSpec, TenantId};

/// Flushes by hand, by count and by time meet in it; what a stop finds in memory, it flushes.
#[tokio::test(flavor = "multi_thread")]
async fn l_07_501_flushed_and_499_buffered_are_all_there_in_order_after_an_orderly_stop() {
    let place = tempfile::tempdir().unwrap();
    let dir = StoreDir::new(place.path().join("data"));
    let engine = dir.open(Create::NewFolder, Clock::System, Commit::TwoPhase).unwrap();
    let (store, writer) = Handle::start(Box::new(engine)).unwrap();
    let buffered = Buffered::default();
    let job = |n: usize| JobSpec::new("work", n.to_string());
    for n in 0..501 {
        buffered.receive(&store, TenantId::DEFAULT, vec![job(n)]).await.unwrap();
    }
    buffered.flush().await;
    assert_eq!(buffered.counts().accepted, 501);
    buffered.receive(&store, TenantId::DEFAULT, (501..1_000).map(job).collect()).await.unwrap();
    buffered.stop().await;
    assert!(
        buffered.receive(&store, TenantId::DEFAULT, vec![job(0)]).await.is_err(),
        "what comes too late is refused, not lost"
    );
    drop((buffered, store));
    tokio::task::spawn_blocking(move || writer.join()).await.unwrap();

    let dump = dir.open(Create::No, Clock::System, Commit::TwoPhase).unwrap().dump().unwrap();
    let args = dump.payloads.iter().filter(|(_, part, _)| *part == Part::Args);
    let numbers: Vec<String> = args.map(|(_, _, args)| String::from_utf8(args.clone()).unwrap()).collect();
    assert_eq!(numbers, (0..1_000).map(|n| n.to_string()).collect::<Vec<_>>());
}
