//! For benches that ask when a handler was entered: a job that says so, and a store on the disk that is measured.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Part, Query};
use runner_store::dir::{Create, StoreDir};
use runner_store::engine::redb::Commit;
use runner_store::handle::Writer;
use runner_store::job::JobRef;

/// A command that answers when it began to run: nanoseconds since 1970, in hexadecimal.
pub(crate) const CLOCK: &str = include_str!("../runtime/src/cli/bench/clock.wat");

/// A new store in this folder.
pub(crate) fn open(dir: &Path) -> (Handle, Writer, StoreDir) {
    let dir = StoreDir::new(dir.join("store"));
    let engine = dir.open(Create::NewFolder, Clock::System, Commit::TwoPhase).expect("a store");
    let (store, writer) = Handle::start(Box::new(engine)).expect("a writer");
    (store, writer, dir)
}

/// Since 1970.
pub(crate) fn now() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970")
}

/// Waits for the end of a job whose handler is the clock, and answers when it began, since 1970.
pub(crate) async fn begun(store: &Handle, at: JobRef) -> Duration {
    let ended = store.board().wait_for(at);
    let view = store.snapshot().expect("a view");
    let is_final = matches!(view.read(&Query::Job(at)), Ok(Answer::Job(Some(job))) if job.state.name().is_final());
    drop(view);
    if !is_final {
        ended.await.expect("an end");
    }
    let view = store.snapshot().expect("a view");
    let Ok(Answer::Payload(Some(output))) = view.read(&Query::Payload(at, Part::Output)) else {
        panic!("the clock has an output")
    };
    let hex = std::str::from_utf8(&output).expect("text").trim_matches('"').to_owned();
    Duration::from_nanos(u64::from_str_radix(&hex, 16).expect("hexadecimal"))
}
