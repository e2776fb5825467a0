//! Tokens: made, used, confirmed and revoked; kept by their hashes, on both engines.

use runner_store::command::{Answer, Command, NewToken, Query, Reply, TenantSettings, TokenCall, TokenVerb};
use runner_store::command::{Scope, Settings};
use runner_store::job::{Invalid, Rejection, TenantId, Time};
use runner_store::token::{TOKEN_NAME_BYTES_MAX, TOKENS_MAX, Token, TokenHash, TokenScope};

use crate::world::*;

fn new(tenant: Option<TenantId>, scopes: &[TokenScope]) -> NewToken {
    NewToken { name: "shop".to_owned(), tenant, scopes: scopes.to_vec(), expires_at: None }
}

fn call(token: &str, verb: TokenVerb) -> Command {
    Command::Token(Box::new(TokenCall { hash: TokenHash::of(token), verb }))
}

fn create(token: &str) -> Command {
    call(token, TokenVerb::Create(new(Some(TENANT), &[TokenScope::Read, TokenScope::Enqueue])))
}

#[track_caller]
fn token(reply: Reply) -> Token {
    match reply {
        Reply::Token(token) => *token,
        other => panic!("{other:?}"),
    }
}

fn all(w: &World) -> Vec<(TokenHash, Token)> {
    match w.ask(&Query::Tokens) {
        Answer::Tokens(tokens) => tokens,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_token_is_kept_by_its_hash_until_it_is_revoked() {
    case(|w| {
        let made = token(w.call(create("rnr_a")));
        assert_eq!(
            (made.scopes.as_slice(), made.created_at),
            ([TokenScope::Enqueue, TokenScope::Read].as_slice(), START)
        );
        assert!(made.confirmed && made.used_at.is_none());
        assert_eq!(w.call(create("rnr_a")), Reply::Rejected(Rejection::TokenExists));
        token(w.call(create("rnr_b")));
        w.reopen();
        assert_eq!(all(w).len(), 2);
        assert!(all(w).contains(&(TokenHash::of("rnr_a"), made.clone())));
        assert_eq!(token(w.call(call("rnr_a", TokenVerb::Revoke))), made);
        assert_eq!(w.call(call("rnr_a", TokenVerb::Revoke)), Reply::Rejected(Rejection::NoToken));
        w.reopen();
        let left: Vec<TokenHash> = all(w).into_iter().map(|(hash, _)| hash).collect();
        assert_eq!(left, [TokenHash::of("rnr_b")]);
        assert_eq!(w.check().tokens.len(), 1);
    });
}

#[test]
fn calls_of_one_batch_see_each_other() {
    case(|w| {
        let used = call("rnr_a", TokenVerb::Used(Time(START.0 + 5)));
        let revoke = call("rnr_a", TokenVerb::Revoke);
        let replies = w.batch(&[create("rnr_a"), create("rnr_a"), used.clone(), revoke, used, create("rnr_a")]);
        assert_eq!(replies[1], Reply::Rejected(Rejection::TokenExists));
        assert_eq!(token(replies[2].clone()).used_at, Some(Time(START.0 + 5)));
        assert_eq!(replies[4], Reply::Rejected(Rejection::NoToken));
        assert_eq!(all(w), [(TokenHash::of("rnr_a"), token(replies[5].clone()))]);
    });
}

#[test]
fn the_last_use_is_the_latest_that_was_said() {
    case(|w| {
        w.call(create("rnr_a"));
        for (at, known) in [(50, 50), (20, 50), (51, 51)] {
            let used = token(w.call(call("rnr_a", TokenVerb::Used(Time(START.0 + at)))));
            assert_eq!(used.used_at, Some(Time(START.0 + known)));
        }
        assert!(!token(w.call(call("rnr_a", TokenVerb::Confirm(false)))).confirmed);
        assert!(token(w.call(call("rnr_a", TokenVerb::Confirm(true)))).confirmed);
    });
}

#[test]
fn there_are_so_many_tokens_and_one_that_is_revoked_makes_room() {
    case(|w| {
        let name = |n: u64| format!("rnr_{n}");
        for step in 0..10 {
            let some: Vec<Command> = (0..1_000).map(|n| create(&name(step * 1_000 + n))).collect();
            w.batch(&some);
        }
        let full = Reply::Rejected(Rejection::TooManyTokens { max: TOKENS_MAX });
        assert_eq!((all(w).len() as u64, w.call(create("rnr_more"))), (TOKENS_MAX, full.clone()));
        let revoke = call(&name(7), TokenVerb::Revoke);
        let replies = w.batch(&[revoke, create("rnr_more"), create("rnr_one_more")]);
        assert!(matches!(replies[1], Reply::Token(_)));
        assert_eq!(replies[2], full);
    });
}

#[track_caller]
fn check_refused(new: &NewToken, field: &str) {
    case(|w| {
        let reply = w.call(call("rnr_a", TokenVerb::Create(new.clone())));
        let Reply::Rejected(Rejection::Invalid(Invalid { field: refused, .. })) = reply else { panic!("{reply:?}") };
        assert_eq!((refused.as_str(), all(w).len()), (field, 0));
    });
}

#[test]
fn what_is_no_token_is_refused_by_its_field() {
    let read = || new(Some(TENANT), &[TokenScope::Read]);
    check_refused(&new(None, &[TokenScope::Read, TokenScope::Operate]), "tenant");
    check_refused(&new(None, &[TokenScope::Work]), "tenant");
    check_refused(&new(Some(TENANT), &[TokenScope::Admin]), "tenant");
    check_refused(&new(Some(TenantId::NONE), &[TokenScope::Read]), "tenant");
    check_refused(&new(Some(TENANT), &[]), "scopes");
    check_refused(&new(Some(TENANT), &[TokenScope::Read, TokenScope::Read]), "scopes");
    check_refused(&NewToken { name: String::new(), ..read() }, "name");
    check_refused(&NewToken { name: "x".repeat(TOKEN_NAME_BYTES_MAX + 1), ..read() }, "name");
    check_refused(&NewToken { name: "a\nb".to_owned(), ..read() }, "name");
    check_refused(&NewToken { expires_at: Some(START), ..read() }, "expires_at");
}

/// A tenant that was deleted takes no jobs, and one that has jobs is not deleted; whatever comes first in a batch.
#[test]
fn a_deleted_tenant_gets_no_jobs() {
    case(|w| {
        let set = |deleted| {
            Command::Set(Box::new(Settings::Tenant(TENANT, TenantSettings { deleted, ..TenantSettings::default() })))
        };
        let replies = w.batch(&[enqueue(vec![work()]), set(true)]);
        assert_eq!(replies[1], Reply::Rejected(Rejection::TenantNotEmpty { unfinished: 1 }));
        let id = ids(&replies[0])[0];
        let replies = w.batch(&[cancel(id), set(true), enqueue(vec![work()])]);
        assert!(matches!(replies[1], Reply::Set(_)), "{:?}", replies[1]);
        assert_eq!(replies[2], Reply::Rejected(Rejection::NoTenant));
        w.reopen();
        assert_eq!(w.call(enqueue(vec![work()])), Reply::Rejected(Rejection::NoTenant));
        let set_again = w.batch(&[set(false), enqueue(vec![work()])]);
        assert!(matches!(set_again[1], Reply::Enqueued(_)));
        let Answer::Settings(Settings::Tenant(_, now)) = w.ask(&Query::Settings(Scope::Tenant(TENANT))) else {
            panic!()
        };
        assert!(!now.deleted);
    });
}
