//! The store that is measured on: a temporary one, or one that was named and has no jobs.

use std::path::{Path, PathBuf};

use runner_store::Handle;
use runner_store::command::{Answer, Query};
use runner_store::dir::{Create, StoreDir};

use super::super::exit::{Code, Failure};
use super::super::open::{self, Open};
use super::Bench;
use super::measure::Figure;
use super::temporary::Temporary;

/// Where the store is. A temporary one goes with it.
pub(super) enum Place {
    Temporary(Temporary),
    Named(PathBuf),
}

impl Place {
    /// The folder that was named, or a temporary one here.
    pub(super) fn of(data: Option<&Path>) -> Result<Self, Failure> {
        match data {
            None => Ok(Self::Temporary(Temporary::make()?)),
            Some(data) => {
                let named = Self::Named(data.to_owned());
                named.look()?;
                Ok(named)
            }
        }
    }

    /// The folder that stays.
    pub(super) fn kept(&self) -> Option<&Path> {
        match self {
            Self::Temporary(_) => None,
            Self::Named(path) => Some(path),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Temporary(temporary) => temporary.store(),
            Self::Named(path) => path,
        }
    }

    /// Refuses a store that has jobs: they would be run, and be measured, too. One that rests would run nothing.
    fn look(&self) -> Result<(), Failure> {
        if !StoreDir::new(self.path()).exists() {
            return Ok(());
        }
        let Open { handle, writer, .. } = open::store(self.path(), Create::No, open::CommitMode::default())?;
        let jobs = jobs(&handle);
        let rests = handle.snapshot()?.read(&Query::Stored);
        drop(handle);
        writer.join();
        let mend = "leave out --data to measure on a store that is gone afterwards, or name a new folder";
        let path = self.path().display();
        let refused = |what: String| Err(Failure::new(Code::Conflict, format!("`{path}` {what}; {mend}")));
        match (jobs?, rests?) {
            (0, Answer::Stored(stored)) if stored.paused => refused("was restored, and runs nothing yet".to_owned()),
            (0, _) => Ok(()),
            (n, _) => refused(format!("has {n} jobs, which would be run and measured as well")),
        }
    }

    /// Opens the store, lets `part` measure on it, and closes it.
    pub(super) fn with_store(
        &self,
        bench: &Bench,
        figures: &mut Vec<Figure>,
        part: impl AsyncFnOnce(&Bench, &Handle, Option<&StoreDir>, &mut Vec<Figure>) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Open { handle, writer, dir, live } = open::store(self.path(), Create::NewFolder, bench.commit)?;
        let runtime = super::super::runtime()?;
        let measured = runtime.block_on(async {
            open::watch_room(&handle, live.as_ref());
            part(bench, &handle, dir.as_ref(), figures).await
        });
        let failure = handle.failure();
        drop(handle);
        drop(runtime);
        writer.join();
        super::super::failed_store(measured, failure, dir.as_ref())
    }
}

/// All jobs of all tenants.
fn jobs(store: &Handle) -> Result<u64, Failure> {
    match store.snapshot()?.read(&Query::Counts)? {
        Answer::Counts(counts) => Ok(counts.iter().map(|(_, n)| n).sum()),
        other => unreachable!("the answer to a question for counts is not {other:?}"),
    }
}
