//! Tells by a file's first bytes what it is, before anything parses it.
//!
//! Half of all broken plugins are not Wasm at all: a download page, an archive, a native library, a text. Each gets
//! its own sentence. Knows nothing of what is inside a module.

use super::plugin::{Flavour, PluginError};

const MAGIC: &[u8] = b"\0asm";
const CORE: [u8; 4] = [1, 0, 0, 0];
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];

/// What the header says the file is.
pub(super) fn flavour(bytes: &[u8]) -> Result<Flavour, PluginError> {
    if bytes.is_empty() {
        return Err(PluginError::Empty);
    }
    if !bytes.starts_with(MAGIC) {
        let truncated = bytes.len() < MAGIC.len() && MAGIC.starts_with(bytes);
        return Err(if truncated { PluginError::Truncated } else { foreign(bytes) });
    }
    let Some(version) = bytes.get(4..8) else { return Err(PluginError::Truncated) };
    if version == COMPONENT {
        Ok(Flavour::Component)
    } else if version == CORE {
        Ok(Flavour::Command)
    } else {
        Err(PluginError::UnknownVersion { version: version.iter().map(|b| format!("{b:02x}")).collect() })
    }
}

fn foreign(bytes: &[u8]) -> PluginError {
    if wasmtime::Engine::detect_precompiled(bytes).is_some() {
        return PluginError::Precompiled;
    }
    let found = match bytes {
        [0x7f, b'E', b'L', b'F', ..] => "a native program or library (ELF)",
        [b'P', b'K', 3 | 5, ..] => "a zip archive",
        [0x1f, 0x8b, ..] => "a gzip archive",
        [b'M', b'Z', ..] => "a Windows program",
        [0xfe | 0xcf, 0xed | 0xfa, 0xfa | 0xed, 0xce | 0xcf | 0xfe, ..] => "a macOS program",
        [b'!', b'<', b'a', b'r', b'c', b'h', ..] => "a static library (ar)",
        _ => text_like(bytes),
    };
    PluginError::NotWasm { found }
}

fn text_like(bytes: &[u8]) -> &'static str {
    /// Enough to tell a text from anything else.
    const LOOKED_AT: usize = 512;
    let start = &bytes[..bytes.len().min(LOOKED_AT)];
    let text = String::from_utf8_lossy(start).trim_start().to_ascii_lowercase();
    let binary = start.iter().any(|b| *b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r' | 0x0c));
    if text.starts_with("<!doctype html") || text.starts_with("<html") {
        "an HTML page (an error page of a download?)"
    } else if text.starts_with("(module") || text.starts_with("(component") {
        "WebAssembly in text form (make it binary with `wat2wasm` or `wasm-tools parse`)"
    } else if binary {
        "binary data of another kind"
    } else {
        "a text"
    }
}
