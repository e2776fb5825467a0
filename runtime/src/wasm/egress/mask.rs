//! Takes secrets out of an answer that repeats them. Pure; fed piece by piece, as the answer comes.
//!
//! A request's secret headers are for the server, and many a server shows what it was sent. Every occurrence of a
//! secret of at least [`SECRET_BYTES_MIN`] bytes is overwritten by `[secret]` and as many stars as it was longer: the
//! length stays, and with it `content-length` and whatever the format counts. Found are the secret itself and the
//! spellings that honest software gives it ([`spellings`]). A server that is in league with the plugin can spell it in
//! ways that nobody finds: a secret goes to whom the manifest names, and the operator decides whether to trust them.

use std::collections::BTreeSet;
use std::sync::Arc;

use aho_corasick::Anchored;
use aho_corasick::automaton::{Automaton, StateID};
use aho_corasick::nfa::contiguous::NFA;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;

/// Shorter ones occur by chance, and hiding them would tear holes into honest answers.
pub(super) const SECRET_BYTES_MIN: usize = 8;
/// What an occurrence begins with then.
const SHOWN_INSTEAD: &[u8; SECRET_BYTES_MIN] = b"[secret]";

/// All spellings of all secrets of one request; none if there are no secrets.
#[derive(Clone, Default)]
pub(super) struct Secrets(Option<Arc<Spellings>>);

struct Spellings {
    automaton: NFA,
    longest: usize,
}

/// Hides secrets in a stream of bytes.
pub(super) struct Mask {
    secrets: Secrets,
    state: Option<StateID>,
    /// Bytes since the automaton was last at its start: no match begins before them.
    open: usize,
    /// Bytes that were not given out, as a secret may begin in them.
    held: Vec<u8>,
}

impl Secrets {
    /// What to look for.
    ///
    /// # Errors
    /// There is too much of it.
    pub(super) fn new<'a>(secrets: impl IntoIterator<Item = &'a str>) -> Result<Self, String> {
        let long = secrets.into_iter().filter(|secret| secret.len() >= SECRET_BYTES_MIN);
        let all: BTreeSet<Vec<u8>> = long.flat_map(spellings).collect();
        let Some(longest) = all.iter().map(Vec::len).max() else { return Ok(Self(None)) };
        let automaton = NFA::new(&all).map_err(|error| format!("the secrets of the headers: {error}"))?;
        Ok(Self(Some(Arc::new(Spellings { automaton, longest }))))
    }

    /// Whether there is nothing to hide.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// Hides them in a whole text; none: there are none in it.
    pub(super) fn hidden(&self, text: &[u8]) -> Option<Vec<u8>> {
        if self.is_empty() {
            return None;
        }
        let mut mask = Mask::new(self.clone());
        let mut shown = mask.push(Bytes::copy_from_slice(text)).to_vec();
        shown.extend_from_slice(&mask.finish());
        (shown != text).then_some(shown)
    }
}

impl Mask {
    pub(super) fn new(secrets: Secrets) -> Self {
        let start = |spellings: &Arc<Spellings>| {
            spellings
                .automaton
                .start_state(Anchored::No)
                .expect("an automaton without a setting for it searches anywhere")
        };
        let state = secrets.0.as_ref().map(start);
        Self { secrets, state, open: 0, held: Vec::new() }
    }

    /// Takes the next piece and gives out what is certain by now.
    pub(super) fn push(&mut self, piece: Bytes) -> Bytes {
        let (Some(spellings), Some(mut state)) = (&self.secrets.0, self.state) else { return piece };
        let (automaton, longest) = (&spellings.automaton, spellings.longest);
        let mut bytes = std::mem::take(&mut self.held);
        let begin = bytes.len();
        bytes.extend_from_slice(&piece);
        // What is overwritten here is no longer looked at: the automaton is ahead of it.
        for (at, byte) in piece.into_iter().enumerate() {
            let end = begin + at + 1;
            state = automaton.next_state(Anchored::No, state, byte);
            self.open = if automaton.is_start(state) { 0 } else { (self.open + 1).min(longest) };
            if automaton.is_match(state) {
                // The longest of those that end here holds all others that do.
                let found = (0..automaton.match_len(state)).map(|i| automaton.match_pattern(state, i));
                let bytes_found = found.map(|pattern| automaton.pattern_len(pattern)).max().unwrap_or(0);
                overwrite(&mut bytes[end.saturating_sub(bytes_found)..end]);
            }
        }
        self.state = Some(state);
        self.held = bytes.split_off(bytes.len().saturating_sub(self.open));
        bytes.into()
    }

    /// Gives out the rest of what ended well. After an error it must not be asked: the rest may be half a secret.
    pub(super) fn finish(self) -> Bytes {
        self.held.into()
    }
}

fn overwrite(found: &mut [u8]) {
    found.fill(b'*');
    if let Some(begin) = found.get_mut(..SHOWN_INSTEAD.len()) {
        begin.copy_from_slice(SHOWN_INSTEAD);
    }
}

/// A secret as it is, in base64 wherever it stands in what is encoded (three phases, two alphabets), percent-encoded in
/// both cases and as a form, in hexadecimal digits of both cases, and within JSON and HTML.
fn spellings(secret: &str) -> Vec<Vec<u8>> {
    let mut all = vec![secret.as_bytes().to_vec()];
    for phase in 0..3 {
        let encode = [base64(&STANDARD_NO_PAD, secret, phase), base64(&URL_SAFE_NO_PAD, secret, phase)];
        all.extend(encode);
    }
    let upper = percent(secret, "0123456789ABCDEF");
    all.push(upper.replace("%20", "+").into_bytes());
    all.push(upper.into_bytes());
    all.push(percent(secret, "0123456789abcdef").into_bytes());
    all.push(secret.bytes().map(|b| format!("{b:02x}")).collect::<String>().into_bytes());
    all.push(secret.bytes().map(|b| format!("{b:02X}")).collect::<String>().into_bytes());
    let json = serde_json::Value::from(secret).to_string();
    let json = json.trim_start_matches('"').strip_suffix('"').unwrap_or_default();
    all.push(json.replace('/', "\\/").into_bytes());
    all.push(json.as_bytes().to_vec());
    for quote in ["&#39;", "&#x27;", "&apos;"] {
        let html = secret.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;");
        all.push(html.replace('\'', quote).into_bytes());
    }
    all
}

/// The characters that depend on the secret alone, when so many bytes (modulo 3) stand before it.
fn base64(engine: &impl base64::Engine, secret: &str, phase: usize) -> Vec<u8> {
    let mut bytes = vec![0; phase];
    bytes.extend_from_slice(secret.as_bytes());
    let encoded = engine.encode(&bytes).into_bytes();
    // Six bits a character: those that also have bits of what stands before or behind are left out.
    encoded[(phase * 8).div_ceil(6)..bytes.len() * 8 / 6].to_vec()
}

fn percent(secret: &str, digits: &str) -> String {
    let digit = |nibble: u8| char::from(digits.as_bytes()[usize::from(nibble)]);
    let encode = |b: u8| match b {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => String::from(char::from(b)),
        _ => format!("%{}{}", digit(b >> 4), digit(b & 15)),
    };
    secret.bytes().map(encode).collect()
}

#[cfg(test)]
mod tests;
