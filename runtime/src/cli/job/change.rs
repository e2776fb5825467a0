//! The verbs of `runner job` that change jobs: of single ones, or of all that a filter matches.

use std::process::ExitCode;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::super::client::Client;
use super::super::exit::{Code, Failure};
use super::super::output::{Format, note, print, print_json};
use super::super::{ask, enqueue};
use super::filter::Filters;
use super::{Common, each, path, post};
use crate::api::bulk::{Matched, OperationShown};
use crate::api::types::JobShown;

/// How often a running operation is asked how far it is.
const ASK_EVERY: Duration = Duration::from_millis(100);

/// Jobs by id, or by filter.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Which {
    /// The jobs
    ids: Vec<String>,
    /// All of this state
    #[arg(long, conflicts_with = "ids")]
    state: Option<String>,
    /// All of this queue
    #[arg(long, conflicts_with = "ids")]
    queue: Option<String>,
    /// All of this kind
    #[arg(long, conflicts_with = "ids")]
    kind: Option<String>,
    /// All with this tag
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "ids")]
    tag: Option<String>,
    #[command(flatten)]
    filters: Filters,
    /// All jobs there are
    #[arg(long, conflicts_with_all = ["ids", "state", "queue", "kind", "tag"])]
    all: bool,
    /// Do it to all that match; without it, only their number is printed
    #[arg(long)]
    yes: bool,
    #[command(flatten)]
    pub(super) common: Common,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Cancel {
    /// Why; stored with the jobs
    #[arg(long)]
    reason: Option<String>,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Retry {
    /// Without what an earlier run left to resume from
    #[arg(long, requires = "ids")]
    fresh: bool,
    /// Also those that were cancelled because of it, and because of them
    #[arg(long, requires = "ids")]
    with_dependents: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Delete {
    /// Also while it runs
    #[arg(long)]
    force: bool,
    /// Also while others wait for it: they go on as their own policies say
    #[arg(long)]
    cascade: bool,
    #[command(flatten)]
    which: Which,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Reschedule {
    /// The job
    id: String,
    /// So long from now, for example 5m
    #[arg(long, value_name = "DURATION", required_unless_present = "run_at", conflicts_with = "run_at")]
    delay: Option<String>,
    /// At this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    run_at: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Edit {
    /// The job
    id: String,
    /// New JSON for the handler; - reads it from stdin
    #[arg(long, value_name = "ARGS")]
    args: Option<String>,
    /// -32768 (first) to 32767 (last), or highest, high, default, low, lowest
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<String>,
    /// Run it at this time, RFC 3339
    #[arg(long, value_name = "TIME")]
    run_at: Option<String>,
    /// Attempts before it is given up
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Wall clock of one run, for example 30s
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// Discard it if it has not begun to run by this time, RFC 3339; none: never
    #[arg(long, value_name = "TIME|none")]
    expires_at: Option<String>,
    /// Free labels instead of those it has; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = enqueue::tag)]
    tags: Vec<(String, String)>,
    #[command(flatten)]
    common: Common,
}

impl Cancel {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let body = self.reason.as_ref().map(|reason| json!({ "reason": reason }));
        let more = body.clone().unwrap_or_else(|| json!({}));
        self.which.run("cancel", more, async |client, id| {
            post(client, id, "cancel", body.as_ref().map(Value::to_string)).await
        })
    }
}

impl Retry {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let verb = format!("retry?fresh={}&with_dependents={}", self.fresh, self.with_dependents);
        self.which.run("retry", json!({}), async |client, id| post(client, id, &verb, None).await)
    }
}

impl Delete {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let more = json!({ "force": self.force, "cascade": self.cascade });
        self.which.run("delete", more, async |client, id| {
            client.delete(&format!("{}?force={}&cascade={}", path(id), self.force, self.cascade)).await?;
            Ok(None)
        })
    }
}

impl Reschedule {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let body = match (&self.delay, &self.run_at) {
            (Some(delay), _) => json!({ "delay": delay }),
            (None, run_at) => json!({ "run_at": run_at }),
        };
        each(std::slice::from_ref(&self.id), &self.common, async |client, id| {
            post(client, id, "reschedule", Some(body.to_string())).await
        })
    }
}

impl Edit {
    pub(super) fn run(&self) -> Result<ExitCode, Failure> {
        let body = self.body()?;
        each(std::slice::from_ref(&self.id), &self.common, async |client, id| {
            client.patch(&path(id), body.clone()).await?.json().map(Some)
        })
    }

    fn body(&self) -> Result<String, Failure> {
        let mut fields = Vec::new();
        if let Some(text) = &self.args {
            let text =
                if text == "-" { String::from_utf8_lossy(&enqueue::stdin()?).into_owned() } else { text.clone() };
            // As it was written: args keep their bytes.
            fields.push(format!("\"args\":{}", enqueue::json(&text)?.get()));
        }
        let mut more = Map::new();
        let texts = [("priority", &self.priority), ("run_at", &self.run_at), ("timeout", &self.timeout)];
        for (name, value) in texts {
            more.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
        }
        more.extend(self.max_attempts.map(|n| ("max_attempts".to_owned(), json!(n))));
        if let Some(time) = &self.expires_at {
            let value = if time == "none" { Value::Null } else { json!(time) };
            more.insert("expires_at".to_owned(), value);
        }
        if !self.tags.is_empty() {
            let tags: Map<String, Value> = self.tags.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            more.insert("tags".to_owned(), Value::Object(tags));
        }
        fields.extend(more.iter().map(|(name, value)| format!("\"{name}\":{value}")));
        if fields.is_empty() {
            return Err(Failure::usage(
                "say what to change, for example --priority high; `runner job edit --help` lists it",
            ));
        }
        Ok(format!("{{{}}}", fields.join(",")))
    }
}

impl Which {
    /// Does something to each job that is named, or lets the server do it to all that match.
    pub(super) fn run(
        &self,
        verb: &str,
        more: Value,
        act: impl AsyncFn(&Client, &str) -> Result<Option<JobShown>, Failure>,
    ) -> Result<ExitCode, Failure> {
        if !self.ids.is_empty() {
            if let Some((name, _)) = self.filters.pairs().iter().find(|(_, value)| value.is_some()) {
                let option = name.replace('_', "-");
                return Err(Failure::usage(format!("jobs are named, and --{option} says which, too: keep one")));
            }
            return each(&self.ids, &self.common, act);
        }
        let Value::Object(mut body) = more else { unreachable!("what is said beside a filter is an object") };
        let filters = [("state", &self.state), ("queue", &self.queue), ("kind", &self.kind), ("tag", &self.tag)];
        let filters = filters.into_iter().chain(self.filters.pairs());
        let filtered = filters.clone().any(|(_, value)| value.is_some());
        if !filtered && !self.all {
            let message = format!(
                "say which jobs: their ids, or --state, --queue, --kind, --tag and the like, or --all; `runner job {verb} --help`"
            );
            return Err(Failure::usage(message));
        }
        for (name, value) in filters {
            body.extend(value.as_ref().map(|value| (name.to_owned(), json!(value))));
        }
        if self.all {
            body.insert("all".to_owned(), json!(true));
        }
        let to = format!("/v1/jobs/{verb}");
        ask(&self.common.target, async |client| bulk(client, (verb, &to), body, self.yes, self.common.output).await)
    }
}

/// Prints how many jobs match; then, if that is wanted, does it to them and waits for the end.
pub(in crate::cli) async fn bulk(
    client: &Client,
    (verb, to): (&str, &str),
    mut body: Map<String, Value>,
    yes: bool,
    format: Format,
) -> Result<ExitCode, Failure> {
    body.insert("dry_run".to_owned(), json!(true));
    let answer = client.post(to, None, Some(Value::Object(body.clone()).to_string())).await?;
    let Matched { matched, more } = answer.json()?;
    let at_least = if more { "at least " } else { "" };
    note(&format!("{at_least}{matched} jobs match"));
    if !yes {
        return Err(Failure::usage(format!("nothing was changed; --yes does it ({verb}) to all of them")));
    }
    body.remove("dry_run");
    let mut now: OperationShown = client.post(to, None, Some(Value::Object(body).to_string())).await?.json()?;
    while now.state == "running" {
        tokio::time::sleep(ASK_EVERY).await;
        now = client.get(&format!("/v1/operations/{}", now.operation)).await?.json()?;
    }
    match format {
        Format::Json => print_json(&now),
        Format::Table => print(&format!("{} of {} jobs changed\n", now.changed, now.looked_at)),
    }
    match now.error {
        None => Ok(ExitCode::SUCCESS),
        Some(error) => Err(Failure::new(Code::Failed, format!("it ended early: {error}; the same command goes on"))),
    }
}
