//! What a call is entered with.

use std::sync::Arc;

use runner_store::command::{Answer, Part, Query};
use runner_store::engine::Snapshot;
use runner_store::error::StoreError;
use runner_store::job::{Job, RunSettings, staged_depth};

use super::{Member, NodeBacking, RunIds, Work};
use crate::wasm::run::BatchJob;
use crate::wasm::{IdSource, JobView, Plugin, ReadJob, RunRequest, Streams};

/// What a run gets that lives apart from its job's row.
pub(super) struct Payloads {
    args: Vec<u8>,
    checkpoint: Option<Vec<u8>>,
}

/// What is read for one run; none: the job is gone.
pub(super) fn payloads(view: &dyn Snapshot, job: &Job) -> Result<Option<Payloads>, StoreError> {
    let at = job.at();
    let read = |part| match view.read(&Query::Payload(at, part))? {
        Answer::Payload(bytes) => Ok(bytes),
        _ => Ok(None),
    };
    let checkpoint = if job.started { read(Part::Checkpoint)? } else { None };
    if let Some(args) = read(Part::Args)? {
        return Ok(Some(Payloads { args, checkpoint }));
    }
    // A job without args and one that was deleted must not look the same.
    let gone = view.read(&Query::Job(at))? == Answer::Job(None);
    Ok((!gone).then(|| Payloads { args: Vec::new(), checkpoint }))
}

impl Work {
    /// `payloads` are those of the members, in their order.
    pub(super) fn request(
        &self,
        plugin: &Arc<Plugin>,
        kind: &str,
        payloads: Vec<Payloads>,
        ids: Option<RunIds>,
        streams: &Streams,
        settings: &RunSettings,
    ) -> RunRequest {
        let mut jobs = self.members.iter().zip(payloads);
        let view = |(member, payloads): (&Member, Payloads)| self.view(&member.job, kind, payloads, settings);
        let first = jobs.next().map(view).expect("a call has at least one run");
        let others = jobs.map(|(member, payloads)| BatchJob {
            job: self.view(&member.job, kind, payloads, settings),
            cancel: member.signal.clone(),
        });
        let read_job = if ids.is_some() { self.read_job() } else { Arc::clone(&self.parts.read_job) };
        RunRequest {
            job: first,
            others: others.collect(),
            limits: plugin.limits(kind),
            middleware: Vec::new(),
            grants: plugin.grants(),
            ids: ids.map(|ids| Arc::new(move || ids.take()) as IdSource),
            read_job,
            backing: Arc::new(NodeBacking::new(&self.parts, plugin, self.members[0].run())),
            streams: streams.clone(),
            cancel: self.members[0].signal.clone(),
        }
    }

    fn view(&self, job: &Job, kind: &str, Payloads { args, checkpoint }: Payloads, settings: &RunSettings) -> JobView {
        JobView {
            id: job.id.0,
            kind: kind.to_owned(),
            tenant: self.parts.store.tenant_name(job.tenant).as_ref().to_owned(),
            queue: self.parts.store.queue_name(job.queue).as_ref().to_owned(),
            args,
            run: job.run.0,
            attempt: job.attempts + 1,
            max_attempts: job.max_attempts.unwrap_or(settings.max_attempts),
            priority: job.priority.0,
            enqueued_at: job.enqueued_at,
            run_at: job.run_at,
            tags: job.tags.clone(),
            checkpoint,
            dependencies: job.dependencies.iter().map(|edge| edge.job.0).collect(),
            meta: Vec::new(),
            timeout: job.timeout,
            states_retry: job.retry.is_some(),
        }
    }

    /// Reads the jobs that the call enqueues, and refuses those that would be too deep: the rule is the store's, which would
    /// leave them out when the call is recorded, too late for the handler to do something about it.
    fn read_job(&self) -> ReadJob {
        let (read, clock) = (Arc::clone(&self.parts.read_job), self.parts.clock.clone());
        let depth = self.members.iter().map(|member| member.job.depth).max().unwrap_or(0);
        Arc::new(move |tenant, kind, args, options| {
            let spec = read(tenant, kind, args, options)?;
            staged_depth(depth, &spec, clock.now()).map_err(|too_deep| too_deep.to_string())?;
            Ok(spec)
        })
    }
}
