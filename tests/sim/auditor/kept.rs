//! What calls leave beside their jobs: keys of plugins, and logs; by what they asked for and what was answered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use runner_store::command::{Finish, FinishCall, KvWrites, Namespace, RunRef};
use runner_store::engine::{Dump, KvKey};
use runner_store::job::{Job, Outcome, Rejection, StateName, TenantId, limits};

#[derive(Default)]
pub(super) struct Kept {
    keys: BTreeMap<KvKey, Vec<u8>>,
    logs: HashMap<RunRef, Vec<u8>>,
}

impl Kept {
    /// A run has ended so. Answers whether what it staged is recorded.
    #[track_caller]
    pub(super) fn finish(&mut self, call: &Finish, job: &Job) -> bool {
        self.logs.extend(call.log.clone().map(|log| (call.run, log)));
        // A cancel throws away what did not complete, whatever it rested on.
        let completed = matches!(call.outcome, Outcome::Completed { .. });
        let thrown_away = !completed && job.state.name() == StateName::Cancelled;
        if !leaves_effects(&call.outcome) || thrown_away {
            assert!(!conflicted(job), "{job:?}");
            return false;
        }
        let conflict = self.conflict(call.run.at.tenant, call.kv.as_ref());
        assert_eq!(conflicted(job), conflict, "{call:?} ended as {job:?}");
        self.write(call.run.at.tenant, call.kv.as_ref().filter(|_| !conflict));
        !conflict
    }

    /// The same of all runs of a call.
    #[track_caller]
    pub(super) fn finish_call(&mut self, call: &FinishCall, ends: &[Result<Arc<Job>, Rejection>]) -> bool {
        let tenant = call.runs[0].run.at.tenant;
        let accepted = || call.runs.iter().zip(ends).filter_map(|(ended, end)| Some((ended, end.as_ref().ok()?)));
        if let Some((first, _)) = accepted().next() {
            self.logs.extend(call.log.clone().map(|log| (first.run, log)));
        }
        let completes = accepted().any(|(ended, _)| matches!(ended.outcome, Outcome::Completed { .. }));
        let conflict = completes && self.conflict(tenant, call.kv.as_ref());
        for (ended, job) in accepted() {
            assert_eq!(conflicted(job), conflict && leaves_effects(&ended.outcome), "{call:?} left {job:?}");
            assert!(!call.failed || job.alone || matches!(ended.outcome, Outcome::Completed { .. }), "{job:?}");
        }
        let recorded = completes && !conflict;
        self.write(tenant, call.kv.as_ref().filter(|_| recorded));
        recorded
    }

    fn conflict(&self, tenant: TenantId, kv: Option<&KvWrites>) -> bool {
        let Some(kv) = kv else { return false };
        let mut keys = self.keys.clone();
        kv.writes.iter().any(|write| {
            let key = key(tenant, kv, &write.key);
            let fails = write.expected.as_ref().is_some_and(|expected| keys.get(&key) != expected.as_ref());
            put(&mut keys, key, write.value.clone());
            fails
        })
    }

    fn write(&mut self, tenant: TenantId, kv: Option<&KvWrites>) {
        for (kv, write) in kv.into_iter().flat_map(|kv| kv.writes.iter().map(move |write| (kv, write))) {
            put(&mut self.keys, key(tenant, kv, &write.key), write.value.clone());
        }
    }

    #[track_caller]
    pub(super) fn check(&self, dump: &Dump) {
        let kept: BTreeMap<KvKey, Vec<u8>> = dump.kv.iter().cloned().collect();
        assert_eq!(kept, self.keys);
        assert!(dump.jobs.iter().all(|job| job.depth <= limits::DEPTH_MAX));
        let logs: HashMap<RunRef, Vec<u8>> = dump.run_logs.iter().cloned().collect();
        for (run, log) in &logs {
            assert_eq!(self.logs.get(run), Some(log), "the log of {run:?}");
        }
        for job in &dump.jobs {
            let run = RunRef { at: job.at(), run: job.run };
            assert_eq!(logs.get(&run), self.logs.get(&run), "the log of the last run of a job that is there");
        }
    }
}

fn key(tenant: TenantId, kv: &KvWrites, key: &str) -> KvKey {
    KvKey { space: Namespace { tenant, plugin: kv.plugin }, key: key.to_owned() }
}

fn put(keys: &mut BTreeMap<KvKey, Vec<u8>>, key: KvKey, value: Option<Vec<u8>>) {
    match value {
        Some(value) => _ = keys.insert(key, value),
        None => _ = keys.remove(&key),
    }
}

fn leaves_effects(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Completed { .. } | Outcome::Snoozed { .. } | Outcome::Discarded { .. })
}

fn conflicted(job: &Job) -> bool {
    let error = job.last.as_ref().and_then(|last| last.error.as_deref());
    error.is_some_and(|error| error.starts_with("kv_conflict:"))
}
