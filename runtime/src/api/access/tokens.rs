//! The tokens that a process knows: those of the store, and the one that it was started with. By their hashes, in memory, so
//! that a request asks no store; what changes them goes through here, and holds at once.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use runner_store::Handle;
use runner_store::command::{Answer, Command, NewToken, Query, Reply, TokenCall, TokenVerb};
use runner_store::disk::Room;
use runner_store::error::StoreError;
use runner_store::job::Time;
use runner_store::token::{Token, TokenHash, TokenScope};
use tokio::sync::watch;

use super::super::error::Problem;

/// What every token begins with, so that scanners of leaked secrets know one.
pub const PREFIX: &str = "rnr_";
/// Random bytes of a token: 256 bits, which nobody guesses, so their plain SHA-256 can be kept.
const RANDOM_BYTES: usize = 32;
/// The longest that is looked up; one that an operator chose may be longer than ours.
const TEXT_BYTES_MAX: usize = 256;
/// The shortest that an operator may choose.
pub const CHOSEN_BYTES_MIN: usize = 32;
/// A token's last use is written at most so often: it is for people, and a write for each request would be one fsync more.
const USED_EVERY_MS: u64 = 60_000;
/// How long the request that notes it waits for that: a store that is busy has more to do.
const NOTED_WITHIN: Duration = Duration::from_millis(500);

/// See the module.
pub struct Tokens {
    held: RwLock<HashMap<TokenHash, Arc<Held>>>,
    /// The store's tokens could not be read: so nobody is taken for a caller of a store without any.
    unread: AtomicBool,
}

/// A token that is worth something, or was a moment ago.
pub struct Held {
    hash: TokenHash,
    token: Token,
    /// Whether it is of this process, not of the store.
    of_process: bool,
    used_ms: AtomicU64,
    /// Whether its time has come once: a clock that steps back does not bring it back.
    over: AtomicBool,
    gone: watch::Sender<bool>,
}

/// Why a text lets nobody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// Nobody made it, or it was revoked.
    Unknown,
    /// Its time is over.
    Expired,
    /// It came with a backup, and nobody has confirmed it.
    Unconfirmed,
}

impl Tokens {
    pub(super) fn load(store: &Handle) -> Self {
        let tokens = match read(store) {
            Ok(tokens) => tokens,
            Err(error) => {
                tracing::error!(%error, "the tokens cannot be read: only the store's owner is let in");
                return Self { held: RwLock::default(), unread: AtomicBool::new(true) };
            }
        };
        let held = tokens.into_iter().map(|(hash, token)| (hash, Held::new(hash, token, false)));
        Self { held: RwLock::new(held.collect()), unread: AtomicBool::new(false) }
    }

    /// Lets in whoever has this text, as an admin, for as long as the process lives.
    pub fn add_of_process(&self, text: &str, name: &str, now: Time) {
        let token = Token {
            name: name.to_owned(),
            tenant: None,
            scopes: vec![TokenScope::Admin],
            created_at: now,
            expires_at: None,
            used_at: None,
            confirmed: true,
        };
        let hash = TokenHash::of(text);
        self.write().insert(hash, Held::new(hash, token, true));
    }

    /// Whether there is none, so that whoever is on this machine may ask.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.read().is_empty() && !self.unread.load(Ordering::Relaxed)
    }

    /// Every token, oldest first.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Held>> {
        let mut all: Vec<_> = self.read().values().cloned().collect();
        all.sort_by_key(|held| (held.token.created_at, held.hash));
        all
    }

    /// Whose a text is. Compared by its hash, so that no time tells how much of a guess was right.
    ///
    /// # Errors
    /// Why it lets nobody in.
    pub fn find(&self, text: &str, now: Time) -> Result<Arc<Held>, Wrong> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(Wrong::Unknown);
        }
        let held = self.read().get(&TokenHash::of(text)).cloned().ok_or(Wrong::Unknown)?;
        held.check(now).map(|()| held)
    }

    /// Makes a token; answers it and its text, which is known to nobody afterwards. Durable when it returns.
    ///
    /// # Errors
    /// It breaks a rule, or the store did not take it.
    pub async fn create(&self, store: &Handle, new: NewToken) -> Result<(Arc<Held>, String), Problem> {
        let text = random();
        let hash = TokenHash::of(&text);
        let call = TokenCall { hash, verb: TokenVerb::Create(new) };
        let token = said(store, call).await?;
        let held = Held::new(hash, token, false);
        self.write().insert(hash, Arc::clone(&held));
        Ok((held, text))
    }

    /// Revokes a token: what it had begun ends, and durable when it returns.
    ///
    /// # Errors
    /// There is none of this id, it is not the store's, or the store did not answer.
    pub async fn revoke(&self, store: &Handle, id: &str) -> Result<(), Problem> {
        let found = self.read().values().find(|held| held.hash.id() == id).cloned();
        let no_token = || {
            Problem::new(
                StatusCode::NOT_FOUND,
                "not_found",
                "there is no token of this id: `runner token list` has the ids",
            )
        };
        let held = found.ok_or_else(no_token)?;
        if held.of_process {
            let detail = format!("the server was started with it: take {} away and start it again", held.token.name);
            return Err(Problem::new(StatusCode::CONFLICT, "from_environment", detail));
        }
        said(store, TokenCall { hash: held.hash, verb: TokenVerb::Revoke }).await?;
        self.write().remove(&held.hash);
        held.gone.send_replace(true);
        if self.is_empty() {
            tracing::warn!("the last token was revoked: a loopback address lets in everyone on this machine again");
        }
        Ok(())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, HashMap<TokenHash, Arc<Held>>> {
        self.held.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<TokenHash, Arc<Held>>> {
        self.held.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    fn new(hash: TokenHash, token: Token, of_process: bool) -> Arc<Self> {
        let used_ms = AtomicU64::new(token.used_at.map_or(0, |at| at.0));
        let (over, gone) = (AtomicBool::new(false), watch::Sender::new(false));
        Arc::new(Self { hash, token, of_process, used_ms, over, gone })
    }

    /// What is known of it.
    #[must_use]
    pub fn token(&self) -> &Token {
        &self.token
    }

    /// What people call it by.
    #[must_use]
    pub fn id(&self) -> String {
        self.hash.id()
    }

    /// Whether the server was started with it.
    #[must_use]
    pub fn is_of_process(&self) -> bool {
        self.of_process
    }

    /// When it was used last, to a minute or so.
    #[must_use]
    pub fn used_at(&self) -> Option<Time> {
        Some(self.used_ms.load(Ordering::Relaxed)).filter(|ms| *ms > 0).map(Time)
    }

    /// Whether it is worth something now.
    ///
    /// # Errors
    /// Why it is not.
    pub fn check(&self, now: Time) -> Result<(), Wrong> {
        if *self.gone.borrow() {
            return Err(Wrong::Unknown);
        }
        if !self.token.confirmed {
            return Err(Wrong::Unconfirmed);
        }
        if self.over.load(Ordering::Relaxed) || self.token.is_over(now) {
            self.over.store(true, Ordering::Relaxed);
            return Err(Wrong::Expired);
        }
        Ok(())
    }

    /// Becomes true when it is revoked.
    #[must_use]
    pub fn gone(&self) -> watch::Receiver<bool> {
        self.gone.subscribe()
    }

    /// Notes that it is used; now and then also in the store. That nobody could is nothing that a request should fail for.
    pub(in crate::api) async fn used(&self, store: &Handle, now: Time) {
        let known = self.used_ms.load(Ordering::Relaxed);
        if now.0 < known.saturating_add(USED_EVERY_MS) {
            return;
        }
        // Of several at once, one writes.
        let first = self.used_ms.compare_exchange(known, now.0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if first && !self.of_process && store.room() == Room::Plenty {
            let call = TokenCall { hash: self.hash, verb: TokenVerb::Used(now) };
            let noted = tokio::time::timeout(NOTED_WITHIN, store.call(Command::Token(Box::new(call)))).await;
            if !matches!(noted, Ok(Ok(_))) {
                tracing::debug!(token = %self.id(), "that a token was used is not noted");
            }
        }
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "token {}", self.id())
    }
}

/// A new text of a token, or of a session.
pub(super) fn random() -> String {
    format!("{PREFIX}{}", random_text())
}

/// 256 random bits, as text.
pub(super) fn random_text() -> String {
    let mut bytes = [0; RANDOM_BYTES];
    getrandom::fill(&mut bytes).expect("the system has random numbers, or nothing works");
    URL_SAFE_NO_PAD.encode(bytes)
}

async fn said(store: &Handle, call: TokenCall) -> Result<Token, Problem> {
    match store.call(Command::Token(Box::new(call))).await? {
        Reply::Token(token) => Ok(*token),
        Reply::Rejected(rejection) => Err(rejection.into()),
        other => unreachable!("the answer to a token is not {other:?}"),
    }
}

fn read(store: &Handle) -> Result<Vec<(TokenHash, Token)>, StoreError> {
    match store.snapshot()?.read(&Query::Tokens)? {
        Answer::Tokens(tokens) => Ok(tokens),
        other => unreachable!("tokens are answered with tokens, not with {other:?}"),
    }
}
