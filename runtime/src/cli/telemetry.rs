//! Where the log goes: stderr, as text on a terminal and as JSON elsewhere, filtered by `RUNNER_LOG` or `RUST_LOG`.

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use super::exit::Failure;

/// Starts the log; `default` is the filter where nobody names one.
///
/// # Errors
/// The filter makes no sense.
pub(super) fn start(default: &str) -> Result<(), Failure> {
    let named = ["RUNNER_LOG", "RUST_LOG"].into_iter().find_map(|name| {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some((name, text))
    });
    let filter = match &named {
        Some((name, text)) => EnvFilter::try_new(text)
            .map_err(|error| Failure::usage(format!("{name}={text}: {error}; write for example {name}=info")))?,
        None => EnvFilter::new(default),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    if io::stderr().is_terminal() {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        // Only a second start in one process fails, and then the first log is as good.
        _ = log.with_ansi(colours).with_target(false).try_init();
    } else {
        _ = log.json().flatten_event(true).try_init();
    }
    Ok(())
}
