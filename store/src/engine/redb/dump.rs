//! Everything that the file keeps, for comparison with other engines.

use redb::{ReadableDatabase, ReadableTable};

use super::check::{Look, each, number};
use super::{Redb, damaged, engine_error, guarded, listening, meta, read::View, tables, tokens};
use crate::codec;
use crate::command::{RunRef, Settings};
use crate::engine::Dump;
use crate::error::StoreError;

impl Redb {
    /// Everything that is kept.
    ///
    /// # Errors
    /// The file could not be read.
    pub fn dump(&self) -> Result<Dump, StoreError> {
        guarded(|| self.copy())
    }

    fn copy(&self) -> Result<Dump, StoreError> {
        let view = Look::new(View(self.db.begin_read().map_err(engine_error)?), &|| true);
        let mut dump = Dump { counts: view.counts()?, names: view.names()?, ..Dump::default() };
        let db = &view.0;
        each(&view, tables::JOBS, |key, row| {
            dump.jobs.push(codec::job(row).map_err(|e| damaged("jobs", key, e))?);
            Ok(())
        })?;
        each(&view, tables::RUNS, |key, value| {
            dump.runs.push((tables::run_of(key).0, codec::decode(value).map_err(|e| damaged("runs", key, e))?));
            Ok(())
        })?;
        each(&view, tables::RUN_LOGS, |key, log| {
            let (at, run) = tables::run_of(key);
            dump.run_logs.push((RunRef { at, run }, log.to_vec()));
            Ok(())
        })?;
        for entry in db.open_table(tables::KV).map_err(engine_error)?.iter().map_err(engine_error)? {
            let (key, value) = entry.map_err(engine_error)?;
            dump.kv.extend(tables::kv_of(key.value()).map(|key| (key, value.value().to_vec())));
        }
        each(&view, tables::PAYLOADS, |key, value| {
            if let (at, Some(part)) = tables::payload_of(key) {
                dump.payloads.push((at, part, value.to_vec()));
            }
            Ok(())
        })?;
        each(&view, tables::LANES, |key, ()| {
            dump.lanes.push(tables::lane_of(key));
            Ok(())
        })?;
        each(&view, tables::KEYED_LANES, |key, ()| {
            dump.lanes.push(tables::keyed_lane_of(key));
            Ok(())
        })?;
        // As if they stood in one table.
        dump.lanes.sort_unstable();
        each(&view, tables::BEGUN, |key, ()| {
            dump.begun.push(tables::begun_of(key));
            Ok(())
        })?;
        each(&view, tables::DUE, |key, ()| {
            dump.due.push(tables::due_of(key));
            Ok(())
        })?;
        each(&view, tables::LISTS, |key, ()| {
            dump.lists.push(tables::list_of(key));
            Ok(())
        })?;
        each(&view, tables::KEYS, |key, value| {
            dump.keys.push((tables::key_of(key), codec::decode(value).map_err(|e| damaged("keys", key, e))?));
            Ok(())
        })?;
        each(&view, tables::EXPIRY, |key, ()| {
            dump.expiry.push(tables::expiry_of(key));
            Ok(())
        })?;
        each(&view, tables::ENDED, |key, ()| {
            dump.ended.push(tables::ended_of(key));
            Ok(())
        })?;
        each(&view, tables::WAITS, |key, ()| {
            dump.waits.push(tables::wait_of(key));
            Ok(())
        })?;
        each(&view, tables::TAGS, |key, ()| {
            dump.tags.push(tables::tag_of(key));
            Ok(())
        })?;
        each(&view, tables::SCHEDULED, |key, ()| {
            dump.scheduled.push(tables::scheduled_of(key));
            Ok(())
        })?;
        for entry in db.open_table(tables::SCHEDULES).map_err(engine_error)?.iter().map_err(engine_error)? {
            let (key, value) = entry.map_err(engine_error)?;
            let schedule = codec::decode(value.value());
            dump.schedules.push(schedule.map_err(|error| damaged("schedules", key.value(), error))?);
        }
        dump.schedules_from = crate::job::Time(view.number(tables::SCHEDULES_FROM)?.unwrap_or_default());
        each(&view, tables::UNIQUES, |key, value| {
            dump.uniques.push((tables::key_of(key), codec::decode(value).map_err(|e| damaged("uniques", key, e))?));
            Ok(())
        })?;
        each(&view, tables::SPREADS, |key, value| {
            dump.spreads.push((tables::job_of(key), codec::decode(value).map_err(|e| damaged("spreads", key, e))?));
            Ok(())
        })?;
        each(&view, tables::HEARD, |key, value| {
            let heard = codec::decode(value).map_err(|e| damaged("heard", key, e))?;
            dump.heard.push((u64::from_be_bytes(*key), heard));
            Ok(())
        })?;
        dump.subscriptions = listening::subscriptions(&db.open_table(tables::SUBSCRIPTIONS).map_err(engine_error)?)?;
        each(&view, tables::SETTINGS, |key, value| {
            let settings: Settings = codec::decode(value).map_err(|e| damaged("settings", key, e))?;
            dump.settings.push((settings.scope(), settings));
            Ok(())
        })?;
        // By name, as they are thought of; the file has them by the hashes of the names.
        dump.settings.sort_by(|(left, _), (right, _)| left.cmp(right));
        each(&view, tables::TOTALS, |key, n| {
            dump.totals.push((tables::total_of(key), n));
            Ok(())
        })?;
        dump.totals.sort_unstable();
        dump.tokens = tokens::all(&db.open_table(tables::TOKENS).map_err(engine_error)?)?;
        dump.paused = view.number(meta::PAUSED)?.unwrap_or_default() != 0;
        dump.log_bytes = view.number(tables::LOG_BYTES)?.unwrap_or_default();
        each(&view, tables::LOG, |key, value| {
            dump.log.push(codec::decode(value).map_err(|e| damaged("log", key, e))?);
            Ok(())
        })?;
        dump.next_job = crate::job::JobId(number(&view, tables::NEXT_JOB)?);
        Ok(dump)
    }
}
