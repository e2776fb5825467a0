//! Tokens: who may ask, for what, about whose jobs, until when. Of a token itself only its SHA-256 is kept: what was stored,
//! backed up or read by somebody else lets nobody in.
//!
//! What each scope may do is not said here: whoever serves requests says so.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::job::{Invalid, TenantId, Time};

/// Tokens of a store: all of them are read at once, and kept in memory by whoever serves requests.
pub const TOKENS_MAX: u64 = 10_000;
/// A token's name, which is for people.
pub const TOKEN_NAME_BYTES_MAX: usize = 100;

/// SHA-256 of a token.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TokenHash(pub [u8; 32]);

/// What a token may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TokenScope {
    /// Everything, of all tenants.
    Admin,
    /// Looking, enqueueing, and every verb on a tenant's jobs, queues, kinds and schedules.
    Operate,
    /// A tenant's plugins.
    Deploy,
    /// Enqueueing.
    Enqueue,
    /// Looking.
    Read,
    /// Taking runs, as an external worker.
    Work,
}

/// What is known of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its name, for people; several may have the same.
    pub name: String,
    /// Whose; none: of all tenants, as [`TokenScope::Admin`] always is, and [`TokenScope::Read`] may be.
    pub tenant: Option<TenantId>,
    /// What it may be used for, ascending; at least one.
    pub scopes: Vec<TokenScope>,
    /// When it was made.
    pub created_at: Time,
    /// From when on it is worth nothing; none: it does not expire.
    pub expires_at: Option<Time>,
    /// When it was used last, to a minute or so; none: never.
    pub used_at: Option<Time>,
    /// False after a restore: the store may be older than what was revoked since, so an operator confirms it, or not.
    pub confirmed: bool,
}

impl TokenScope {
    /// Every scope.
    pub const ALL: [Self; 6] = [Self::Admin, Self::Operate, Self::Deploy, Self::Enqueue, Self::Read, Self::Work];

    /// The word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Operate => "operate",
            Self::Deploy => "deploy",
            Self::Enqueue => "enqueue",
            Self::Read => "read",
            Self::Work => "work",
        }
    }

    /// The scope of that word.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|scope| scope.as_str() == word)
    }
}

impl TokenHash {
    /// Of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(crate::sha256(token.as_bytes()))
    }

    /// What people call the token by: the first 8 bytes, in hexadecimal. Of a random token this says nothing.
    #[must_use]
    pub fn id(&self) -> String {
        self.0[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenHash({}…)", self.id())
    }
}

impl Token {
    /// Whether every rule is kept that needs no store to be asked.
    ///
    /// # Errors
    /// The first rule that is broken.
    pub fn check(&self) -> Result<(), Invalid> {
        let invalid = |field: &str, why: String| Err(Invalid { field: field.to_owned(), why });
        if self.name.is_empty() || self.name.len() > TOKEN_NAME_BYTES_MAX {
            return invalid("name", format!("must have 1 to {TOKEN_NAME_BYTES_MAX} bytes"));
        }
        if self.name.chars().any(char::is_control) {
            return invalid("name", "must have no control characters".to_owned());
        }
        if self.scopes.is_empty() || !self.scopes.is_sorted_by(|one, next| one < next) {
            return invalid("scopes", "must name at least one scope, and each once".to_owned());
        }
        let of_all = |scope: &TokenScope| matches!(scope, TokenScope::Admin | TokenScope::Read);
        match self.tenant {
            None if !self.scopes.iter().all(of_all) => {
                invalid("tenant", "is missing: of all tenants are only admin, and read alone".to_owned())
            }
            Some(_) if self.scopes.contains(&TokenScope::Admin) => {
                invalid("tenant", "must be left out: admin is of all tenants".to_owned())
            }
            Some(TenantId::NONE) => invalid("tenant", "is nobody".to_owned()),
            _ if self.expires_at.is_some_and(|at| at <= self.created_at) => {
                invalid("expires_at", "has passed".to_owned())
            }
            _ => Ok(()),
        }
    }

    /// Whether it has expired.
    #[must_use]
    pub fn is_over(&self, now: Time) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}
