//! What is asked of tokens.

use crate::job::{TenantId, Time};
use crate::token::{TokenHash, TokenScope};

/// See [`Command::Token`](super::Command::Token).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenCall {
    /// Which.
    pub hash: TokenHash,
    /// What becomes of it.
    pub verb: TokenVerb,
}

/// What can become of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenVerb {
    /// It comes into being.
    Create(NewToken),
    /// It was used then. An earlier time than the one that is known changes nothing.
    Used(Time),
    /// Whether an operator trusts it after a restore.
    Confirm(bool),
    /// It is worth nothing any more, and forgotten.
    Revoke,
}

/// A token that comes into being.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Its name, for people.
    pub name: String,
    /// Whose; none: of all tenants.
    pub tenant: Option<TenantId>,
    /// What it may be used for, in any order.
    pub scopes: Vec<TokenScope>,
    /// From when on it is worth nothing.
    pub expires_at: Option<Time>,
}
