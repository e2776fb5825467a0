//! Bare scripts: `NAME.js` in a plugin folder, run by an engine that is itself a plugin.
//!
//! The engine is a component like any other and is compiled once; a script is text that goes into each run's `meta`, so it has
//! the limits, the grants and the sandbox of every plugin. Where the engine could evaluate it when it was loaded, runs begin with
//! the engine's memory as it was then (`image`), and the text stays here. Its version is its own digest. It deliberately knows
//! nothing of the language: what a script must look like is the engine's to say.

use std::sync::Arc;

use super::plugin::PluginError;
use super::run::JobView;

/// The engine's file, in the plugin folder itself, whosever the script is: a tenant brings none of its own.
pub(super) const ENGINE_FILE: &str = "js-engine.wasm";
/// How a script's file ends.
pub(super) const SCRIPT_SUFFIX: &str = ".js";
/// A script goes into the guest anew for every run, and is parsed there.
pub(super) const SCRIPT_BYTES_MAX: u64 = 1 << 20;
/// What the engine looks for in the job's `meta`.
const META_TEXT: &str = "script";
const META_NAME: &str = "script-name";

/// A script that an engine runs.
#[derive(Debug, Clone)]
pub(super) struct Script {
    /// As errors call it: its file's name.
    file: Arc<str>,
    text: Arc<str>,
}

impl Script {
    /// The script in a file's bytes.
    pub(super) fn new(file: &str, bytes: Vec<u8>) -> Result<Self, PluginError> {
        let text = String::from_utf8(bytes)
            .map_err(|error| PluginError::ScriptText { at: error.utf8_error().valid_up_to() })?;
        Ok(Self { file: file.into(), text: text.into() })
    }

    /// SHA-256 in hex: the version.
    pub(super) fn digest(&self) -> String {
        super::plugin::digest(self.text.as_bytes())
    }

    /// Its file's name.
    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.text.len() as u64
    }

    /// Gives the script to a run.
    pub(super) fn give_to(&self, job: &mut JobView) {
        job.meta.push((META_NAME.to_owned(), self.file.to_string()));
        job.meta.push((META_TEXT.to_owned(), self.text.to_string()));
    }
}
