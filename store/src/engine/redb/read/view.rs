//! Consistent views: the answers to queries.

use redb::{ReadTransaction, ReadableTable, ReadableTableMetadata};

use super::list::Lists;
use super::{job, runs};
use crate::codec;
use crate::command::{Answer, CountKey, Events, Name, Query, Stored, limits};
use crate::engine::redb::{damaged, engine_error, guarded, listening, meta, tables, tokens};
use crate::engine::{KeyRecord, KeyRef, Snapshot, UniqueRecord, Wait};
use crate::error::StoreError;
use crate::index::WaitKey;
use crate::job::{JobId, JobRef, Seq, Time};

/// A consistent view.
pub(in crate::engine::redb) struct View(pub(in crate::engine::redb) ReadTransaction);

impl Snapshot for View {
    fn read(&self, query: &Query) -> Result<Answer, StoreError> {
        guarded(|| self.answer(query))
    }
}

impl View {
    fn answer(&self, query: &Query) -> Result<Answer, StoreError> {
        Ok(match query {
            Query::Job(at) => {
                let jobs = self.0.open_table(tables::JOBS).map_err(engine_error)?;
                Answer::Job(job(&jobs, *at)?)
            }
            Query::Payload(at, part) => {
                let payloads = self.0.open_table(tables::PAYLOADS).map_err(engine_error)?;
                let value = payloads.get(&tables::payload(*at, *part)).map_err(engine_error)?;
                Answer::Payload(value.map(|bytes| bytes.value().to_vec()))
            }
            Query::Runs(at) => Answer::Runs(runs(&self.0.open_table(tables::RUNS).map_err(engine_error)?, *at)?),
            Query::Jobs(query) => {
                let open = |error: redb::TableError| engine_error(error);
                let lists = Lists {
                    jobs: self.0.open_table(tables::JOBS).map_err(open)?,
                    lists: self.0.open_table(tables::LISTS).map_err(open)?,
                    tags: self.0.open_table(tables::TAGS).map_err(open)?,
                    counts: self.0.open_table(tables::COUNTS).map_err(open)?,
                };
                Answer::Jobs(lists.page(query)?)
            }
            Query::Counts => Answer::Counts(self.counts()?),
            Query::Keys => Answer::Keys(self.keys_in_use()?),
            Query::Begun(of, limit) => Answer::Begun(self.begun(*of, *limit)?),
            Query::Names => Answer::Names(self.names()?),
            Query::Events { since, limit } => Answer::Events(self.events(*since, *limit)?),
            Query::Key(tenant, key) => {
                let keys = self.0.open_table(tables::KEYS).map_err(engine_error)?;
                let key = tables::key(KeyRef::of(*tenant, key));
                let value = keys.get(&key).map_err(engine_error)?;
                let record = value.map(|value| codec::decode::<KeyRecord>(value.value())).transpose();
                let record = record.map_err(|error| damaged("keys", &key, error))?;
                Answer::Key(record.map(|record| (record.until, record.answer)))
            }
            Query::Unique(tenant, key) => {
                let uniques = self.0.open_table(tables::UNIQUES).map_err(engine_error)?;
                let key = tables::key(KeyRef::of(*tenant, key));
                let value = uniques.get(&key).map_err(engine_error)?;
                let record = value.map(|value| codec::decode::<UniqueRecord>(value.value())).transpose();
                let record = record.map_err(|error| damaged("uniques", &key, error))?;
                Answer::Unique(record.map(|record| (record.job, record.until)))
            }
            Query::Dependents(at, limit) => Answer::Dependents(self.dependents(*at, *limit)?),
            Query::Settings(scope) => {
                let settings = self.0.open_table(tables::SETTINGS).map_err(engine_error)?;
                Answer::Settings(super::setting(&settings, scope)?.unwrap_or_else(|| scope.defaults()))
            }
            Query::AllSettings => {
                let settings = self.0.open_table(tables::SETTINGS).map_err(engine_error)?;
                let mut all = Vec::new();
                for entry in settings.iter().map_err(engine_error)? {
                    let (key, value) = entry.map_err(engine_error)?;
                    let decoded = codec::decode(value.value());
                    all.push(decoded.map_err(|error| damaged("settings", key.value(), error))?);
                }
                Answer::AllSettings(all)
            }
            Query::Kv(space, key) => Answer::Kv(self.kv(*space, key)?),
            Query::KvKeys(query) => Answer::KvKeys(self.kv_keys(query)?),
            Query::KvCount(tenant) => Answer::KvCount(self.kv_count(*tenant)?),
            Query::RunLog(run) => Answer::RunLog(self.run_log(*run)?),
            Query::Schedule(at) => Answer::Schedule(self.schedule(at)?),
            Query::Schedules { tenant, after, limit } => {
                Answer::Schedules(self.schedules(*tenant, after.as_ref(), *limit)?)
            }
            Query::ScheduleCount(tenant) => Answer::ScheduleCount(self.schedule_count(*tenant)?),
            Query::Subscriptions => {
                let table = self.0.open_table(tables::SUBSCRIPTIONS).map_err(engine_error)?;
                Answer::Subscriptions(listening::subscriptions(&table)?)
            }
            Query::Stored => Answer::Stored(self.stored()?),
            Query::Tokens => Answer::Tokens(tokens::all(&self.0.open_table(tables::TOKENS).map_err(engine_error)?)?),
            Query::Oldest => Answer::Oldest(self.oldest()?),
            Query::NextDue => {
                let due = self.0.open_table(tables::DUE).map_err(engine_error)?;
                let first = due.first().map_err(engine_error)?;
                Answer::NextDue(first.map(|(key, _)| tables::due_of(key.value()).run_at))
            }
        })
    }

    pub(in crate::engine::redb) fn counts(&self) -> Result<Vec<(CountKey, u64)>, StoreError> {
        let counts = self.0.open_table(tables::COUNTS).map_err(engine_error)?;
        let entries = counts.iter().map_err(engine_error)?;
        entries
            .map(|entry| {
                let (key, n) = entry.map_err(engine_error)?;
                Ok((tables::count_of(key.value()), n.value()))
            })
            .collect()
    }

    pub(in crate::engine::redb) fn names(&self) -> Result<Vec<(Name, u32)>, StoreError> {
        let names = self.0.open_table(tables::NAMES).map_err(engine_error)?;
        let entries = names.iter().map_err(engine_error)?;
        entries
            .map(|entry| {
                let (key, value) = entry.map_err(engine_error)?;
                let name = codec::decode(value.value()).map_err(|e| damaged("names", key.value(), e))?;
                Ok((name, u32::from_be_bytes(*key.value())))
            })
            .collect()
    }

    fn dependents(&self, at: JobRef, limit: u32) -> Result<Vec<JobId>, StoreError> {
        let waits = self.0.open_table(tables::WAITS).map_err(engine_error)?;
        let first = WaitKey { tenant: at.tenant, on: at.job, wait: Wait::Waiting, id: JobId(0) };
        let last = WaitKey { wait: Wait::EndedBy, id: JobId(u64::MAX), ..first };
        let range = waits.range::<&[u8; 21]>(&tables::wait(&first)..=&tables::wait(&last)).map_err(engine_error)?;
        let limit = limit.min(limits::PAGE_ROWS_MAX) as usize;
        range.take(limit).map(|entry| Ok(tables::wait_of(entry.map_err(engine_error)?.0.value()).id)).collect()
    }

    fn stored(&self) -> Result<Stored, StoreError> {
        let spreads = self.0.open_table(tables::SPREADS).map_err(engine_error)?;
        let heard = self.0.open_table(tables::HEARD).map_err(engine_error)?;
        let (kv_keys, run_logs) = self.kept()?;
        Ok(Stored {
            epoch: self.number(meta::EPOCH)?.unwrap_or(1),
            paused: self.number(meta::PAUSED)?.unwrap_or_default() != 0,
            log_bytes: self.number(tables::LOG_BYTES)?.unwrap_or_default(),
            settling: spreads.len().map_err(engine_error)?,
            unheard: heard.len().map_err(engine_error)?,
            kv_keys,
            run_logs,
            schedules_from: Time(self.number(tables::SCHEDULES_FROM)?.unwrap_or_default()),
        })
    }

    /// A single number of the store.
    pub(in crate::engine::redb) fn number(&self, name: &str) -> Result<Option<u64>, StoreError> {
        let numbers = self.0.open_table(tables::META).map_err(engine_error)?;
        Ok(numbers.get(name).map_err(engine_error)?.map(|n| n.value()))
    }

    fn events(&self, since: Seq, limit: u32) -> Result<Events, StoreError> {
        let log = self.0.open_table(tables::LOG).map_err(engine_error)?;
        let next = Seq(self.number(tables::NEXT_SEQ)?.unwrap_or(1));
        let oldest = log.first().map_err(engine_error)?.map(|(key, _)| Seq(u64::from_be_bytes(*key.value())));
        let range = log.range::<&[u8; 8]>(&since.0.to_be_bytes()..).map_err(engine_error)?;
        let mut entries = Vec::new();
        for entry in range.take(limit.min(limits::PAGE_ROWS_MAX) as usize) {
            let (key, value) = entry.map_err(engine_error)?;
            entries.push(codec::decode(value.value()).map_err(|error| damaged("log", key.value(), error))?);
        }
        let restored = Seq(self.number(meta::RESTORED_FIRST_SEQ)?.unwrap_or_default());
        Ok(Events { entries, oldest: oldest.unwrap_or(next), next, restored })
    }
}
