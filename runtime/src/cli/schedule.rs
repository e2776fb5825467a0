//! `runner schedule`: what is enqueued again and again, and when.

use std::process::ExitCode;

use serde_json::{Map, Value, json};

use super::client::{Client, Common};
use super::exit::Failure;
use super::job::percent;
use super::output::{Format, Table, print, print_json};
use super::{ask, enqueue, random_key};
use crate::api::schedules::{FiredShown, ScheduleShown, SchedulesPage};

#[derive(Debug, clap::Subcommand)]
pub(super) enum Verb {
    /// List schedules and when each comes next
    #[command(after_help = "Example: runner schedule list")]
    List(Common),
    /// Show a schedule: its next five times, and what became of its slots
    #[command(after_help = "Example: runner schedule show nightly")]
    Show(One),
    /// Make a schedule
    ///
    /// Cron expressions have five fields (minute, hour, day, month, weekday), or six, of which the first is the second; names
    /// of months and weekdays, and @hourly, @daily, @weekly, @monthly, @yearly are known. A time that a change of clocks
    /// leaves out comes once at the end of the gap; one that it repeats comes once, the first time.
    #[command(after_help = "Examples:\n  \
        runner schedule create nightly report.nightly --cron \"0 3 * * mon-fri\" --timezone Europe/Berlin\n  \
        runner schedule create probe http.probe '{\"url\": \"https://example.com\"}' --every 30s --catch-up none")]
    Create(Box<Create>),
    /// Change a schedule; what is not said stays
    #[command(after_help = "Example: runner schedule edit nightly --cron \"30 3 * * *\" --catch-up none")]
    Edit(Box<Edit>),
    /// Let a schedule's slots pass until it is resumed
    #[command(after_help = "Example: runner schedule pause nightly")]
    Pause(One),
    /// Let a schedule go on, from now on
    #[command(after_help = "Example: runner schedule resume nightly")]
    Resume(One),
    /// Make a job of a schedule now, beside its slots; prints the id
    #[command(after_help = "Example: runner schedule fire nightly")]
    Fire(Fire),
    /// Delete a schedule; its jobs stay
    #[command(after_help = "Example: runner schedule delete nightly")]
    Delete(One),
}

#[derive(Debug, clap::Args)]
pub(super) struct One {
    /// The schedule
    name: String,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Fire {
    /// The schedule
    name: String,
    /// A name for this call: repeated, it does nothing
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Create {
    /// What it is called
    name: String,
    /// What its jobs are to do
    kind: String,
    /// JSON for the handler; - reads it from stdin
    args: Option<String>,
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    common: Common,
}

#[derive(Debug, clap::Args)]
pub(super) struct Edit {
    /// The schedule
    name: String,
    /// What its jobs are to do
    #[arg(long)]
    kind: Option<String>,
    /// JSON for the handler; - reads it from stdin
    #[arg(long)]
    args: Option<String>,
    #[command(flatten)]
    said: Said,
    #[command(flatten)]
    common: Common,
}

/// What can be said of a schedule when it is made or changed.
#[derive(Debug, clap::Args)]
struct Said {
    /// By the calendar, for example "30 2 * * mon-fri" or @hourly
    #[arg(long, value_name = "CRON", conflicts_with = "every")]
    cron: Option<String>,
    /// The zone of the calendar, for example Europe/Berlin; UTC if absent
    #[arg(long, value_name = "ZONE")]
    timezone: Option<String>,
    /// So often, 1s to 366d
    #[arg(long, value_name = "DURATION")]
    every: Option<String>,
    /// The first time of an interval, RFC 3339; now if absent
    #[arg(long, value_name = "TIME")]
    start: Option<String>,
    /// While a job has not ended: skip, queue or cancel-running
    #[arg(long, value_name = "POLICY")]
    overlap: Option<String>,
    /// Of slots that were missed: none, one, or the last so many
    #[arg(long, value_name = "none|one|N")]
    catch_up: Option<String>,
    /// Discard a job that has not begun so long after its slot; none: never
    #[arg(long, value_name = "DURATION|none")]
    deadline: Option<String>,
    /// The queue of its jobs
    #[arg(long)]
    queue: Option<String>,
    /// -32768 (first) to 32767 (last), or highest, high, default, low, lowest
    #[arg(long, allow_negative_numbers = true)]
    priority: Option<String>,
    /// Attempts before a job is given up
    #[arg(long, value_name = "N")]
    max_attempts: Option<u32>,
    /// Wall clock of one run, for example 30s
    #[arg(long, value_name = "DURATION")]
    timeout: Option<String>,
    /// Free labels of its jobs; may be given several times
    #[arg(long = "tag", value_name = "KEY=VALUE", value_parser = enqueue::tag)]
    tags: Vec<(String, String)>,
}

/// Runs the verb.
pub(super) fn main(verb: &Verb) -> Result<ExitCode, Failure> {
    match verb {
        Verb::List(args) => ask(&args.target, async |client| list(client, args.output).await),
        Verb::Show(args) => ask(&args.common.target, async |client| {
            let schedule: ScheduleShown = client.get(&path(&args.name)).await?.json()?;
            Ok(show(&schedule, args.common.output))
        }),
        Verb::Create(args) => {
            let body = args.said.body(Some(&args.name), Some(&args.kind), args.args.as_deref())?;
            ask(&args.common.target, async |client| {
                let schedule: ScheduleShown = client.post("/v1/schedules", None, Some(body)).await?.json()?;
                Ok(show(&schedule, args.common.output))
            })
        }
        Verb::Edit(args) => {
            let body = args.said.body(None, args.kind.as_deref(), args.args.as_deref())?;
            if body == "{}" {
                let message = "say what to change, for example --cron; `runner schedule edit --help` lists it";
                return Err(Failure::usage(message));
            }
            ask(&args.common.target, async |client| {
                let schedule: ScheduleShown = client.patch(&path(&args.name), body).await?.json()?;
                Ok(show(&schedule, args.common.output))
            })
        }
        Verb::Pause(args) => ask(&args.common.target, async |client| said(client, args, "pause").await),
        Verb::Resume(args) => ask(&args.common.target, async |client| said(client, args, "resume").await),
        Verb::Fire(args) => ask(&args.common.target, async |client| fire(client, args).await),
        Verb::Delete(args) => ask(&args.common.target, async |client| {
            client.delete(&path(&args.name)).await?;
            match args.common.output {
                Format::Json => print_json(&json!({ "name": args.name, "deleted": true })),
                Format::Table => print(&format!("{} deleted\n", args.name)),
            }
            Ok(ExitCode::SUCCESS)
        }),
    }
}

async fn list(client: &Client, format: Format) -> Result<ExitCode, Failure> {
    let mut table = Table::new(&["schedule", "kind", "when", "next", "state", "fired", "skipped"]);
    let mut cursor = String::new();
    loop {
        let page: SchedulesPage = client.get(&format!("/v1/schedules?limit=1000{cursor}")).await?.json()?;
        for schedule in page.schedules {
            if format == Format::Json {
                print_json(&schedule);
                continue;
            }
            let skipped = schedule.missed + schedule.overlapped + schedule.no_room;
            let (when, state) = (when(&schedule), state(&schedule));
            let next = schedule.next.first().cloned().unwrap_or_else(|| "-".to_owned());
            let (fired, skipped) = (schedule.fired.to_string(), skipped.to_string());
            table.row([schedule.name, schedule.kind, when, next, state.to_owned(), fired, skipped]);
        }
        match page.next_cursor {
            Some(next) => cursor = format!("&cursor={}", percent(&next)),
            None => break,
        }
    }
    if format == Format::Table {
        table.print("there are no schedules");
    }
    Ok(ExitCode::SUCCESS)
}

async fn said(client: &Client, args: &One, verb: &str) -> Result<ExitCode, Failure> {
    let schedule: ScheduleShown = client.post(&format!("{}/{verb}", path(&args.name)), None, None).await?.json()?;
    Ok(show(&schedule, args.common.output))
}

async fn fire(client: &Client, args: &Fire) -> Result<ExitCode, Failure> {
    let key = args.idempotency_key.clone().unwrap_or_else(random_key);
    let fired: FiredShown = client.post(&format!("{}/fire", path(&args.name)), Some(&key), None).await?.json()?;
    match args.common.output {
        Format::Json => print_json(&fired),
        Format::Table => print(&format!("{}\n", fired.job.id)),
    }
    Ok(ExitCode::SUCCESS)
}

fn when(schedule: &ScheduleShown) -> String {
    match (&schedule.cron, &schedule.every) {
        (Some(cron), _) => format!("{cron} ({})", schedule.timezone.as_deref().unwrap_or("UTC")),
        (None, every) => format!("every {}", every.as_deref().unwrap_or("-")),
    }
}

fn state(schedule: &ScheduleShown) -> &'static str {
    match (&schedule.problem, schedule.paused) {
        (Some(_), _) => "broken",
        (None, true) => "paused",
        (None, false) => "active",
    }
}

fn show(schedule: &ScheduleShown, format: Format) -> ExitCode {
    if format == Format::Json {
        print_json(schedule);
        return ExitCode::SUCCESS;
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "-".to_owned());
    let source = match &schedule.plugin {
        Some(plugin) => format!("the manifest of plugin {plugin}"),
        None => "the API".to_owned(),
    };
    let skipped = schedule.last_skipped.as_ref().map(|skipped| format!("{} ({})", skipped.slot, skipped.reason));
    let args = schedule.args.as_ref().map_or_else(|| text(&schedule.args_base64), |args| args.get().to_owned());
    let mut table = Table::new(&["field", "value"]);
    let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
    row("schedule", schedule.name.clone());
    row("state", schedule.problem.clone().unwrap_or_else(|| state(schedule).to_owned()));
    row("when", when(schedule));
    if let Some(start) = &schedule.start {
        row("start", start.clone());
    }
    row("kind", schedule.kind.clone());
    row("queue", schedule.queue.clone());
    row("args", args);
    row("overlap", schedule.overlap.clone());
    row("catch up", schedule.catch_up.as_str().map_or_else(|| schedule.catch_up.to_string(), str::to_owned));
    row("deadline", text(&schedule.deadline));
    row("from", source);
    row("last slot", text(&schedule.last_slot));
    row("last job", text(&schedule.last_job));
    row("fired", schedule.fired.to_string());
    row("missed", schedule.missed.to_string());
    row("overlapped", schedule.overlapped.to_string());
    row("no room", schedule.no_room.to_string());
    row("last skipped", text(&skipped));
    for (i, next) in schedule.next.iter().enumerate() {
        row(if i == 0 { "next" } else { "" }, next.clone());
    }
    table.print("");
    ExitCode::SUCCESS
}

impl Said {
    fn body(&self, name: Option<&str>, kind: Option<&str>, args: Option<&str>) -> Result<String, Failure> {
        let mut fields = Map::new();
        let texts = [
            ("name", name),
            ("kind", kind),
            ("cron", self.cron.as_deref()),
            ("timezone", self.timezone.as_deref()),
            ("every", self.every.as_deref()),
            ("start", self.start.as_deref()),
            ("overlap", self.overlap.as_deref()),
            ("queue", self.queue.as_deref()),
            ("priority", self.priority.as_deref()),
            ("timeout", self.timeout.as_deref()),
        ];
        for (field, value) in texts {
            fields.extend(value.map(|value| (field.to_owned(), json!(value))));
        }
        if let Some(catch_up) = &self.catch_up {
            let value = catch_up.parse::<u32>().map_or_else(|_| json!(catch_up), |n| json!(n));
            fields.insert("catch_up".to_owned(), value);
        }
        if let Some(deadline) = &self.deadline {
            let value = if deadline == "none" { Value::Null } else { json!(deadline) };
            fields.insert("deadline".to_owned(), value);
        }
        fields.extend(self.max_attempts.map(|n| ("max_attempts".to_owned(), json!(n))));
        if !self.tags.is_empty() {
            let tags: Map<String, Value> = self.tags.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
            fields.insert("tags".to_owned(), Value::Object(tags));
        }
        let mut fields: Vec<String> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
        if let Some(text) = args {
            let text =
                if text == "-" { String::from_utf8_lossy(&enqueue::stdin()?).into_owned() } else { text.to_owned() };
            // As it was written: args keep their bytes.
            fields.push(format!("\"args\":{}", enqueue::json(&text)?.get()));
        }
        Ok(format!("{{{}}}", fields.join(",")))
    }
}

fn path(name: &str) -> String {
    format!("/v1/schedules/{}", percent(name))
}
