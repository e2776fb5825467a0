//! Where the log goes: stderr, as text on a terminal and as JSON elsewhere, filtered by `RUNNER_LOG` or `RUST_LOG`.

use std::borrow::Cow;
use std::io::{self, IsTerminal, Write};

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
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| OneLine(io::stderr()));
    if io::stderr().is_terminal() {
        let colours = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        // Only a second start in one process fails, and then the first log is as good.
        _ = log.with_ansi(colours).with_target(false).try_init();
    } else {
        _ = log.json().flatten_event(true).try_init();
    }
    Ok(())
}

/// Writes each event as one line: what a plugin says of itself may have newlines, and the next line would look like an event
/// of ours. The subscriber escapes what a terminal obeys, and hands over an event at a time.
struct OneLine<W>(W);

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        self.0.write_all(&one_line(event)).map(|()| event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

fn one_line(event: &[u8]) -> Cow<'_, [u8]> {
    let (text, end) = event.strip_suffix(b"\n").map_or((event, &b""[..]), |text| (text, b"\n"));
    if !text.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return Cow::Borrowed(event);
    }
    let escaped = text.iter().flat_map(|byte| match byte {
        b'\n' => &b"\\n"[..],
        b'\r' => b"\\r",
        other => std::slice::from_ref(other),
    });
    Cow::Owned(escaped.chain(end).copied().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The story: a plugin's panic was said in the log with its newlines, and what stood behind one was read as an event.
    #[test]
    fn an_event_is_one_line_whatever_is_in_it() {
        let mut written = Vec::new();
        for event in ["one\n", "describe broke: a\r\n2026-01-01 ERROR forged\n\n", "no end"] {
            OneLine(&mut written).write_all(event.as_bytes()).expect("a vector takes everything");
        }
        assert_eq!(written, b"one\ndescribe broke: a\\r\\n2026-01-01 ERROR forged\\n\nno end");
    }
}
