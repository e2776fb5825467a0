//! Puts a backup in the place of a store. The backup is copied, never opened: it stays as it is, and may lie where nothing
//! can be written. The copy is checked, begins an epoch of its own, and only then takes the place.
//!
//! ```text
//! DIR/restore.unfinished/       grows here: the copy, checked, its leases ended, checked again
//! DIR/replaced-20231114T…/      the store that was there, whole
//! ```

use std::fs;
use std::path::{Path, PathBuf};

use super::backup::Unfinished;
use super::failed::examine;
use super::{JOBS, MAKING_THE_FOLDER, Marker, SCHEMA, SLOTS, StoreDir, files};
use crate::clock::{Clock, for_names};
use crate::command::{
    Answer, Command, CountKey, EndBoots, EndLeases, EndedLease, Name, Query, Reply, TokenCall, TokenVerb, limits,
};
use crate::engine::Engine;
use crate::engine::redb::{Commit, Meta, Redb};
use crate::error::StoreError;
use crate::handle;
use crate::job::Time;
use crate::writer::step;

const UNFINISHED: &str = "restore.unfinished";

/// A store that was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Its epoch, its next numbers.
    pub meta: Meta,
    /// How many jobs there are of each state, queue and kind.
    pub counts: Vec<(CountKey, u64)>,
    /// What queues and kinds are called.
    pub names: Vec<(Name, u32)>,
    /// Runs that were ended, as their leases are void: they run again.
    pub interrupted: u32,
    /// Tokens that are in it, and whether they are worth something: else they wait to be confirmed, and let nobody in.
    pub tokens: (u64, Tokens),
    /// Where the store is that was there before.
    pub replaced: Option<PathBuf>,
}

/// What becomes of the tokens in a backup: some of them may have been revoked since it was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tokens {
    /// They are there, and let nobody in.
    #[default]
    Suspend,
    /// They let in whom they did when the backup was made.
    Keep,
}

/// Tokens that are changed in one step.
const TOKENS_A_STEP: usize = 1_000;

impl StoreDir {
    /// Restores `from` into this folder, which has no store, or one that is kept beside it if `replace` is true. Durable
    /// when it returns.
    ///
    /// # Errors
    /// The backup is none, is in use, is not clean, or has another schema; there is a store and it may not be replaced, or
    /// it is in use; or something could not be written. Then the folder is as it was.
    pub fn restore(&self, from: &Self, replace: bool, tokens: Tokens, now: Time) -> Result<Restored, StoreError> {
        let marker = from.restorable()?;
        if self.path().exists() && !self.path().is_dir() {
            return Err(self.foreign("is not a folder; a store is one"));
        }
        let real = |dir: &Self| std::fs::canonicalize(dir.path()).ok();
        if real(self).is_some() && real(self) == real(from) {
            return Err(StoreError::Exists {
                path: self.path().to_owned(),
                why: "is the backup itself; restore into another folder".to_owned(),
            });
        }
        let there = self.jobs().exists() || (self.marker_path().exists() && !self.unfinished_restore().exists());
        if there && !replace {
            return Err(StoreError::Exists {
                path: self.path().to_owned(),
                why: "has a store already; restore into another folder, or say --replace to keep this one beside the new one"
                    .to_owned(),
            });
        }
        // Held until the end, so that nobody opens what is about to be replaced.
        let (_held, old) = if self.jobs().exists() { self.take_old()? } else { (None, None) };
        files::make_folder(self.path()).map_err(|source| self.io(MAKING_THE_FOLDER, source))?;
        let unfinished = Unfinished::make(self.unfinished_restore())?;
        let restored = prepare(from, &unfinished.path().join(JOBS), old, tokens, now)?;
        let replaced = if there { self.keep_old(now)? } else { None };
        self.put_in_place(marker, unfinished)?;
        Ok(Restored { replaced, ..restored })
    }

    /// The marker of a backup that this program can restore.
    fn restorable(&self) -> Result<Marker, StoreError> {
        if !self.marker_path().exists() {
            return Err(StoreError::Missing(self.path().to_owned()));
        }
        let (marker, path) = (self.marker()?, self.path().to_owned());
        match marker.schema.cmp(&SCHEMA) {
            std::cmp::Ordering::Equal => Ok(marker),
            std::cmp::Ordering::Less => Err(StoreError::Older { path, found: marker.schema, known: SCHEMA }),
            std::cmp::Ordering::Greater => Err(StoreError::Newer { path, found: marker.schema, known: SCHEMA }),
        }
    }

    /// The lock of the store that is there, and its numbers, if it still says them: none may be given out again.
    fn take_old(&self) -> Result<(Option<fs::File>, Option<Meta>), StoreError> {
        let meta = match Redb::open(&self.jobs(), Clock::System, Commit::TwoPhase) {
            Ok(engine) => Some(engine.meta()?),
            Err(StoreError::InUse(_)) => return Err(StoreError::InUse(self.path().to_owned())),
            // It is damaged, which may well be why something is restored.
            Err(error) => {
                tracing::warn!(%error, "the store that is replaced cannot be read; ids that it gave out last may come again");
                None
            }
        };
        match files::lock(&self.jobs()).map_err(|source| self.io("locking the store that is replaced", source))? {
            Some(held) => Ok((Some(held), meta)),
            None => Err(StoreError::InUse(self.path().to_owned())),
        }
    }

    /// Keeps the store that is there under a name with the time, as a store's folder. It stays where it is as well, until
    /// the new one takes its name: so there is a store at every moment.
    fn keep_old(&self, now: Time) -> Result<Option<PathBuf>, StoreError> {
        let io = |source| self.io("keeping the store that is replaced", source);
        let kept = Self::new(self.path().join(format!("replaced-{}", for_names(now))));
        files::make_folder(kept.path()).map_err(io)?;
        if self.jobs().exists() {
            let linked = fs::hard_link(self.jobs(), kept.jobs());
            // Some file systems have no second names.
            linked.or_else(|_| files::copy_file(&self.jobs(), &kept.jobs())).map_err(io)?;
        }
        for (file, kept) in [
            (self.failed_marker(), kept.failed_marker()),
            (self.slots(), kept.path().join(SLOTS)),
            (self.marker_path(), kept.marker_path()),
        ] {
            if file.exists() {
                files::copy_file(&file, &kept).map_err(io)?;
            }
        }
        files::sync_folder(kept.path()).map_err(io)?;
        Ok(Some(kept.path().to_owned()))
    }

    /// The copy takes the store's place. The marker first: a marker without a file is refused, and so never taken for a
    /// folder in which a store may be made.
    fn put_in_place(&self, marker: Marker, unfinished: Unfinished) -> Result<(), StoreError> {
        let io = |source| self.io("putting the restored store in its place", source);
        files::sync_file(&unfinished.path().join(JOBS)).map_err(io)?;
        self.write_marker(marker)?;
        fs::rename(unfinished.path().join(JOBS), self.jobs()).map_err(io)?;
        // What they say is about the store that was there.
        for file in [self.slots(), self.failed_marker()] {
            if file.exists() {
                fs::remove_file(file).map_err(io)?;
            }
        }
        drop(unfinished);
        files::sync_folder(self.path()).map_err(io)
    }

    fn unfinished_restore(&self) -> PathBuf {
        self.path().join(UNFINISHED)
    }
}

/// Copies a backup's file, checks it, begins its epoch, ends its leases, and checks it again.
fn prepare(
    from: &StoreDir,
    path: &Path,
    replaced: Option<Meta>,
    tokens: Tokens,
    now: Time,
) -> Result<Restored, StoreError> {
    let io = |source| StoreError::Io { path: path.to_owned(), doing: "copying the backup to here", source };
    let Some(held) = files::lock(&from.jobs()).map_err(io)? else {
        return Err(StoreError::InUse(from.path().to_owned()));
    };
    files::copy_file(&from.jobs(), path).map_err(io)?;
    drop(held);
    let clock = Clock::manual(now);
    let damaged = |why: String| StoreError::Foreign { path: from.path().to_owned(), why };
    let mut engine = Redb::open(path, clock, Commit::TwoPhase).map_err(|error| match error {
        StoreError::Foreign { why, .. } => damaged(why),
        other => other,
    })?;
    ensure_clean(&mut engine, "the backup").map_err(damaged)?;
    let meta = engine.begin_epoch(replaced)?;
    let interrupted = end_leases(&mut engine)?;
    let tokens = (confirm(&mut engine, tokens)?, tokens);
    ensure_clean(&mut engine, "what was restored").map_err(StoreError::Contradiction)?;
    let (counts, names) = counts(&engine)?;
    Ok(Restored { meta, counts, names, interrupted, tokens, replaced: None })
}

fn ensure_clean(engine: &mut Redb, what: &str) -> Result<(), String> {
    let report = examine(engine).map_err(|error| format!("{what} is damaged: {error}"))?;
    match report.findings.first() {
        Some(first) => Err(format!("{what} is damaged: {} things wrong, the first: {first}", report.wrong)),
        None => Ok(()),
    }
}

/// Ends every run: whoever holds a lease of the time before may not speak for it any more.
fn end_leases(engine: &mut Redb) -> Result<u32, StoreError> {
    let living = super::new_boot();
    let mut ended = 0;
    loop {
        let command = Command::EndBoots(EndBoots { living, started: Vec::new(), settings: Vec::new() });
        let (decision, _) = step(engine, &[command])?;
        match decision.replies.first() {
            Some(Reply::Ended { crashed, interrupted, more }) => {
                ended += crashed + interrupted;
                if !more {
                    return Ok(ended + void_leases(engine)?);
                }
            }
            other => return Err(StoreError::Contradiction(format!("an unexpected reply: {other:?}"))),
        }
    }
}

/// The same of those that external workers hold.
fn void_leases(engine: &mut Redb) -> Result<u32, StoreError> {
    let mut ended = 0;
    let view = engine.reader().snapshot()?;
    let Answer::Counts(counts) = view.read(&Query::Counts)? else { return Ok(0) };
    let counts: Vec<(CountKey, i64)> = counts.into_iter().map(|(key, n)| (key, n.cast_signed())).collect();
    let leases = handle::leases(view.as_ref(), &counts)?;
    drop(view);
    for some in leases.chunks(limits::ENDED_RUNS_MAX as usize) {
        let runs = some.iter().map(|(run, _)| EndedLease { run: *run, log: None }).collect();
        let command = Command::EndLeases(Box::new(EndLeases { runs, crashed: false, settings: Vec::new() }));
        let (decision, _) = step(engine, &[command])?;
        match decision.replies.first() {
            Some(Reply::Ended { interrupted, .. }) => ended += interrupted,
            other => return Err(StoreError::Contradiction(format!("an unexpected reply: {other:?}"))),
        }
    }
    Ok(ended)
}

/// Says of each token whether it lets anybody in; answers how many there are.
fn confirm(engine: &mut Redb, tokens: Tokens) -> Result<u64, StoreError> {
    let all = match engine.reader().snapshot()?.read(&Query::Tokens)? {
        Answer::Tokens(all) => all,
        other => return Err(StoreError::Contradiction(format!("an unexpected answer: {other:?}"))),
    };
    let verb = TokenVerb::Confirm(tokens == Tokens::Keep);
    let command = |hash| Command::Token(Box::new(TokenCall { hash, verb: verb.clone() }));
    let commands: Vec<Command> = all.iter().map(|(hash, _)| command(*hash)).collect();
    for some in commands.chunks(TOKENS_A_STEP) {
        let (decision, _) = step(engine, some)?;
        if let Some(other) = decision.replies.iter().find(|reply| !matches!(reply, Reply::Token(_))) {
            return Err(StoreError::Contradiction(format!("an unexpected reply: {other:?}")));
        }
    }
    Ok(all.len() as u64)
}

type Counted = (Vec<(CountKey, u64)>, Vec<(Name, u32)>);

fn counts(engine: &Redb) -> Result<Counted, StoreError> {
    let view = engine.reader().snapshot()?;
    match (view.read(&Query::Counts)?, view.read(&Query::Names)?) {
        (Answer::Counts(counts), Answer::Names(names)) => Ok((counts, names)),
        other => Err(StoreError::Contradiction(format!("an unexpected answer: {other:?}"))),
    }
}
