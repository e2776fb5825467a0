//! `runner token`: make tokens, list and revoke them.

use std::process::ExitCode;

use runner_store::token::TokenScope;
use serde_json::{Map, Value, json};

use super::ask;
use super::client::Common;
use super::exit::Failure;
use super::job::percent;
use super::output::{Format, Table, note, print, print_json};
use crate::api::access::table;
use crate::api::tokens::{TokenMade, TokensShown};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// Make a token, and print it: nobody sees it again
    #[command(after_help = "Example: runner token create shop --scope enqueue,read --tenant acme --expires-in 90d")]
    Create(Box<Create>),
    /// List tokens: whose they are, what they may be used for, when they were used last
    #[command(after_help = "Example: runner token list")]
    List(Common),
    /// Revoke a token: it is worth nothing any more, at once
    #[command(after_help = "Example: runner token revoke 0f3c5d8e9a1b2c3d")]
    Revoke {
        /// Its id, as `token list` shows it
        id: String,
        #[command(flatten)]
        common: Common,
    },
    /// Show what each scope may do
    #[command(after_help = "Example: runner token scopes")]
    Scopes,
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// What it is for, in a word
    name: String,
    /// What it may be used for: admin, operate, deploy, enqueue, read, work
    #[arg(long, value_name = "SCOPE", required = true, value_delimiter = ',', value_parser = scope)]
    scope: Vec<TokenScope>,
    /// Of all tenants: for admin, which always is, and for read
    #[arg(long, conflicts_with = "tenant")]
    all_tenants: bool,
    /// How long it is worth something, for example 90d; for ever if absent
    #[arg(long, value_name = "TIME")]
    expires_in: Option<String>,
    #[command(flatten)]
    common: Common,
}

fn scope(word: &str) -> Result<TokenScope, String> {
    let known = || TokenScope::ALL.map(TokenScope::as_str).join(", ");
    TokenScope::parse(word).ok_or_else(|| format!("there are {}", known()))
}

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::Create(args) => create(args),
        Verb::List(args) => ask(&args.target, async |client| {
            let TokensShown { tokens } = client.get("/v1/tokens").await?.json()?;
            if args.output == Format::Json {
                tokens.iter().for_each(print_json);
                return Ok(ExitCode::SUCCESS);
            }
            let mut table = Table::new(&["id", "name", "tenant", "scopes", "state", "expires", "last used"]);
            for token in tokens {
                let scopes = token.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
                let or = |value: Option<String>, none: &str| value.unwrap_or_else(|| none.to_owned());
                let (tenant, expires) = (or(token.tenant, "(all)"), or(token.expires_at, "never"));
                table.row([
                    token.id,
                    token.name,
                    tenant,
                    scopes,
                    token.state,
                    expires,
                    or(token.last_used_at, "never"),
                ]);
            }
            table.print("there are no tokens: whoever is on this machine may ask");
            Ok(ExitCode::SUCCESS)
        }),
        Verb::Revoke { id, common } => ask(&common.target, async |client| {
            client.delete(&format!("/v1/tokens/{}", percent(id))).await?;
            match common.output {
                Format::Json => print_json(&json!({ "id": id, "revoked": true })),
                Format::Table => print(&format!("revoked {id}\n")),
            }
            Ok(ExitCode::SUCCESS)
        }),
        Verb::Scopes => {
            print(&format!("{}\n", table::shown()));
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn create(args: &Create) -> Result<ExitCode, Failure> {
    let scopes: Vec<&str> = args.scope.iter().map(|scope| scope.as_str()).collect();
    let mut body = Map::from_iter([("name".to_owned(), json!(args.name)), ("scopes".to_owned(), json!(scopes))]);
    if args.all_tenants {
        body.insert("tenant".to_owned(), Value::Null);
    }
    if let Some(time) = &args.expires_in {
        body.insert("expires_in".to_owned(), json!(time));
    }
    ask(&args.common.target, async |client| {
        let body = Value::Object(body).to_string();
        let made: TokenMade = client.post("/v1/tokens", None, Some(body)).await?.json()?;
        if args.common.output == Format::Json {
            print_json(&made);
            return Ok(ExitCode::SUCCESS);
        }
        // Alone on stdout, so that a script has nothing to cut off.
        print(&format!("{}\n", made.token));
        let tenant = made.shown.tenant.map_or_else(|| "all tenants".to_owned(), |tenant| format!("tenant {tenant}"));
        note(&format!(
            "token {} of {tenant}; it is not shown again: keep it where RUNNER_TOKEN, or RUNNER_TOKEN_FILE, is set from",
            made.shown.id
        ));
        Ok(ExitCode::SUCCESS)
    })
}
