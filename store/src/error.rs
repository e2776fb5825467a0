//! The world failed: errors of engines and of the store's folder. What was merely not allowed is a
//! [`Rejection`](crate::job::Rejection) instead.

use std::path::PathBuf;

/// The store could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The engine failed. Whether the last batch is there after a restart is unknown.
    #[error("the storage engine failed: {0}")]
    Engine(String),
    /// A record cannot be read.
    #[error("damaged: table {table}, key {key}: {source}")]
    Damaged {
        /// Which table.
        table: &'static str,
        /// Which key, in hexadecimal.
        key: String,
        /// What is wrong.
        source: crate::codec::CodecError,
    },
    /// What is stored contradicts itself.
    #[error("damaged: {0}")]
    Contradiction(String),
    /// The engine panicked, as it does on some damaged pages.
    #[error("the storage engine panicked, as a damaged file makes it do: {0}")]
    Panicked(String),
    /// A file could not be used.
    #[error("{}: {doing}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// While doing what.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another process has it open.
    #[error("{}: another process has this store open; talk to it through its API (a server that compiles plugins answers once it is done), or stop it", .0.display())]
    InUse(PathBuf),
    /// There is no store.
    #[error("no store in {}: mount it, or make one with `runner store init {}`", .0.display(), .0.display())]
    Missing(PathBuf),
    /// The marker is there and the file is gone.
    #[error(
        "{}: the marker of a store is here but its file {file} is gone; put it back from where it went, or from a backup",
        dir.display()
    )]
    FileGone {
        /// The store's folder.
        dir: PathBuf,
        /// The file's name.
        file: &'static str,
    },
    /// Something else is there.
    #[error("{}: {why}", path.display())]
    Foreign {
        /// What.
        path: PathBuf,
        /// Why it is not taken for a store.
        why: String,
    },
    /// Made by an older program.
    #[error(
        "{}: the store has schema {found}, this program needs {known}; stop the old program for good, then bring the store \
         up to date with `runner store migrate {}`, which makes a backup first",
        path.display(), path.display()
    )]
    Older {
        /// Where.
        path: PathBuf,
        /// The store's schema.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It failed before, and the check that follows found it damaged.
    #[error(
        "{}: the store failed before ({failure}), and its check finds: {found}; restore a backup with `runner store restore`, \
         or take the store as it is with `runner store check --accept --data {}`",
        dir.display(), dir.display()
    )]
    Unclean {
        /// The store's folder.
        dir: PathBuf,
        /// How it failed.
        failure: String,
        /// What the check found.
        found: String,
    },
    /// Work that was told to stop before its end; what it had made is gone.
    #[error("{0}: stopped before the end; nothing of it is left")]
    Stopped(&'static str),
    /// Something is there already that may not be replaced.
    #[error("{}: {why}", path.display())]
    Exists {
        /// Where.
        path: PathBuf,
        /// What it is, and what to do.
        why: String,
    },
    /// Made by a newer program.
    #[error(
        "{}: the store has schema {found}, this program knows up to {known}; use the program that made it, or a newer one",
        path.display()
    )]
    Newer {
        /// Where.
        path: PathBuf,
        /// The store's schema.
        found: u32,
        /// Ours.
        known: u32,
    },
}

/// Why a call to the store has no reply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The store failed while it was busy with this call: it may or may not have happened.
    #[error("outcome unknown: the store failed while it recorded this: {0}")]
    Unknown(String),
    /// The store had failed or stopped before: nothing happened.
    #[error("the store has stopped; nothing happened")]
    Stopped,
}
