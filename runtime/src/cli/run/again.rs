//! Rounds of a list: the first run of it is round 0, and `--again` begins another one once the newest has ended. Each is
//! enqueued under keys of its own, so that whatever was killed goes on instead of beginning anew.

use runner_store::Handle;
use runner_store::clock::Clock;
use runner_store::command::{Answer, Enqueued, Query};
use runner_store::job::{JobRef, TenantId};

use super::super::exit::Failure;
use super::super::output::note;
use crate::api::types::hex;

/// Rounds that are looked for behind the newest that was found: keys run out after a day, so there may be gaps.
const GAP_MAX: u32 = 64;

/// The key of a part of the list in this round.
pub(super) fn key(digest: &[u8; 32], round: u32, part: usize) -> String {
    format!("run:{}:{round}:{part}", hex(digest))
}

/// The round to go on with, or to begin.
pub(super) fn round(handle: &Handle, digest: &[u8; 32], parts: usize, again: bool) -> Result<u32, Failure> {
    let Some(newest) = newest(handle, digest)? else { return Ok(0) };
    if !again {
        return Ok(newest);
    }
    if has_ended(handle, digest, newest, parts)? {
        return Ok(newest + 1);
    }
    note("the newest run of this list has not ended: going on with it");
    Ok(newest)
}

fn newest(handle: &Handle, digest: &[u8; 32]) -> Result<Option<u32>, Failure> {
    let (mut newest, mut next) = (None, 0);
    while next <= newest.unwrap_or(0) + GAP_MAX {
        if remembered(handle, &key(digest, next, 0))?.is_some() {
            newest = Some(next);
        }
        next += 1;
    }
    Ok(newest)
}

/// Whether every part was accepted and each of its jobs has ended, or is gone.
fn has_ended(handle: &Handle, digest: &[u8; 32], round: u32, parts: usize) -> Result<bool, Failure> {
    for part in 0..parts {
        let Some(jobs) = remembered(handle, &key(digest, round, part))? else { return Ok(false) };
        let view = handle.snapshot()?;
        for job in jobs {
            let at = JobRef { tenant: TenantId::DEFAULT, job: job.id };
            if let Answer::Job(Some(row)) = view.read(&Query::Job(at))?
                && row.finalized_at().is_none()
            {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn remembered(handle: &Handle, key: &str) -> Result<Option<Vec<Enqueued>>, Failure> {
    let answer = handle.snapshot()?.read(&Query::Key(TenantId::DEFAULT, key.to_owned()))?;
    let Answer::Key(found) = answer else { unreachable!("the answer to a key is not {answer:?}") };
    let now = Clock::System.now();
    Ok(found.filter(|(until, _)| *until > now).map(|(_, jobs)| jobs))
}
