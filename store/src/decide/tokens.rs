//! Tokens: made, used, confirmed, revoked.

use super::Batch;
use crate::command::{NewToken, Reply, TokenCall, TokenVerb};
use crate::engine::Change;
use crate::job::Rejection;
use crate::token::{TOKENS_MAX, Token, TokenHash};

impl Batch<'_> {
    pub(super) fn token(&mut self, call: &TokenCall) -> Result<Reply, Rejection> {
        let TokenCall { hash, verb } = call;
        let found = match self.tokens.get(hash) {
            Some(changed) => changed.clone(),
            None => self.set.tokens.get(hash).cloned(),
        };
        match (verb, found) {
            (TokenVerb::Create(_), Some(_)) => Err(Rejection::TokenExists),
            (TokenVerb::Create(new), None) => self.make_token(*hash, new),
            (_, None) => Err(Rejection::NoToken),
            (TokenVerb::Used(at), Some(token)) if token.used_at >= Some(*at) => Ok(Reply::Token(Box::new(token))),
            (TokenVerb::Used(at), Some(token)) => Ok(self.keep_token(*hash, Token { used_at: Some(*at), ..token })),
            (TokenVerb::Confirm(confirmed), Some(token)) if token.confirmed == *confirmed => {
                Ok(Reply::Token(Box::new(token)))
            }
            (TokenVerb::Confirm(confirmed), Some(token)) => {
                Ok(self.keep_token(*hash, Token { confirmed: *confirmed, ..token }))
            }
            (TokenVerb::Revoke, Some(token)) => {
                self.put_token(*hash, None);
                Ok(Reply::Token(Box::new(token)))
            }
        }
    }

    fn make_token(&mut self, hash: TokenHash, new: &NewToken) -> Result<Reply, Rejection> {
        let NewToken { name, tenant, scopes, expires_at } = new.clone();
        let mut scopes = scopes;
        scopes.sort_unstable();
        let (created_at, used_at, confirmed) = (self.now, None, true);
        let token = Token { name, tenant, scopes, created_at, expires_at, used_at, confirmed };
        token.check()?;
        let made = self
            .tokens
            .iter()
            .map(|(hash, token)| i64::from(token.is_some()) - i64::from(self.set.tokens.contains_key(hash)));
        if self.set.tokens_stored.saturating_add_signed(made.sum()) >= TOKENS_MAX {
            return Err(Rejection::TooManyTokens { max: TOKENS_MAX });
        }
        Ok(self.keep_token(hash, token))
    }

    fn keep_token(&mut self, hash: TokenHash, token: Token) -> Reply {
        self.put_token(hash, Some(token.clone()));
        Reply::Token(Box::new(token))
    }

    fn put_token(&mut self, hash: TokenHash, token: Option<Token>) {
        self.changes.push(Change::Token(hash, token.clone().map(Box::new)));
        self.tokens.insert(hash, token);
    }
}
