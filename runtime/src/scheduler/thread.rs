//! The scheduler's own thread: what wakes it finds it at once, however busy the guests and the API are.

use std::future::Future;

use tokio::sync::oneshot;

/// Runs a future, and what it spawns, on a thread of its own. The answer comes when it has ended; if it panics, the
/// answer is an error.
///
/// # Errors
/// There are no threads to be had.
pub(crate) fn start<F: Future>(future: impl FnOnce() -> F + Send + 'static) -> std::io::Result<oneshot::Receiver<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let (tell, told) = oneshot::channel();
    std::thread::Builder::new().name("scheduler".to_owned()).spawn(move || {
        runtime.block_on(future());
        // Whoever started it may have gone.
        _ = tell.send(());
    })?;
    Ok(told)
}
