//! Where a command finds the operator's configuration: `--config`, or `runner.toml` in a folder that the command knows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::exit::Failure;
use super::output::note;
use crate::operator::Operator;

/// The name that a configuration has where it is not named.
pub(super) const FILE_NAME: &str = "runner.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Config {
    /// What plugins may do, and the containers, settings and secrets that they get
    #[arg(id = "config", long, value_name = "FILE", env = "RUNNER_CONFIG")]
    file: Option<PathBuf>,
}

impl Config {
    /// Reads the file that was named, or else the first `runner.toml` of these folders, or else what holds without one:
    /// plugins get what their manifests ask for. A file that nobody named is said on stderr, as it decides what is allowed.
    pub(super) fn load(&self, folders: &[&Path]) -> Result<Arc<Operator>, Failure> {
        let Some(path) = self.find(folders) else { return Ok(Arc::default()) };
        if self.file.is_none() {
            note(&format!("configuration: {}", path.display()));
        }
        Operator::load(&path).map(Arc::new).map_err(|error| Failure::usage(error.to_string()))
    }

    /// Where it is, if there is one.
    pub(super) fn find(&self, folders: &[&Path]) -> Option<PathBuf> {
        let found = || folders.iter().map(|folder| folder.join(FILE_NAME)).find(|path| path.symlink_metadata().is_ok());
        self.file.clone().or_else(found)
    }
}
