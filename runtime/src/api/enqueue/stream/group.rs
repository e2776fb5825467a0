//! One group of lines: what they say, and what becomes of them.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use axum::http::StatusCode;
use runner_store::command::{Enqueued, IdempotencyKey};
use runner_store::job::{JobSpec, On, TenantId};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::super::{Ack, PARSED_HERE_BYTES_MAX, accept, parse_one};
use super::places::{Place, Places};
use super::{LineShown, OnError};
use crate::api::App;
use crate::api::body::{Taken, what};
use crate::api::error::Problem;
use crate::api::read::Bad;

/// Single lines on their way to the store at once: as many as its writer likes to have in one batch beside others'.
const ON_THEIR_WAY_MAX: usize = 256;

/// See the module.
#[derive(Default)]
pub(super) struct Group {
    lines: Vec<(u64, Result<String, Problem>)>,
    bytes: usize,
    room: Option<Taken>,
}

/// A group whose lines were read.
pub(super) struct Parsed {
    lines: Vec<Line>,
    _room: Option<Taken>,
}

/// What follows a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum After {
    Next,
    /// The end: a line was bad and that was to be the end, or the store takes nothing.
    Nothing,
}

/// What holds for all groups of a call.
pub(super) struct Call<'a> {
    pub(super) app: &'a Arc<App>,
    pub(super) tenant: TenantId,
    pub(super) key: Option<&'a str>,
    pub(super) on_error: OnError,
}

/// A line that was read.
struct Line {
    number: u64,
    says: Result<Said, Problem>,
}

/// What a good line says.
struct Said {
    spec: JobSpec,
    /// A digest of it, in a stream with a key.
    request: [u8; 32],
}

impl Group {
    pub(super) fn push(&mut self, number: u64, text: Result<String, Problem>) {
        self.bytes += text.as_ref().map_or(0, String::len);
        self.lines.push((number, text));
    }

    pub(super) fn len(&self) -> usize {
        self.lines.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The room that its lines take, until they are accepted.
    pub(super) fn holds(&mut self, room: Option<Taken>) {
        self.room = room;
    }

    /// Larger ones are parsed on a thread of their own.
    pub(super) async fn parsed(self, app: &Arc<App>, tenant: TenantId, keyed: bool) -> Result<Parsed, Problem> {
        let (app, name) = (Arc::clone(app), app.store.tenant_name(tenant));
        let is_large = self.bytes > PARSED_HERE_BYTES_MAX;
        let parse = move || {
            let line = |(number, text): (u64, Result<String, Problem>)| {
                let says = text.and_then(|text| said(&app, &name, &text, keyed));
                Line { number, says }
            };
            Parsed { lines: self.lines.into_iter().map(line).collect(), _room: self.room }
        };
        if !is_large {
            return Ok(parse());
        }
        let parsed = tokio::task::spawn_blocking(parse).await;
        parsed.map_err(|_| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "bug", "parsing the lines panicked"))
    }
}

fn said(app: &App, tenant: &str, text: &str, keyed: bool) -> Result<Said, Problem> {
    if text.starts_with('\u{feff}') {
        let detail = "the line begins with a byte order mark; send JSON without one";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "malformed", detail));
    }
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        let detail = format!("column {}: {}", error.column(), what(&error));
        Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
    })?;
    let mut digest = keyed.then(Sha256::new);
    let (spec, ack) = parse_one(app, (tenant, text), raw, digest.as_mut())?;
    if ack == Ack::Buffered {
        let why = "must be durable in a stream, whose lines are accepted together anyway".to_owned();
        return Err(Bad { field: "ack".to_owned(), why, at: 0 }.into());
    }
    Ok(Said { spec, request: digest.map(|digest| digest.finalize().into()).unwrap_or_default() })
}

impl Call<'_> {
    /// Accepts what can be accepted, and says of each line what became of it, in their order.
    pub(super) async fn commit(&self, group: Parsed, places: &mut Places) -> (Vec<LineShown>, After) {
        let Parsed { mut lines, _room } = group;
        let mut after = After::Next;
        let mut specs = specs(&mut lines, places);
        if self.on_error == OnError::Stop
            && let Some(bad) = lines.iter().position(|line| line.says.is_err())
        {
            lines.truncate(bad + 1);
            specs.truncate(bad);
            after = After::Nothing;
        }
        if self.key.is_none() {
            match self.together(specs).await {
                Ok(Some(accepted)) => return (told(lines, accepted, places), after),
                // One of them is bad: taken one by one, it is found.
                Ok(None) => {}
                Err(problem) => return (all_refused(lines, &problem), After::Nothing),
            }
        }
        let (told, stopped) = self.one_by_one(lines, places).await;
        (told, if stopped { After::Nothing } else { after })
    }

    /// All good lines in one transaction; none: it was refused.
    async fn together(&self, specs: Vec<JobSpec>) -> Result<Option<Vec<Enqueued>>, Problem> {
        if specs.is_empty() {
            return Ok(Some(Vec::new()));
        }
        match accept(self.app, self.tenant, None, specs).await {
            Ok(accepted) => Ok(Some(accepted)),
            Err(problem) if is_of_one(&problem) => Ok(None),
            Err(problem) => Err(problem),
        }
    }

    /// Each good line in a call of its own. Whether that was the end.
    async fn one_by_one(&self, lines: Vec<Line>, places: &mut Places) -> (Vec<LineShown>, bool) {
        let at_once = if self.on_error == OnError::Stop { 1 } else { ON_THEIR_WAY_MAX };
        let (mut told, mut rest) = (Vec::with_capacity(lines.len()), lines.into_iter().peekable());
        while rest.peek().is_some() {
            // Those that wait for a job of this group come once that has its id.
            let mut part: Vec<Line> = Vec::new();
            while let Some(line) = rest.next_if(|line| part.len() < at_once && !waits_for(line, &part)) {
                part.push(line);
            }
            part.iter_mut().for_each(|line| by_id(line, places));
            let calls = part.into_iter().map(|line| self.single(line)).collect();
            for (number, became) in all(calls).await {
                let problem = match became {
                    Ok(job) => {
                        places.add(number, job.id);
                        told.push(LineShown::accepted(number, job));
                        continue;
                    }
                    Err(problem) => problem,
                };
                let is_the_end = self.on_error == OnError::Stop || !is_of_one(&problem);
                told.push(LineShown::refused(number, problem));
                if is_the_end {
                    return (told, true);
                }
            }
        }
        (told, false)
    }

    async fn single(&self, Line { number, says }: Line) -> (u64, Result<Enqueued, Problem>) {
        let Said { spec, request } = match says {
            Ok(said) => said,
            Err(problem) => return (number, Err(problem)),
        };
        let key = self.key.map(|key| IdempotencyKey::of_line(key, number, request));
        let accepted = accept(self.app, self.tenant, key, vec![spec]).await;
        (number, accepted.map(|jobs| jobs.into_iter().next().expect("a call with one job is answered with one")))
    }
}

/// The jobs of the good lines, as they are enqueued together: those that name earlier lines name them by the ids that these
/// have become, or in the same group by their place in it. A line that names none that there is, is bad.
fn specs(lines: &mut [Line], places: &Places) -> Vec<JobSpec> {
    // The numbers of the good lines so far, each at its place in the call.
    let (mut good, mut specs): (Vec<u64>, Vec<JobSpec>) = (Vec::new(), Vec::new());
    for line in lines {
        let Ok(said) = &line.says else { continue };
        let mut spec = said.spec.clone();
        match named(&mut spec, line.number, &good, places) {
            Ok(()) => {
                good.push(line.number);
                specs.push(spec);
            }
            Err(problem) => line.says = Err(problem),
        }
    }
    specs
}

/// Lets a line name earlier ones by their ids alone.
fn by_id(line: &mut Line, places: &Places) {
    if let Ok(said) = &mut line.says
        && let Err(problem) = named(&mut said.spec, line.number, &[], places)
    {
        line.says = Err(problem);
    }
}

fn named(spec: &mut JobSpec, number: u64, group: &[u64], places: &Places) -> Result<(), Problem> {
    for edge in &mut spec.depends_on {
        let On::Position(position) = edge.on else { continue };
        let at = u64::from(position);
        let why = match (group.binary_search(&at), at >= number) {
            (Ok(place), _) => {
                edge.on = On::Position(u32::try_from(place).expect("a group has at most a thousand lines"));
                continue;
            }
            (Err(_), true) => "is not an earlier line",
            (Err(_), false) => match places.get(at) {
                Place::Job(job) => {
                    edge.on = On::Job(job);
                    continue;
                }
                Place::Refused => "was not accepted",
                Place::Forgotten => "is too far back to be named by its place; use its id",
            },
        };
        return Err(Problem::invalid("depends_on", format!("line {position} {why}")));
    }
    Ok(())
}

/// Whether a line names one of these.
fn waits_for(line: &Line, part: &[Line]) -> bool {
    let edges = line.says.as_ref().map(|said| said.spec.depends_on.as_slice()).unwrap_or_default();
    edges.iter().any(
        |edge| matches!(edge.on, On::Position(position) if part.iter().any(|one| one.number == u64::from(position))),
    )
}

/// Whether another job might be accepted although this one was not.
fn is_of_one(problem: &Problem) -> bool {
    problem.status < 500
}

fn told(lines: Vec<Line>, accepted: Vec<Enqueued>, places: &mut Places) -> Vec<LineShown> {
    let mut accepted = accepted.into_iter();
    let line = |Line { number, says }: Line| match says {
        Ok(_) => {
            let job = accepted.next().expect("each good line has an answer");
            places.add(number, job.id);
            LineShown::accepted(number, job)
        }
        Err(problem) => LineShown::refused(number, problem),
    };
    lines.into_iter().map(line).collect()
}

fn all_refused(lines: Vec<Line>, problem: &Problem) -> Vec<LineShown> {
    let line = |Line { number, says }: Line| LineShown::refused(number, says.err().unwrap_or_else(|| problem.clone()));
    lines.into_iter().map(line).collect()
}

impl LineShown {
    fn accepted(line: u64, job: Enqueued) -> Self {
        let Enqueued { id, state, duplicate } = job;
        Self { line, id: Some(id.to_string()), state: Some(state), duplicate: Some(duplicate), problem: None }
    }
}

/// Waits for all of them, having begun them in their order.
async fn all<T>(calls: Vec<impl Future<Output = T>>) -> Vec<T> {
    let mut calls: Vec<(Pin<Box<_>>, Option<T>)> = calls.into_iter().map(|call| (Box::pin(call), None)).collect();
    poll_fn(|cx| {
        let mut is_over = true;
        for (call, answer) in calls.iter_mut().filter(|(_, answer)| answer.is_none()) {
            match call.as_mut().poll(cx) {
                Poll::Ready(became) => *answer = Some(became),
                Poll::Pending => is_over = false,
            }
        }
        if is_over { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    calls.into_iter().filter_map(|(_, answer)| answer).collect()
}
