//! Pages of a tenant's jobs, the newest or the oldest first, from whichever index is the narrowest. What no index knows, rows are
//! looked at for, up to a bound: a page may then have fewer jobs than asked for, and say where it goes on.

use std::collections::BinaryHeap;

use redb::ReadableTable;

use super::job;
use crate::codec;
use crate::command::{CountKey, JobsPage, JobsQuery, limits};
use crate::engine::redb::{damaged, engine_error, tables};
use crate::error::StoreError;
use crate::index::{ListKey, TagKey};
use crate::job::{Job, JobId, JobRef, fingerprint};

/// Combinations of state, queue and kind whose lists are merged for one page; with more, rows are walked.
const MERGED_LISTS_MAX: usize = 256;
/// Rows that are looked at for one page.
const ROWS_READ_MAX: usize = 4_000;

/// What a page is made from, in a read or in a write transaction.
pub(super) struct Lists<J, L, T, C> {
    pub(super) jobs: J,
    pub(super) lists: L,
    pub(super) tags: T,
    pub(super) counts: C,
}

impl<J, L, T, C> Lists<J, L, T, C>
where
    J: ReadableTable<&'static [u8; 12], &'static [u8]>,
    L: ReadableTable<&'static [u8; 21], ()>,
    T: ReadableTable<&'static [u8; 20], ()>,
    C: ReadableTable<&'static [u8; 14], u64>,
{
    /// The counts say which lists there are; their ends are merged by id. Where there are too many, or all, rows are walked;
    /// where a tag is asked for, the rows that have it.
    pub(super) fn page(&self, query: &JobsQuery) -> Result<JobsPage, StoreError> {
        if query.limit == 0 {
            return Ok(JobsPage::default());
        }
        if let Some((key, value)) = &query.tag {
            return self.tagged(query, (key, value));
        }
        if query.state.is_none() && query.queue.is_none() && query.kind.is_none() {
            // Every row is in some list: they are there in order, and need not be looked up one by one.
            return self.walked(query);
        }
        let mut lists = Vec::new();
        let (first, last) = tables::counts_of(query.tenant);
        for entry in self.counts.range::<&[u8; 14]>(&first..=&last).map_err(engine_error)? {
            let CountKey { lane, state } = tables::count_of(entry.map_err(engine_error)?.0.value());
            let list = ListKey { tenant: lane.tenant, state, queue: lane.queue, kind: lane.kind, id: JobId(0) };
            if matches(query, &list) {
                lists.push(list);
            }
        }
        // Suspects are counted apart and listed with the others.
        lists.sort_unstable();
        lists.dedup();
        if lists.len() > MERGED_LISTS_MAX { self.walked(query) } else { self.merged(query, &lists) }
    }

    /// The ends of several lists are merged, so that no more is read than is looked at.
    fn merged(&self, query: &JobsQuery, lists: &[ListKey]) -> Result<JobsPage, StoreError> {
        let (from, to) = bounds(query);
        let mut rest = Vec::with_capacity(lists.len());
        for list in lists {
            let at = |id| tables::list(&ListKey { id, ..*list });
            rest.push(self.lists.range::<&[u8; 21]>(&at(from)..&at(to)).map_err(engine_error)?);
        }
        let mut next = |list: usize| match end(&mut rest[list], query.oldest_first) {
            Some(entry) => Ok(Some((tables::list_of(entry.map_err(engine_error)?.0.value()).id, list))),
            None => Ok(None),
        };
        // The largest comes out first: of the oldest first, that is the one that is least far from the end of all ids.
        let place = |id: JobId| if query.oldest_first { u64::MAX - id.0 } else { id.0 };
        let mut ends = BinaryHeap::with_capacity(lists.len());
        for list in 0..lists.len() {
            ends.extend(next(list)?.map(|(id, list)| (place(id), id, list)));
        }
        let mut page = Filling::new(query);
        while let Some((_, id, list)) = ends.pop() {
            let job = job(&self.jobs, JobRef { tenant: query.tenant, job: id })?;
            if page.look(id, job) {
                break;
            }
            ends.extend(next(list)?.map(|(id, list)| (place(id), id, list)));
        }
        Ok(page.page)
    }

    fn tagged(&self, query: &JobsQuery, (key, value): (&str, &str)) -> Result<JobsPage, StoreError> {
        let at = |job| tables::tag(&TagKey::new(JobRef { tenant: query.tenant, job }, key, value));
        let (from, to) = bounds(query);
        let mut range = self.tags.range::<&[u8; 20]>(&at(from)..&at(to)).map_err(engine_error)?;
        let mut page = Filling::new(query);
        while let Some(entry) = end(&mut range, query.oldest_first) {
            let id = tables::tag_of(entry.map_err(engine_error)?.0.value()).id;
            let job = job(&self.jobs, JobRef { tenant: query.tenant, job: id })?;
            let job = job.filter(|job| job.tags.iter().any(|(k, v)| k == key && v == value));
            if page.look(id, job) {
                break;
            }
        }
        Ok(page.page)
    }

    fn walked(&self, query: &JobsQuery) -> Result<JobsPage, StoreError> {
        let at = |job| tables::job(JobRef { tenant: query.tenant, job });
        let (from, to) = bounds(query);
        let mut range = self.jobs.range::<&[u8; 12]>(&at(from)..&at(to)).map_err(engine_error)?;
        let mut page = Filling::new(query);
        while let Some(entry) = end(&mut range, query.oldest_first) {
            let (key, row) = entry.map_err(engine_error)?;
            let job = codec::job(row.value()).map_err(|error| damaged("jobs", key.value(), error))?;
            if page.look(job.id, Some(job)) {
                break;
            }
        }
        Ok(page.page)
    }
}

/// A page that is being filled.
struct Filling<'a> {
    query: &'a JobsQuery,
    limit: usize,
    looked_at: usize,
    page: JobsPage,
}

impl<'a> Filling<'a> {
    fn new(query: &'a JobsQuery) -> Self {
        let limit = query.limit.min(limits::PAGE_ROWS_MAX) as usize;
        Self { query, limit, looked_at: 0, page: JobsPage::default() }
    }

    /// Takes a job if it is asked for. Answers whether that is enough, of jobs or of work; then the page says where it goes on.
    fn look(&mut self, id: JobId, job: Option<Job>) -> bool {
        self.looked_at += 1;
        let wanted = |job: &Job| matches(self.query, &crate::index::list(job)) && self.query.only.fits(job);
        self.page.jobs.extend(job.filter(wanted));
        let enough = self.page.jobs.len() == self.limit || self.looked_at == ROWS_READ_MAX;
        self.page.next = enough.then_some(id);
        enough
    }
}

/// The ids of a page: from this one on, and up to that one without it.
fn bounds(query: &JobsQuery) -> (JobId, JobId) {
    let all = (JobId(0), JobId(u64::MAX));
    match query.beyond {
        None => all,
        Some(id) if query.oldest_first => (JobId(id.0.saturating_add(1)), all.1),
        Some(id) => (all.0, id),
    }
}

/// The next entry in the order that is asked for.
fn end<I: DoubleEndedIterator>(range: &mut I, oldest_first: bool) -> Option<I::Item> {
    if oldest_first { range.next() } else { range.next_back() }
}

fn matches(query: &JobsQuery, list: &ListKey) -> bool {
    query.state.is_none_or(|state| state == list.state)
        && query.queue.is_none_or(|queue| queue == list.queue)
        && query.kind.is_none_or(|kind| kind == list.kind)
        && query.only.error.is_none_or(|_| fingerprint::may_have(list.state))
}
