//! One client: it asks for jobs and changes them as its dice say, repeats what was cut, and writes down each answer.
//!
//! It changes only jobs of its own, so that the order of its answers is the order of what happened to them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde_json::{Value, json};

use super::Dice;
use super::ledger::{Asked, Entry, Ledger, Standing, TAG};
use super::wire::{Answer, Ask, Cut, Wire};

/// Jobs of one clerk that may be on their way: more would only make the end of the test longer.
const UNDERWAY_MAX: usize = 150;
/// Jobs of one clerk on hold: what waits for them would fill all that may be on its way.
const HELD_MAX: usize = 4;
/// Jobs of a list.
const LIST_MAX: u64 = 12;
/// Unique keys that all clerks fight for.
const KEYS: u64 = 6;
/// How often a clerk goes away before it is answered, and asks again.
const HANGS_UP_ONE_IN: u64 = 20;
/// How far back a clerk looks for a job to change.
const RECENT: u64 = 60;

/// What the clerks and their test share.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) stop: AtomicBool,
    /// Calls that were answered.
    pub(super) answers: AtomicU64,
}

/// See the module.
pub(super) struct Clerk {
    name: u64,
    dice: Dice,
    wire: Wire,
    shared: Arc<Shared>,
    ledger: Ledger,
    /// Positions of entries that have not been seen to end.
    underway: VecDeque<usize>,
    held: VecDeque<usize>,
    calls: u64,
    /// The last call with a key, and what was answered.
    last: Option<(String, Value, Vec<u64>)>,
}

impl Clerk {
    pub(super) fn new(name: u64, dice: Dice, wire: Wire, shared: Arc<Shared>) -> Self {
        let (underway, held) = (VecDeque::new(), VecDeque::new());
        Self { name, dice, wire, shared, ledger: Ledger::default(), underway, held, calls: 0, last: None }
    }

    /// Works until it is told to stop, then lets go of what it holds.
    pub(super) fn work(mut self) -> Ledger {
        while !self.shared.stop.load(Ordering::Relaxed) {
            self.act();
        }
        while !self.held.is_empty() {
            self.release();
        }
        self.ledger
    }

    fn act(&mut self) {
        if self.held.len() > HELD_MAX {
            return self.release();
        }
        if self.underway.len() > UNDERWAY_MAX {
            return self.wait();
        }
        match self.dice.below(100) {
            0..34 => self.enqueue(1),
            34..60 => {
                let n = 2 + self.dice.below(LIST_MAX - 1);
                self.enqueue(n);
            }
            60..67 => self.cancel(),
            67..73 => self.retry(),
            73..79 => self.delete(),
            79..86 => self.release(),
            86..91 => self.wait(),
            91..96 => self.look(),
            _ => self.ask_again(),
        }
    }

    fn asked(&mut self, what: &'static str, ask: &Ask<'_>) -> Answer {
        let answer = self.wire.until_answered(ask);
        self.shared.answers.fetch_add(1, Ordering::Relaxed);
        *self.ledger.calls.entry(what).or_default() += 1;
        answer
    }

    /// One job, or a list of them.
    fn enqueue(&mut self, n: u64) {
        self.calls += 1;
        let call = format!("{}-{}", self.name, self.calls);
        let keyed = self.dice.below(10) > 0;
        let jobs: Vec<Asked> = (0..n).map(|place| self.new_job(&call, place, keyed)).collect();
        let bodies = jobs.iter().map(|job| job.body.clone()).collect::<Vec<_>>();
        let body = if n == 1 { bodies[0].clone() } else { Value::from(bodies) };
        let key = keyed.then(|| format!("key {call}"));
        let ask = Ask { body: Some(&body), key: key.clone(), ..Ask::post("/v1/jobs") };
        let answer = if keyed {
            let hung_up = self.dice.below(HANGS_UP_ONE_IN) == 0 && self.wire.hang_up(&ask).is_ok();
            let answer = self.asked("enqueue", &ask);
            Answer { cuts: answer.cuts + u32::from(hung_up), ..answer }
        } else {
            match self.wire.once(&ask) {
                Ok(answer) if answer.status == 201 => answer,
                Ok(answer) if answer.status == 503 => return,
                Ok(answer) => panic!("{answer:?}"),
                Err(Cut::NotSent) => return,
                Err(Cut::Unknown) => return self.ledger.perhaps.push(jobs),
            }
        };
        assert!(matches!(answer.status, 200 | 201), "{answer:?}\n{body}");
        self.ledger.repeated += u64::from(answer.cuts > 0);
        let shown = answer.body["jobs"].as_array().cloned().unwrap_or_else(|| vec![answer.body.clone()]);
        assert_eq!(shown.len(), jobs.len(), "{answer:?}");
        let ids: Vec<u64> = shown.iter().map(|job| id(&job["id"])).collect();
        for ((id, asked), shown) in ids.iter().zip(jobs).zip(&shown) {
            let duplicate = shown["duplicate"] == true;
            assert!(!duplicate || answer.cuts > 0 || asked.unique_key().is_some(), "{answer:?}");
            self.accepted(*id, asked, duplicate);
        }
        self.last = key.map(|key| (key, body, ids));
    }

    /// A duplicate is our own job, if the call was cut and had happened, or the one that had its unique key.
    fn accepted(&mut self, id: u64, asked: Asked, duplicate: bool) {
        if let (true, Some(key)) = (duplicate, asked.unique_key()) {
            let key = key.to_owned();
            let there = self.asked("look", &Ask::get(format!("/v1/jobs/{id}")));
            if there.body["tags"][TAG] != asked.tag {
                return self.ledger.joined.push((id, key));
            }
        }
        let at = self.ledger.entries.len();
        if asked.body["hold"] == true {
            self.held.push_back(at);
        } else {
            self.underway.push_back(at);
        }
        self.ledger.accept(id, asked);
    }

    fn new_job(&mut self, call: &str, place: u64, keyed: bool) -> Asked {
        let dice = &mut self.dice;
        let (kind, attempts) = match dice.below(100) {
            0..50 => ("quick", 9),
            50..65 => ("flaky", 9),
            65..70 => ("flaky", 2),
            70..76 => ("hopeless", 1 + dice.below(2)),
            76..88 => ("slow", 9),
            _ => ("parent", 9),
        };
        let tag = format!("{call}-{place}");
        let text = "x".repeat(dice.below(600) as usize);
        let mut body = json!({
            "kind": kind, "args": {"n": dice.below(1 << 40), "text": text}, "max_attempts": attempts,
            "retry": {"backoff": "constant", "base": "30ms"}, "tags": {TAG: tag, "clerk": self.name.to_string()},
        });
        if dice.below(5) == 0 {
            body["delay"] = format!("{}ms", 1 + dice.below(1_500)).into();
        }
        if dice.below(8) == 0 {
            body["priority"] = ["highest", "high", "low"][dice.below(3) as usize].into();
        }
        if keyed && dice.below(12) == 0 {
            body["hold"] = true.into();
        }
        // In its first place only: two of one list may not have the same key.
        if keyed && place == 0 && dice.below(4) == 0 {
            body["unique"] = json!({"key": format!("one of {}", dice.below(KEYS))});
        }
        let edges = self.edges(place);
        if !edges.is_empty() {
            body["depends_on"] = edges.into();
        }
        Asked { tag, kind, body }
    }

    /// What a job at this place waits for: jobs before it, jobs of earlier calls, or nothing.
    fn edges(&mut self, place: u64) -> Vec<Value> {
        let mut edges = Vec::new();
        if place > 0 && self.dice.below(5) < 2 {
            edges.push(json!({"position": self.dice.below(place)}));
        }
        if self.dice.below(8) == 0
            && let Some(at) = self.pick()
        {
            edges.push(json!({"job": self.ledger.entries[at].id.to_string()}));
        }
        for edge in &mut edges {
            if self.dice.below(3) == 0 {
                edge["on_failure"] = "run".into();
            }
        }
        edges
    }

    /// A job of late that is still there.
    fn pick(&mut self) -> Option<usize> {
        let n = self.ledger.entries.len();
        let back = 1 + self.dice.below(RECENT) as usize;
        let at = n.checked_sub(back)?;
        (self.ledger.entries[at].standing != Standing::Deleted).then_some(at)
    }

    fn cancel(&mut self) {
        let Some(at) = self.pick() else { return };
        let answer = self.asked("cancel", &Ask::post(format!("/v1/jobs/{}/cancel", self.ledger.entries[at].id)));
        let entry = &mut self.ledger.entries[at];
        match answer.status {
            200 => entry.shown(&answer.body),
            202 => entry.standing = Standing::CancelAsked,
            409 => assert_eq!(answer.body["code"], "state", "{answer:?}"),
            _ => panic!("{answer:?}\n{entry:?}"),
        }
    }

    fn retry(&mut self) {
        let Some(at) = self.pick() else { return };
        let answer = self.asked("retry", &Ask::post(format!("/v1/jobs/{}/retry", self.ledger.entries[at].id)));
        let entry = &mut self.ledger.entries[at];
        entry.retries.1 += answer.cuts;
        match answer.status {
            200 => {
                entry.retries.0 += u32::from(answer.body["changed"] == true);
                entry.standing = Standing::Open;
                self.underway.push_back(at);
            }
            409 if answer.cuts > 0 => entry.standing = Standing::Unsure,
            409 => {}
            _ => panic!("{answer:?}\n{entry:?}"),
        }
    }

    fn delete(&mut self) {
        let Some(at) = self.pick() else { return };
        let answer = self.asked("delete", &Ask::delete(format!("/v1/jobs/{}", self.ledger.entries[at].id)));
        let entry = &mut self.ledger.entries[at];
        match answer.status {
            204 => entry.standing = Standing::Deleted,
            404 if answer.cuts > 0 => entry.standing = Standing::Deleted,
            409 => {}
            _ => panic!("{answer:?}\n{entry:?}"),
        }
    }

    fn release(&mut self) {
        let Some(at) = self.held.pop_front() else { return };
        if self.ledger.entries[at].standing == Standing::Deleted {
            return;
        }
        let answer = self.asked("release", &Ask::post(format!("/v1/jobs/{}/release", self.ledger.entries[at].id)));
        // 409: it was cancelled meanwhile.
        assert!(matches!(answer.status, 200 | 409), "{answer:?}");
        self.underway.push_back(at);
    }

    /// Waits for the job that has been underway for longest, and sees how it ended.
    fn wait(&mut self) {
        let Some(at) = self.underway.pop_front() else { return };
        if self.ledger.entries[at].standing == Standing::Deleted {
            return;
        }
        let answer =
            self.asked("wait", &Ask::get(format!("/v1/jobs/{}/wait?timeout=200ms", self.ledger.entries[at].id)));
        assert_eq!(answer.status, 200, "{answer:?}");
        self.ledger.entries[at].shown(&answer.body);
        if !is_final(answer.state()) {
            self.underway.push_back(at);
        }
    }

    /// Looks at a job: what was acknowledged can be read at once.
    fn look(&mut self) {
        let back = 1 + self.dice.below(RECENT) as usize;
        let Some(at) = self.ledger.entries.len().checked_sub(back) else { return };
        let answer = self.asked("look", &Ask::get(format!("/v1/jobs/{}", self.ledger.entries[at].id)));
        let entry: &mut Entry = &mut self.ledger.entries[at];
        match &entry.standing {
            Standing::Deleted => assert_eq!(answer.status, 404, "{answer:?}"),
            _ => {
                assert_eq!(answer.status, 200, "{answer:?}\n{entry:?}");
                entry.shown(&answer.body);
            }
        }
    }

    /// The same call with the same key again: the same answer, and nothing happens.
    fn ask_again(&mut self) {
        let Some((key, body, ids)) = self.last.take() else { return };
        let ask = Ask { body: Some(&body), key: Some(key), ..Ask::post("/v1/jobs") };
        let answer = self.asked("again", &ask);
        assert_eq!(answer.status, 200, "{answer:?}");
        let shown = answer.body["jobs"].as_array().cloned().unwrap_or_else(|| vec![answer.body.clone()]);
        let again: Vec<u64> = shown.iter().map(|job| id(&job["id"])).collect();
        assert!(shown.iter().all(|job| job["duplicate"] == true), "{answer:?}");
        assert_eq!(again, ids, "another answer to the same call");
    }
}

fn id(value: &Value) -> u64 {
    value.as_str().and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no id: {value}"))
}

fn is_final(state: &str) -> bool {
    matches!(state, "completed" | "discarded" | "cancelled")
}
