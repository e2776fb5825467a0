//! How the command line ends: its exit codes, and errors that say what, where, and how to mend it.

use std::io;
use std::path::Path;

use runner_store::dir::MAKING_THE_FOLDER;
use runner_store::error::{CallError, StoreError};

use crate::api::error::Problem;
use crate::node::NodeError;

/// Exit codes. They are documented in `--help` and never change their meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Done.
    Done = 0,
    /// It was tried, and failed.
    Failed = 1,
    /// What was asked for makes no sense.
    Usage = 2,
    /// There is no such thing.
    NotFound = 3,
    /// Not possible in the state that it is in.
    Conflict = 4,
    /// The server does not answer.
    Unreachable = 5,
    /// Not allowed.
    NotAllowed = 6,
    /// The store is damaged or foreign: do not restart.
    StoreDamaged = 7,
    /// Stopped after a storage error: restart, it checks.
    StoreFailed = 8,
    /// The store is in use, older, newer or missing.
    StoreUnavailable = 9,
    /// Waited for a job that was discarded.
    Discarded = 10,
    /// Waited for a job that was cancelled.
    Cancelled = 11,
    /// Waited, and the job has not ended.
    TimedOut = 12,
    /// The address is in use.
    AddressInUse = 13,
}

/// The exit codes, for `--help`.
pub const CODES_HELP: &str = "\
Exit codes: 0 done, 1 failed, 2 usage, 3 not found, 4 conflict, 5 unreachable, 6 not allowed, 7 store damaged or \
foreign (do not restart), 8 stopped after a storage error (restart: it checks), 9 store in use, older, newer or missing, \
13 address in use; `job wait` and `enqueue --wait`: 10 discarded, 11 cancelled, 12 timed out waiting.";

/// Why the command line did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The exit code.
    pub code: Code,
    /// One or more lines for people; empty: what there is to say was said.
    pub message: String,
}

impl Failure {
    /// A failure with this code and message.
    #[must_use]
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// What was asked for makes no sense.
    #[must_use]
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    /// A file could not be used.
    #[must_use]
    pub fn file(path: &Path, error: &io::Error) -> Self {
        let path = path.display();
        match error.kind() {
            io::ErrorKind::NotFound => Self::usage(format!("`{path}` does not exist; check the name")),
            io::ErrorKind::PermissionDenied => {
                Self::new(Code::NotAllowed, format!("`{path}`: permission denied; make it readable for this user"))
            }
            _ => Self::usage(format!("`{path}`: {error}")),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::InUse(_)
            | StoreError::Missing(_)
            | StoreError::FileGone { .. }
            | StoreError::Older { .. }
            | StoreError::Newer { .. } => Code::StoreUnavailable,
            StoreError::Exists { .. } => Code::Conflict,
            StoreError::Stopped(_) => Code::Failed,
            StoreError::Damaged { .. }
            | StoreError::Contradiction(_)
            | StoreError::Panicked(_)
            | StoreError::Unclean { .. }
            | StoreError::Foreign { .. } => Code::StoreDamaged,
            // Nothing was opened yet, and starting again finds the same in the way.
            StoreError::Io { doing: MAKING_THE_FOLDER, source, .. } if is_in_the_way(source.kind()) => {
                return Self::usage(format!("{error}; choose another folder, or remove what is in its place"));
            }
            // Its file system makes no folders, or this process's own was removed.
            StoreError::Io { doing: MAKING_THE_FOLDER, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                return Self::new(Code::NotAllowed, format!("{error}; choose a folder where this user may make files"));
            }
            StoreError::Io { source, .. } => match source.kind() {
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    return Self::new(Code::NotAllowed, format!("{error}; make the folder writable for this user"));
                }
                _ => Code::StoreFailed,
            },
            StoreError::Engine(_) => Code::StoreFailed,
        };
        Self::new(code, error.to_string())
    }
}

/// Whether a folder cannot be made because its path leads through, or to, something else.
fn is_in_the_way(kind: io::ErrorKind) -> bool {
    matches!(kind, io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename)
}

impl From<CallError> for Failure {
    fn from(error: CallError) -> Self {
        Self::new(Code::StoreFailed, error.to_string())
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Store(error) => error.into(),
            NodeError::Call(error) => error.into(),
            NodeError::Thread(_) | NodeError::LeaseKey(_) => Self::new(Code::Failed, error.to_string()),
        }
    }
}

impl From<Problem> for Failure {
    fn from(problem: Problem) -> Self {
        let code = match (problem.status, problem.code.as_str()) {
            (_, "outcome_unknown" | "store_failed" | "stopped") => Code::StoreFailed,
            (404 | 410, _) => Code::NotFound,
            (409, _) => Code::Conflict,
            (401 | 403, _) => Code::NotAllowed,
            (429, _) => Code::Failed,
            (400..500, _) => Code::Usage,
            _ => Code::Failed,
        };
        let message = match &problem.field {
            Some(field) => format!("{field}: {}", problem.detail),
            None => problem.detail,
        };
        Self::new(code, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A store on a read-only disk ended with "restart: it checks", which is of no help there.
    #[test]
    fn a_store_that_may_not_be_written_is_not_one_that_failed() {
        let check = |kind: io::ErrorKind, code| {
            let error = StoreError::Io { path: "data".into(), doing: "opening the store's file", source: kind.into() };
            let failure = Failure::from(error);
            assert_eq!(failure.code, code, "{}", failure.message);
            failure.message
        };
        for kind in [io::ErrorKind::ReadOnlyFilesystem, io::ErrorKind::PermissionDenied] {
            assert!(check(kind, Code::NotAllowed).ends_with("; make the folder writable for this user"));
        }
        check(io::ErrorKind::StorageFull, Code::StoreFailed);
    }

    /// Where no folder can be made, it ended with "restart: it checks", and there is nothing to check.
    #[test]
    fn a_store_that_was_never_made_is_not_one_that_failed() {
        let error = |doing| StoreError::Io { path: "/proc/a".into(), doing, source: io::ErrorKind::NotFound.into() };
        let failure = Failure::from(error(MAKING_THE_FOLDER));
        assert_eq!(failure.code, Code::NotAllowed, "{}", failure.message);
        assert!(failure.message.ends_with("; choose a folder where this user may make files"), "{}", failure.message);
        assert_eq!(Failure::from(error("opening the store's file")).code, Code::StoreFailed);
    }
}
