//! Subscriptions: noting what somebody listens to, beside the event itself, and enqueueing those who listen, in bounded
//! steps that the writer says to itself. Who listens asks for room like anyone from outside: without room in the tenant or the
//! queue nothing is enqueued, and while the disk is nearly full everyone waits.

use crate::command::{Name, NameClass, Reply, Scope, Subscribe, limits};
use crate::engine::{Change, Needs, WorkingSet};
use crate::job::{EventName, Job, JobId, JobRef, JobSpec, KindId, Millis, Rejection, TenantId, depth_after};
use crate::listening::{Heard, HeardOutput};

use super::Batch;

/// The names, and what holds for the queues, of those that the read records are to be told to: what is read next.
#[must_use]
pub fn needs_of_listeners(set: &WorkingSet) -> Needs {
    let mut needs = Needs::default();
    for (_, heard) in &set.heard {
        let tenant = heard.at.tenant;
        needs.scopes.insert(Scope::Tenant(tenant));
        for listener in &heard.to {
            for (class, name) in [(NameClass::Queue, &listener.queue), (NameClass::Kind, &listener.kind)] {
                needs.names.insert(Name { tenant, class, name: name.clone() });
            }
            needs.scopes.insert(Scope::Queue(tenant, listener.queue.clone()));
        }
    }
    needs
}

impl Batch<'_> {
    /// Replaces what a tenant's kinds listen to. Holds from the next batch on: whoever has the answer may rely on it.
    pub(super) fn subscribe(&mut self, call: &Subscribe) -> Result<Reply, Rejection> {
        call.check()?;
        let again = |change: &Change| matches!(change, Change::Subscriptions(tenant, _) if *tenant == call.tenant);
        if self.set.listening.subscriptions(call.tenant) != call.subscriptions || self.changes.iter().any(again) {
            self.changes.push(Change::Subscriptions(call.tenant, call.subscriptions.clone()));
        }
        Ok(Reply::Done)
    }

    /// A kind got its number in this batch.
    pub(super) fn name_listened_to(&mut self, tenant: TenantId, kind: &str, number: KindId) {
        if let Some(listened) = self.set.listening.to_be(tenant, kind) {
            self.new_kinds.insert(number, listened);
        }
    }

    /// Notes an event for those who listen to it.
    pub(super) fn hear(&mut self, event: EventName, job: &Job, after: Option<&Job>) {
        let known = self.set.listening.of(job.kind).or_else(|| self.new_kinds.get(&job.kind));
        let Some(listened) = known else { return };
        let to: Vec<_> = listened.to(event).cloned().collect();
        if to.is_empty() {
            return;
        }
        match depth_after(job.depth, Millis(0)) {
            Ok(depth) => {
                let heard = Heard::new(event, job, after, listened.kind(), depth, to);
                self.heard.push(heard);
            }
            Err(_) => self.too_deep += to.len() as u64,
        }
    }

    /// What the run returned that has just completed the job.
    pub(super) fn hear_output(&mut self, at: JobRef, output: &[u8]) {
        let last = self.heard.last_mut();
        if let Some(heard) = last.filter(|heard| heard.at == at && heard.event == EventName::Completed) {
            heard.output = HeardOutput::of(output);
        }
    }

    /// One step: enqueues those who listen to what was read. A second one in the same batch finds nothing left.
    pub(super) fn listen(&mut self) -> Reply {
        if let Some(more) = self.listened {
            return Reply::Listened { jobs: 0, refused: 0, more };
        }
        let mut more = !self.set.heard_all;
        if !self.conduct.accept {
            let more = more || !self.set.heard.is_empty() || !self.heard.is_empty();
            return Reply::Listened { jobs: 0, refused: 0, more };
        }
        let (mut jobs, mut refused, mut bytes) = (0, 0, 0);
        for (number, heard) in &self.set.heard {
            let args = heard.args();
            let mut told = 0;
            for listener in &heard.to {
                let fits = jobs + refused < limits::LISTENERS_MAX && bytes + args.len() <= limits::LISTENERS_BYTES_MAX;
                if jobs + refused > 0 && !fits {
                    break;
                }
                // Nobody is there to be told that something else stands where the key should be: it has none.
                let key = listener.key.as_ref().and_then(|path| path.read(args.as_ref()).ok().flatten());
                let spec = JobSpec {
                    key,
                    queue: listener.queue.clone(),
                    priority: listener.priority,
                    ..JobSpec::new(listener.kind.clone(), args.clone())
                };
                // Nobody is there to be told, and kinds that listen to each other would grow for ever.
                if self.room_for_one(heard.at.tenant, &spec).is_err() {
                    (refused, told) = (refused + 1, told + 1);
                    continue;
                }
                let id = self.next_job;
                self.next_job = JobId(id.0 + 1);
                let at = JobRef { tenant: heard.at.tenant, job: id };
                self.accept(at, &spec, heard.depth, Vec::new()).expect("a new id is nobody's");
                (jobs, bytes, told) = (jobs + 1, bytes + args.len(), told + 1);
            }
            if told < heard.to.len() {
                more = true;
            }
            if told > 0 {
                let rest = Heard { to: heard.to[told..].to_vec(), ..heard.clone() };
                let rest = (!rest.to.is_empty()).then(|| Box::new(rest));
                self.changes.push(Change::Heard(*number, rest));
            }
        }
        self.listened = Some(more);
        Reply::Listened { jobs, refused, more: more || !self.heard.is_empty() }
    }
}
