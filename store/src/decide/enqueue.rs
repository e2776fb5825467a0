//! Accepting jobs: lists, all or none, and calls that are safe to repeat.

use crate::command::{Enqueue, Enqueued, Name, NameClass, Part, Reply, limits};
use crate::engine::{Change, KeyRecord, KeyRef, Needs};
use crate::job::{Event, Invalid, JobId, JobRef, JobSpec, KindId, Millis, QueueId, Rejection, StateName, TenantId};

use super::Batch;

/// How long a call with a key is remembered.
const KEY_KEPT: Millis = Millis::secs(24 * 3_600);
/// Remembered calls that are forgotten with each new one: more than one, so that they cannot pile up.
const KEYS_FORGOTTEN_PER_CALL: u32 = 2;

pub(super) fn needs(call: &Enqueue, needs: &mut Needs) {
    let mut before: Option<&JobSpec> = None;
    for spec in &call.jobs {
        // Most lists name one kind and one queue: look before a name is copied.
        if before.is_none_or(|before| before.kind != spec.kind || before.queue != spec.queue) {
            need_names(call.tenant, spec, needs);
        }
        before = Some(spec);
    }
    if let Some(key) = &call.key {
        needs.keys.insert(KeyRef::of(call.tenant, &key.key));
        needs.expired_keys += KEYS_FORGOTTEN_PER_CALL;
    }
}

pub(super) fn need_names(tenant: TenantId, spec: &JobSpec, needs: &mut Needs) {
    for (class, name) in [(NameClass::Queue, &spec.queue), (NameClass::Kind, &spec.kind)] {
        needs.names.insert(Name { tenant, class, name: name.clone() });
    }
}

/// Names and their numbers.
pub(super) struct Recent {
    tenant: TenantId,
    queue: String,
    kind: String,
    numbers: (QueueId, KindId),
}

impl KeyRef {
    /// The reference of `key`.
    #[must_use]
    pub fn of(tenant: TenantId, key: &str) -> Self {
        Self { tenant, hash: crate::sha256(key.as_bytes()) }
    }
}

impl Batch<'_> {
    pub(super) fn enqueue(&mut self, call: &Enqueue) -> Result<Reply, Rejection> {
        let key = call.key.as_ref().map(|key| (KeyRef::of(call.tenant, &key.key), key));
        if let Some((at, key)) = &key {
            if key.key.is_empty() || key.key.len() > limits::KEY_BYTES_MAX {
                let why = format!("must be 1 to {} bytes long", limits::KEY_BYTES_MAX);
                return Err(Invalid { field: "Idempotency-Key".to_owned(), why }.into());
            }
            if let Some(answer) = self.repeated(*at, key.request)? {
                return Ok(answer);
            }
        }
        check_list(&call.jobs)?;
        let answer: Vec<Enqueued> = call
            .jobs
            .iter()
            .map(|spec| {
                let id = self.next_job;
                self.next_job = JobId(id.0 + 1);
                self.accept(JobRef { tenant: call.tenant, job: id }, spec)
            })
            .collect::<Result<_, _>>()?;
        if let Some((at, key)) = key {
            if let Some(old) = self.set.keys.get(&at) {
                // It has run out, or we would not be here; its successor must not be forgotten in its place.
                self.changes.push(Change::ForgetKey(at, old.until));
            }
            let until = self.now.after(KEY_KEPT);
            let record = KeyRecord { request: key.request, until, answer: answer.clone() };
            self.keys.insert(at, record.clone());
            self.changes.push(Change::Key(at, record));
        }
        Ok(Reply::Enqueued(answer))
    }

    /// The answer to an earlier call with this key.
    fn repeated(&self, at: KeyRef, request: [u8; 32]) -> Result<Option<Reply>, Rejection> {
        let Some(record) = self.keys.get(&at).or_else(|| self.set.keys.get(&at)) else { return Ok(None) };
        if record.until <= self.now {
            return Ok(None);
        }
        if record.request != request {
            return Err(Rejection::KeyReused);
        }
        let again = record.answer.iter().map(|job| Enqueued { duplicate: true, ..*job });
        Ok(Some(Reply::Enqueued(again.collect())))
    }

    /// Accepts one job that was checked.
    pub(super) fn accept(&mut self, at: JobRef, spec: &JobSpec) -> Result<Enqueued, Rejection> {
        if matches!(self.jobs.get(&at), Some(None)) {
            // The batch has just removed a job of this id: it would leave what it had to the new one.
            return Err(Rejection::Exists);
        }
        let (queue, kind) = self.names_of(at.tenant, spec);
        // The args go where args go; what remains of the spec is small.
        let bare = spec.for_row();
        let job = self.apply(at, &Event::Enqueued { at, queue, kind, spec: Box::new(bare) })?;
        if !spec.args.is_empty() {
            self.changes.push(Change::Payload(at, Part::Args, Some(spec.args.clone())));
        }
        let state = job.map_or(StateName::Available, |job| job.state.name());
        Ok(Enqueued { id: at.job, state, duplicate: false })
    }

    fn names_of(&mut self, tenant: TenantId, spec: &JobSpec) -> (QueueId, KindId) {
        if let Some(recent) = &self.recent
            && (recent.tenant, recent.queue.as_str(), recent.kind.as_str()) == (tenant, &spec.queue, &spec.kind)
        {
            return recent.numbers;
        }
        let queue = QueueId(self.name(tenant, NameClass::Queue, &spec.queue));
        let kind = KindId(self.name(tenant, NameClass::Kind, &spec.kind));
        let (numbers, queue, kind) = ((queue, kind), spec.queue.clone(), spec.kind.clone());
        self.recent = Some(Recent { tenant, queue, kind, numbers });
        numbers
    }

    fn name(&mut self, tenant: TenantId, class: NameClass, word: &str) -> u32 {
        let name = Name { tenant, class, name: word.to_owned() };
        if let Some(number) = self.set.names.get(&name).or_else(|| self.names.get(&name)) {
            return *number;
        }
        let number = self.next_name;
        self.next_name += 1;
        self.names.insert(name.clone(), number);
        self.changes.push(Change::Name(name, number));
        number
    }

    /// Drops what no call needs any more.
    pub(super) fn forget_keys(&mut self) {
        for (at, until) in &self.set.expired_keys {
            self.changes.push(Change::ForgetKey(*at, *until));
        }
    }
}

fn check_list(jobs: &[JobSpec]) -> Result<(), Invalid> {
    if jobs.is_empty() || jobs.len() > limits::LIST_JOBS_MAX {
        let why = format!("a list must have 1 to {} jobs, this one has {}", limits::LIST_JOBS_MAX, jobs.len());
        return Err(Invalid { field: "jobs".to_owned(), why });
    }
    for (i, spec) in jobs.iter().enumerate() {
        spec.check().map_err(|Invalid { field, why }| {
            let field = if jobs.len() == 1 { field } else { format!("jobs[{i}].{field}") };
            Invalid { field, why }
        })?;
    }
    Ok(())
}
