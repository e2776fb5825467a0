//! Pages of a tenant's jobs, newest first, from whichever index is the narrowest.

use std::collections::BinaryHeap;

use redb::ReadableTable;

use super::job;
use crate::codec;
use crate::command::{CountKey, JobsPage, JobsQuery, limits};
use crate::engine::redb::{damaged, engine_error, tables};
use crate::error::StoreError;
use crate::index::{ListKey, TagKey};
use crate::job::{Job, JobId, JobRef};

/// Combinations of state, queue and kind whose lists are merged for one page; with more, rows are walked.
const MERGED_LISTS_MAX: usize = 256;
/// Rows that are looked at for one page, where rows are walked.
const WALKED_ROWS_MAX: usize = 20_000;

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
    /// The counts say which lists there are; their ends are merged by id. Where there are too many, rows are walked;
    /// where a tag is asked for, the rows that have it.
    pub(super) fn page(&self, query: &JobsQuery) -> Result<JobsPage, StoreError> {
        let limit = query.limit.min(limits::PAGE_ROWS_MAX) as usize;
        let before = query.before.unwrap_or(JobId(u64::MAX));
        if limit == 0 {
            return Ok(JobsPage::default());
        }
        if let Some((key, value)) = &query.tag {
            return self.tagged(query, (key, value), before, limit);
        }
        let mut lists = Vec::new();
        let (first, last) = tables::counts_of(query.tenant);
        for entry in self.counts.range::<&[u8; 14]>(&first..=&last).map_err(engine_error)? {
            let CountKey { lane, state } = tables::count_of(entry.map_err(engine_error)?.0.value());
            let list = ListKey { tenant: lane.tenant, state, queue: lane.queue, kind: lane.kind, id: before };
            if matches(query, &list) {
                lists.push(list);
            }
        }
        // Suspects are counted apart and listed with the others.
        lists.sort_unstable();
        lists.dedup();
        if lists.len() > MERGED_LISTS_MAX {
            return self.walked(query, before, limit);
        }
        let ids = self.newest(&lists, limit)?;
        let found = ids.into_iter().map(|id| job(&self.jobs, JobRef { tenant: query.tenant, job: id }));
        let jobs: Vec<Job> = found.filter_map(Result::transpose).collect::<Result<_, _>>()?;
        Ok(JobsPage { next: jobs.last().filter(|_| jobs.len() == limit).map(|job| job.id), jobs })
    }

    /// The newest ids of several lists: their ends are merged, so that no more is read than is answered.
    fn newest(&self, lists: &[ListKey], limit: usize) -> Result<Vec<JobId>, StoreError> {
        let mut rest = Vec::with_capacity(lists.len());
        for list in lists {
            let first = tables::list(&ListKey { id: JobId(0), ..*list });
            rest.push(self.lists.range::<&[u8; 21]>(&first..&tables::list(list)).map_err(engine_error)?);
        }
        let mut next = |list: usize| match rest[list].next_back() {
            Some(entry) => Ok(Some((tables::list_of(entry.map_err(engine_error)?.0.value()).id, list))),
            None => Ok(None),
        };
        let mut ends = BinaryHeap::with_capacity(lists.len());
        for list in 0..lists.len() {
            ends.extend(next(list)?);
        }
        let mut ids = Vec::new();
        while ids.len() < limit
            && let Some((id, list)) = ends.pop()
        {
            ids.push(id);
            ends.extend(next(list)?);
        }
        Ok(ids)
    }

    fn tagged(
        &self,
        query: &JobsQuery,
        (key, value): (&str, &str),
        before: JobId,
        limit: usize,
    ) -> Result<JobsPage, StoreError> {
        let at = |job| tables::tag(&TagKey::new(JobRef { tenant: query.tenant, job }, key, value));
        let mut page = Vec::new();
        let mut looked_at = 0;
        let range = self.tags.range::<&[u8; 20]>(&at(JobId(0))..&at(before)).map_err(engine_error)?;
        for entry in range.rev() {
            let id = tables::tag_of(entry.map_err(engine_error)?.0.value()).id;
            looked_at += 1;
            let Some(job) = job(&self.jobs, JobRef { tenant: query.tenant, job: id })? else { continue };
            let tagged = job.tags.iter().any(|(k, v)| k == key && v == value);
            if tagged && matches(query, &crate::index::keys(&job).list) {
                page.push(job);
            }
            if page.len() == limit || looked_at == WALKED_ROWS_MAX {
                return Ok(JobsPage { jobs: page, next: Some(id) });
            }
        }
        Ok(JobsPage { jobs: page, next: None })
    }

    fn walked(&self, query: &JobsQuery, before: JobId, limit: usize) -> Result<JobsPage, StoreError> {
        let first = tables::job(JobRef { tenant: query.tenant, job: JobId(0) });
        let last = tables::job(JobRef { tenant: query.tenant, job: before });
        let mut page = Vec::new();
        let mut looked_at = 0;
        let range = self.jobs.range::<&[u8; 12]>(&first..&last).map_err(engine_error)?;
        for entry in range.rev() {
            let (key, row) = entry.map_err(engine_error)?;
            let job = codec::job(row.value()).map_err(|error| damaged("jobs", key.value(), error))?;
            let id = job.id;
            looked_at += 1;
            if matches(query, &crate::index::keys(&job).list) {
                page.push(job);
            }
            if page.len() == limit || looked_at == WALKED_ROWS_MAX {
                return Ok(JobsPage { jobs: page, next: Some(id) });
            }
        }
        Ok(JobsPage { jobs: page, next: None })
    }
}

fn matches(query: &JobsQuery, list: &ListKey) -> bool {
    query.state.is_none_or(|state| state == list.state)
        && query.queue.is_none_or(|queue| queue == list.queue)
        && query.kind.is_none_or(|kind| kind == list.kind)
}
