//! `traceparent`, as W3C Trace Context has it: `00-<trace>-<span>-<flags>`, in lower-case hexadecimal.

use std::fmt;

/// A span, and the trace that it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace: [u8; 16],
    /// The span.
    pub span: [u8; 8],
    /// Whether the trace is kept.
    pub sampled: bool,
}

impl Context {
    /// A new span: of this one's trace, or of a new one.
    #[must_use]
    pub fn under(parent: Option<&Self>) -> Self {
        match parent {
            Some(parent) => Self { span: random(), ..*parent },
            None => Self { trace: random(), span: random(), sampled: true },
        }
    }

    /// Reads a `traceparent`; none: it is none. Later versions may have more behind the flags.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace) = (bytes::<1>(parts.next()?)?, bytes::<16>(parts.next()?)?);
        let (span, [flags]) = (bytes::<8>(parts.next()?)?, bytes::<1>(parts.next()?)?);
        let known = version == [0];
        if version == [0xff] || (known && parts.next().is_some()) || trace == [0; 16] || span == [0; 8] {
            return None;
        }
        Some(Self { trace, span, sampled: flags & 1 == 1 })
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        write!(f, "00-{}-{}-{:02x}", hex(&self.trace), hex(&self.span), u8::from(self.sampled))
    }
}

/// An id that nobody else has; never all zeros, which would be none.
fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    while bytes == [0; N] {
        getrandom::fill(&mut bytes).expect("the system has random numbers, or nothing works");
    }
    bytes
}

/// What is wrong with a `traceparent`, if anything.
#[must_use]
pub fn traceparent_problem(text: &str) -> Option<&'static str> {
    const HOW: &str =
        "must be a W3C traceparent, for example \"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\"";
    Context::read(text).is_none().then_some(HOW)
}

fn bytes<const N: usize>(hex: &str) -> Option<[u8; N]> {
    let small = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    if hex.len() != 2 * N || !hex.as_bytes().iter().all(small) {
        return None;
    }
    let mut bytes = [0; N];
    for (i, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_it_is_specified() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let parent = Context::read(text).unwrap();
        assert_eq!((parent.trace[0], parent.span[7], parent.sampled), (0x4b, 0xb7, true));
        assert_eq!(parent.to_string(), text);
        let under = Context::under(Some(&parent));
        assert!(under.trace == parent.trace && under.span != parent.span && under.sampled);
        assert!(!Context::read(&text.replace("-01", "-00")).unwrap().sampled);
        assert!(
            Context::read(&text.replace("00-4", "01-4").replace("-01", "-01-more")).is_some(),
            "of a later version"
        );
        for wrong in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert!(traceparent_problem(wrong).is_some(), "{wrong}");
        }
    }
}
