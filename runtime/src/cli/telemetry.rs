//! Where the log goes: stderr, as text on a terminal and as JSON elsewhere, filtered by `RUNNER_LOG` or `RUST_LOG`.

use std::borrow::Cow;
use std::fmt::Write as _;
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
    if let Some(("RUNNER_LOG", text)) = &named
        && let Some(word) = no_level(text)
    {
        let why = format!(
            "RUNNER_LOG={text}: `{word}` is no level; write error, warn, info, debug, trace or off, or `{word}=debug` if it is a \
             part of the program"
        );
        return Err(Failure::usage(why));
    }
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

/// A word of a filter that is no level: it is taken for a part of the program, and of all others nothing is said.
fn no_level(filter: &str) -> Option<&str> {
    const LEVELS: [&str; 6] = ["error", "warn", "info", "debug", "trace", "off"];
    let is_level = |word: &str| LEVELS.iter().any(|level| word.eq_ignore_ascii_case(level));
    let mut words = filter.split(',').map(str::trim);
    words.find(|word| !word.is_empty() && word.chars().all(|c| c.is_ascii_alphabetic()) && !is_level(word))
}

/// Writes each event as one line without a control character: what a plugin says of itself may have newlines, and the next
/// line would look like an event of ours; and JSON leaves alone what some terminals obey, DEL and U+0080 to U+009F. The
/// subscriber hands over an event at a time.
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
    let (text, end) = event.strip_suffix(b"\n").map_or((event, ""), |text| (text, "\n"));
    let text = String::from_utf8_lossy(text);
    // An escape of a colour is the subscriber's own; what was in the event it has escaped.
    let obeyed = |c: char| c.is_control() && c != '\u{1b}' && c != '\t';
    if !text.contains(obeyed) {
        return Cow::Borrowed(event);
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match c {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            c if obeyed(c) => _ = write!(escaped, "\\u{:04x}", u32::from(c)),
            c => escaped.push(c),
        }
    }
    escaped.push_str(end);
    Cow::Owned(escaped.into_bytes())
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

    /// The story: the name of a file in the plugins' folder stood in the log with a U+009B, which begins an escape as ESC [ does.
    #[test]
    fn what_a_terminal_obeys_is_written_as_an_escape_of_json() {
        let event = "{\"path\":\"plugins/x\u{9b}2J\u{7f}.wasm é\"}\n".as_bytes();
        assert_eq!(one_line(event).as_ref(), "{\"path\":\"plugins/x\\u009b2J\\u007f.wasm é\"}\n".as_bytes());
    }
}
