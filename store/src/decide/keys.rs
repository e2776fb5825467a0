//! Calls that are safe to repeat: a caller names one with an idempotency key, and is answered the same again.

use super::Batch;
use crate::command::{Enqueued, IdempotencyKey, Reply, RunRef, limits};
use crate::engine::{Change, KeyRecord, KeyRef, Needs};
use crate::job::{Invalid, Millis, Rejection, TenantId};

/// How long a call with a key is remembered.
const KEY_KEPT: Millis = Millis::secs(24 * 3_600);
/// Remembered calls that are forgotten with each new one: more than one, so that they cannot pile up.
const KEYS_FORGOTTEN_PER_CALL: u32 = 2;

pub(super) fn needs(tenant: TenantId, key: &IdempotencyKey, needs: &mut Needs) {
    needs.keys.insert(KeyRef::of(tenant, &key.key));
    needs.expired_keys += KEYS_FORGOTTEN_PER_CALL;
}

pub(super) fn need_finish(run: RunRef, needs: &mut Needs) {
    needs.keys.insert(key_of_finish(run));
    needs.expired_keys += KEYS_FORGOTTEN_PER_CALL;
}

/// What the finish of a run is remembered by: as it begins with a zero, no caller's key is like it, which is of visible
/// characters.
fn key_of_finish(run: RunRef) -> KeyRef {
    KeyRef::of(run.at.tenant, &format!("\0finish/{}/{}", run.at.job, run.run))
}

impl Batch<'_> {
    /// The answer to the same finish before; another one of the same run comes too late.
    pub(super) fn repeated_finish(&self, run: RunRef, request: [u8; 32]) -> Result<Option<Reply>, Rejection> {
        let at = key_of_finish(run);
        match self.keys.get(&at).or_else(|| self.set.keys.get(&at)) {
            None => Ok(None),
            Some(record) if record.request == request => Ok(Some(Reply::Finished(record.answer.clone()))),
            Some(_) => Err(Rejection::Stale { said: run.run }),
        }
    }

    /// Remembers what was answered to a finish.
    pub(super) fn remember_finish(&mut self, run: RunRef, request: [u8; 32], answer: Vec<Enqueued>) {
        self.put_key(key_of_finish(run), request, answer);
    }

    /// The answer to an earlier call with this key, which is not that of a list.
    pub(super) fn repeated_call(&self, at: KeyRef, key: &IdempotencyKey) -> Result<Option<Reply>, Rejection> {
        check(key)?;
        self.repeated(at, key.request)
    }

    /// Remembers what was answered to a call with a key.
    pub(super) fn remember(&mut self, at: KeyRef, key: &IdempotencyKey, answer: Vec<Enqueued>) {
        self.put_key(at, key.request, answer);
    }

    fn put_key(&mut self, at: KeyRef, request: [u8; 32], answer: Vec<Enqueued>) {
        if let Some(old) = self.set.keys.get(&at) {
            // It has run out, or we would not be here; its successor must not be forgotten in its place.
            self.changes.push(Change::ForgetKey(at, old.until));
        }
        let record = KeyRecord { request, until: self.now.after(KEY_KEPT), answer };
        self.keys.insert(at, record.clone());
        self.changes.push(Change::Key(at, record));
    }

    /// The answer to an earlier call with this key.
    pub(super) fn repeated(&self, at: KeyRef, request: [u8; 32]) -> Result<Option<Reply>, Rejection> {
        let Some(record) = self.keys.get(&at).or_else(|| self.set.keys.get(&at)) else { return Ok(None) };
        // While the clock is not to be trusted, what is still there has not run out.
        if record.until <= self.now && self.conduct.destroy {
            return Ok(None);
        }
        if record.request != request && !cfg!(planted = "key_answers_foreign_request") {
            return Err(Rejection::KeyReused);
        }
        let again = record.answer.iter().map(|job| Enqueued { duplicate: true, ..*job });
        Ok(Some(Reply::Enqueued(again.collect())))
    }

    /// Drops what no call needs any more.
    pub(super) fn forget_keys(&mut self) {
        if self.conduct.destroy {
            for (at, until) in &self.set.expired_keys {
                self.changes.push(Change::ForgetKey(*at, *until));
            }
        }
    }
}

/// Checks the bounds of a key.
pub(super) fn check(key: &IdempotencyKey) -> Result<(), Invalid> {
    let fits = (1..=limits::KEY_BYTES_MAX).contains(&key.key.len());
    let why = || format!("must be 1 to {} bytes long", limits::KEY_BYTES_MAX);
    if fits { Ok(()) } else { Err(Invalid { field: "Idempotency-Key".to_owned(), why: why() }) }
}
