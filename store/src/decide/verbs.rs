//! What operators ask for: verbs on one job, on many, and settings.

use std::sync::Arc;

use crate::command::{
    Bulk, BulkVerb, JobsQuery, Name, NameClass, Part, Reply, RunRef, Scope, Settings, TenantSettings, Total, TotalKey,
    limits,
};
use crate::engine::{Change, Needs, Wait};
use crate::job::{
    BootId, Edit, Event, Holder, Invalid, JobId, JobRef, Rejection, State, TenantId, limits as job_limits,
};

use super::Batch;

/// The page of jobs that one step of a bulk verb looks at.
pub(super) fn page(call: &Bulk) -> JobsQuery {
    let limit = call.filter.limit.min(limits::BULK_JOBS_MAX);
    JobsQuery { limit, ..call.filter.clone() }
}

pub(super) fn need_settings(settings: &Settings, needs: &mut Needs) {
    let scope = settings.scope();
    if let Scope::Queue(tenant, name) = &scope {
        needs.names.insert(Name { tenant: *tenant, class: NameClass::Queue, name: name.clone() });
    }
    needs.scopes.insert(scope);
}

impl Batch<'_> {
    /// An operator's verb; what is so already is an answer, not an error.
    pub(super) fn verb(&mut self, at: JobRef, event: &Event) -> Result<Reply, Rejection> {
        match self.apply(at, event) {
            Ok(Some(job)) => Ok(Reply::Job { job, changed: true }),
            Ok(None) => Ok(Reply::Deleted),
            Err(rejection @ Rejection::Already(_)) => match self.job(at) {
                Some(job) => Ok(Reply::Job { job: Arc::clone(job), changed: false }),
                None => Err(rejection),
            },
            Err(rejection) => Err(rejection),
        }
    }

    pub(super) fn cancel(&mut self, at: JobRef, reason: Option<&str>) -> Result<Reply, Rejection> {
        self.verb(at, &Event::CancelRequested { reason: reason.map(str::to_owned) })
    }

    pub(super) fn retry(&mut self, at: JobRef, fresh: bool) -> Result<Reply, Rejection> {
        // Whoever waited for it would hear of two ends of it at once.
        self.not_settling(at)?;
        if let Some(job) = self.job(at)
            && !matches!(job.state, State::Available)
        {
            self.key_can_be_taken_again(job)?;
        }
        let order = self.job(at).map(|job| self.order_now(job)).unwrap_or_default();
        let reply = self.verb(at, &Event::Retried { order })?;
        if matches!(reply, Reply::Job { changed: true, .. }) {
            self.take_key_again(at);
            self.changes.push(Change::Payload(at, Part::Output, None));
        }
        if fresh {
            self.changes.push(Change::Payload(at, Part::Checkpoint, None));
        }
        Ok(reply)
    }

    pub(super) fn delete(&mut self, at: JobRef, force: bool, cascade: bool) -> Result<Reply, Rejection> {
        self.not_settling(at)?;
        if !cascade && self.job(at).is_some() && self.waited(at) == Some(Wait::Waiting) {
            return Err(Rejection::WaitedFor);
        }
        self.verb(at, &Event::Deleted { force })
    }

    pub(super) fn not_settling(&self, at: JobRef) -> Result<(), Rejection> {
        let settling = match self.spreads.get(&at) {
            Some(spread) => spread.is_some(),
            None => self.set.settling.contains_key(&at),
        };
        if settling { Err(Rejection::Settling) } else { Ok(()) }
    }

    pub(super) fn edit(&mut self, at: JobRef, edit: &Edit) -> Result<Reply, Rejection> {
        edit.check()?;
        let reply = self.verb(at, &Event::Edited(edit.for_row()))?;
        if let Some(args) = &edit.args {
            self.replace_args(at, args);
        }
        Ok(reply)
    }

    /// Gives a job that has just been edited its new args.
    pub(super) fn replace_args(&mut self, at: JobRef, args: &[u8]) {
        let payload = (!args.is_empty()).then(|| args.to_vec());
        if self.job(at).is_some_and(|job| job.unique.is_some()) {
            self.args.insert(at, args.to_vec());
        }
        self.changes.push(Change::Payload(at, Part::Args, payload));
    }

    pub(super) fn start(&mut self, at: JobRef, holder: BootId) -> Result<Reply, Rejection> {
        if !self.conduct.claim {
            return Err(Rejection::DiskReserve);
        }
        let job = self.job(at).ok_or(Rejection::Unknown)?;
        let waits = matches!(job.state, State::Scheduled | State::Available);
        if waits && job.is_expired(self.now) && self.conduct.destroy {
            // As by any other claim: it is discarded instead.
            self.apply(at, &Event::Expired)?;
            return Ok(Reply::Claimed(Vec::new()));
        }
        match job.state {
            State::Scheduled | State::Retryable => {
                self.apply(at, &Event::Edited(Edit { run_at: Some(self.now), ..Edit::default() }))?;
            }
            _ => {}
        }
        let event = Event::Claimed { holder: Holder::Node(holder), expires_at: None, worker: None };
        let job = self.apply(at, &event)?.expect("a claimed job is there");
        Ok(Reply::Claimed(vec![job]))
    }

    pub(super) fn checkpoint(&mut self, run: RunRef, bytes: &[u8]) -> Result<Reply, Rejection> {
        if bytes.len() > job_limits::CHECKPOINT_BYTES_MAX {
            let why = format!("{} bytes; the limit is {} (256 KiB)", bytes.len(), job_limits::CHECKPOINT_BYTES_MAX);
            return Err(Invalid { field: "checkpoint".to_owned(), why }.into());
        }
        let job = self.job(run.at).ok_or(Rejection::Unknown)?;
        if job.run != run.run || job.lease().is_none() {
            return Err(Rejection::Stale { said: run.run });
        }
        self.changes.push(Change::Payload(run.at, Part::Checkpoint, Some(bytes.to_vec())));
        Ok(Reply::Done)
    }

    /// One step: what cannot be done to a job passes it over.
    pub(super) fn bulk(&mut self, call: &Bulk) -> Reply {
        let page = self.set.pages.get(self.pages).cloned().unwrap_or_default();
        self.pages += 1;
        let mut changed = 0;
        for at in &page.jobs {
            let done = match &call.verb {
                BulkVerb::Cancel { reason } => self.cancel(*at, reason.as_deref()),
                BulkVerb::Retry => self.retry(*at, false),
                BulkVerb::Release => self.verb(*at, &Event::Released),
                BulkVerb::Delete { force, cascade } => self.delete(*at, *force, *cascade),
            };
            changed += u32::from(matches!(done, Ok(Reply::Deleted | Reply::Job { changed: true, .. })));
        }
        Reply::Bulk { matched: u32::try_from(page.jobs.len()).unwrap_or(u32::MAX), changed, next: page.next }
    }

    pub(super) fn set(&mut self, settings: &Settings) -> Result<Reply, Rejection> {
        let scope = settings.scope();
        if let Some((field, why)) = settings.problem() {
            return Err(Invalid { field: field.to_owned(), why }.into());
        }
        if let Settings::Tenant(tenant, TenantSettings { deleted: true, .. }) = settings {
            let unfinished = self.total(TotalKey { tenant: *tenant, of: Total::Unfinished });
            if unfinished > 0 {
                return Err(Rejection::TenantNotEmpty { unfinished });
            }
        }
        if let (Settings::Queue(tenant, name, new), Settings::Queue(_, _, old)) = (settings, self.setting(&scope))
            && new.order != old.order
            && let Some(queue) = self.known_queue(*tenant, name)
        {
            let unfinished = self.total(TotalKey { tenant: *tenant, of: Total::UnfinishedIn(queue) });
            if unfinished > 0 {
                return Err(Rejection::QueueNotEmpty { unfinished });
            }
        }
        if let Settings::Queue(tenant, name, new) = settings
            && let Some(queue) = self.known_queue(*tenant, name)
        {
            self.orders.insert(queue, new.order);
        }
        // It knows the order that its queue had.
        self.recent = None;
        self.settings.insert(scope, settings.clone());
        self.changes.push(Change::Settings(settings.clone()));
        Ok(Reply::Set(settings.clone()))
    }

    pub(super) fn resume(&mut self) -> Reply {
        if std::mem::take(&mut self.paused) {
            self.changes.push(Change::Paused(false));
            // What schedules missed while the store was away is not made up for.
            self.schedules_from = self.now;
            self.changes.push(Change::SchedulesFrom(self.now));
        }
        Reply::Done
    }

    pub(super) fn give_number(&mut self, name: &Name) -> Result<Reply, Rejection> {
        let Name { tenant, class, name: word } = name;
        let whose = match (class, *tenant) {
            (NameClass::Tenant, TenantId::NONE) => None,
            (NameClass::Tenant, _) => Some("of a tenant is nobody's"),
            (_, TenantId::NONE) => Some("needs a tenant"),
            _ => None,
        };
        if let Some(why) = class.problem(word).or_else(|| whose.map(str::to_owned)) {
            return Err(Invalid { field: class.as_str().to_owned(), why }.into());
        }
        if *class == NameClass::Tenant && word == TenantId::DEFAULT_NAME {
            return Ok(Reply::Named(TenantId::DEFAULT.0));
        }
        Ok(Reply::Named(self.name(*tenant, *class, word)))
    }

    pub(super) fn reserve_ids(&mut self, n: u32) -> Result<Reply, Rejection> {
        if !(1..=limits::RESERVED_IDS_MAX).contains(&n) {
            let why = format!("must be 1 to {}", limits::RESERVED_IDS_MAX);
            return Err(Invalid { field: "n".to_owned(), why }.into());
        }
        let first = self.next_job;
        self.next_job = JobId(first.0 + u64::from(n));
        Ok(Reply::Reserved { first })
    }
}
