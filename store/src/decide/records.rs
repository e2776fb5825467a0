//! What is kept of each run: its record, its log, and what it leaves beside its row.

use crate::command::{Measured, Part, RunRecord, RunRef};
use crate::engine::Change;
use crate::job::{Holder, JobRef, Lease, Outcome, OutcomeName, RunNumber, limits};

use super::Batch;

impl Batch<'_> {
    /// Makes room for the texts of `newest` among the records of its job: older ones give up their backtraces, their
    /// notes and the rest of their errors.
    pub(super) fn shorten_runs(&mut self, at: JobRef, newest: &RunRecord) {
        let mut left = limits::RUNS_BYTES_MAX.saturating_sub(text_bytes(newest));
        for record in self.set.runs.get(&at).into_iter().flatten().rev() {
            let mut short = record.clone();
            if text_bytes(&short) > left {
                short.trace = None;
            }
            if text_bytes(&short) > left {
                short.notes = Vec::new();
            }
            if text_bytes(&short) > left {
                short.error = short.error.map(|text| cut_marked(&text, limits::ROW_ERROR_BYTES_MAX));
            }
            left = left.saturating_sub(text_bytes(&short));
            if short != *record {
                self.changes.push(Change::Run(at, Box::new(short)));
            }
        }
    }

    /// The record of a run of which this was measured.
    pub(super) fn record(
        &self,
        run: RunNumber,
        lease: Option<&Lease>,
        outcome: &Outcome,
        measured: &Measured,
    ) -> RunRecord {
        let progress = measured.progress.as_ref();
        let bare = self.bare_record(run, lease, outcome.name());
        let notes = measured.notes.iter().take(limits::NOTES_MAX);
        // Wherever the clocks went: a run ends after it began, and before it is recorded.
        let finished_at = measured.finished_at.map_or(bare.finished_at, |at| at.min(bare.finished_at));
        RunRecord {
            started_at: measured.started_at,
            finished_at: finished_at.max(measured.started_at.unwrap_or_default()),
            error: outcome.error().map(|text| cut_marked(&text, limits::ERROR_BYTES_MAX)),
            trace: outcome.trace().map(|text| cut_marked(text, limits::TRACE_BYTES_MAX)),
            fuel: measured.fuel,
            memory_peak_bytes: measured.memory_peak_bytes,
            plugin: measured.plugin,
            progress: progress
                .map(|(percent, words)| ((*percent).min(100), cut_marked(words, limits::ROW_ERROR_BYTES_MAX))),
            memory_denied: measured.memory_denied,
            notes: notes.map(|note| cut_marked(note, limits::NOTE_BYTES_MAX)).collect(),
            ..bare
        }
    }

    /// The record of a run of which nothing was measured.
    pub(super) fn bare_record(&self, run: RunNumber, lease: Option<&Lease>, outcome: OutcomeName) -> RunRecord {
        let node = |lease: &Lease| match lease.holder {
            Holder::Node(boot) => Some(boot),
            Holder::Worker(_) => None,
        };
        RunRecord {
            run,
            started_at: None,
            // The clock may have stepped back since; a run does not end before it began.
            finished_at: lease.map_or(self.now, |lease| self.now.max(lease.claimed_at)),
            outcome,
            error: None,
            trace: None,
            fuel: 0,
            memory_peak_bytes: 0,
            plugin: None,
            node: lease.and_then(node),
            progress: None,
            staged: Vec::new(),
            memory_denied: false,
            notes: Vec::new(),
            call: None,
            worker: lease.and_then(|lease| lease.worker.clone()),
        }
    }

    /// What a run leaves beside its row: the output of one that completed, with which its checkpoint goes; else what a
    /// later run may resume from.
    pub(super) fn write_payloads(&mut self, at: JobRef, outcome: &Outcome, checkpoint: Option<&[u8]>) {
        match outcome {
            Outcome::Completed { output } => {
                self.hear_output(at, output);
                if !output.is_empty() {
                    self.changes.push(Change::Payload(at, Part::Output, Some(output.clone())));
                }
                // Whether there is one, only the file knows: a first run may have left one while it went on.
                self.changes.push(Change::Payload(at, Part::Checkpoint, None));
            }
            _ => {
                if let Some(bytes) = checkpoint {
                    self.changes.push(Change::Payload(at, Part::Checkpoint, Some(bytes.to_vec())));
                }
            }
        }
    }

    /// Keeps the log of a run; older ones of its job make room for it. One that is too large is left out, and the record
    /// says so: half of it would be nothing to whoever reads it.
    pub(super) fn write_log(&mut self, of: RunRef, log: Option<&[u8]>, record: &mut RunRecord) {
        let Some(log) = log else { return };
        if log.len() > limits::RUN_LOG_BYTES_MAX {
            let max = limits::RUN_LOG_BYTES_MAX;
            add_note(record, format!("its log of {} bytes was left out; the limit is {max} (128 KiB)", log.len()));
            return;
        }
        let read = || self.set.run_logs.get(&of.at).cloned().unwrap_or_default();
        let mut kept = self.run_logs.remove(&of.at).unwrap_or_else(read);
        kept.push((of.run, log.len()));
        let mut bytes: usize = kept.iter().map(|(_, bytes)| bytes).sum();
        let too_many = |first: RunNumber| first.0.saturating_add(limits::RUNS_KEPT) <= of.run.0;
        let gone = kept.iter().take_while(|(run, len)| {
            let goes = bytes > limits::RUN_LOGS_BYTES_MAX || too_many(*run);
            bytes -= if goes { *len } else { 0 };
            goes
        });
        let gone = gone.count();
        let goes = |(run, _): (RunNumber, usize)| Change::RunLog(RunRef { run, ..of }, None);
        self.changes.extend(kept.drain(..gone).map(goes));
        self.changes.push(Change::RunLog(of, Some(log.to_vec())));
        self.run_logs.insert(of.at, kept);
    }
}

/// Adds a note of the store's own to a record, as far as there is room for it.
pub(super) fn add_note(record: &mut RunRecord, note: String) {
    if record.notes.len() < limits::NOTES_MAX {
        record.notes.push(cut_marked(&note, limits::NOTE_BYTES_MAX));
    }
}

fn text_bytes(record: &RunRecord) -> usize {
    let texts = record.error.iter().chain(&record.trace).chain(&record.notes);
    texts.map(String::len).sum()
}

/// At most `max` bytes of `text`; where something was cut off, it says so.
fn cut_marked(text: &str, max: usize) -> String {
    const MARK: &str = " … [cut]";
    if text.len() <= max {
        return text.to_owned();
    }
    format!("{}{MARK}", &text[..text.floor_char_boundary(max - MARK.len())])
}
