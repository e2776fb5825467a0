//! What `runner run` shows at its end: each job, or of many only what was not expected, and the totals.

use std::collections::BTreeMap;

use runner_store::Handle;
use runner_store::command::RunRecord;
use runner_store::job::{Job, JobRef, Reason, StateName, TenantId};
use serde_json::json;

use super::Accepted;
use crate::api::jobs;
use crate::cli::exit::Failure;
use crate::cli::output::{Format, Table, amount, bytes, millis, note, print, print_json};

/// Beyond so many jobs, only those that ended otherwise than expected are shown, and the totals of each kind.
const ROWS_MAX: usize = 200;

/// How each job of a list ended.
pub(super) struct Report {
    rows: Vec<Row>,
}

/// One job.
struct Row {
    id: String,
    kind: String,
    expect: StateName,
    /// None: the job was deleted.
    state: Option<StateName>,
    runs: u32,
    duration_ms: u64,
    fuel: u64,
    memory_peak_bytes: u64,
    error: String,
}

#[derive(Default)]
struct Total {
    jobs: u64,
    as_expected: u64,
    runs: u64,
    duration_ms: u64,
    fuel: u64,
    memory_peak_bytes: u64,
}

impl Report {
    pub(super) fn read(handle: &Handle, accepted: &[Accepted]) -> Result<Self, Failure> {
        let view = handle.snapshot()?;
        let row = |accepted: &Accepted| {
            let at = JobRef { tenant: TenantId::DEFAULT, job: accepted.id };
            let job = jobs::job(view.as_ref(), at)?;
            let runs = jobs::runs(view.as_ref(), at)?;
            let kind = job.as_ref().map(|job| handle.kind_name(job.kind).to_string()).unwrap_or_default();
            Ok(Row::new(accepted, kind, job.as_ref(), &runs))
        };
        Ok(Self { rows: accepted.iter().map(row).collect::<Result<_, Failure>>()? })
    }

    /// Jobs that have not ended.
    pub(super) fn unfinished(&self) -> usize {
        self.rows.iter().filter(|row| row.state.is_some_and(|state| !state.is_final())).count()
    }

    /// Whether each job ended as it was meant to.
    pub(super) fn as_expected(&self) -> bool {
        self.rows.iter().all(Row::is_expected)
    }

    pub(super) fn print(&self, format: Format) {
        match format {
            Format::Json => self.rows.iter().for_each(Row::print_json),
            Format::Table => self.print_tables(),
        }
        let unexpected = self.rows.iter().filter(|row| !row.is_expected()).count();
        let all = self.totals().into_values().fold(Total::default(), Total::add);
        note(&format!(
            "{} jobs, {} as expected, {unexpected} not; {} runs, {} of run time, fuel {}",
            all.jobs,
            all.as_expected,
            all.runs,
            millis(all.duration_ms),
            amount(all.fuel)
        ));
    }

    fn print_tables(&self) {
        let all = self.rows.len() <= ROWS_MAX;
        let mut table = Table::new(&["id", "kind", "state", "", "runs", "time", "fuel", "memory", "error"]);
        for row in self.rows.iter().filter(|row| all || !row.is_expected()) {
            table.row(row.cells());
        }
        table.print("every job ended as expected");
        if all {
            return;
        }
        let mut totals = Table::new(&["jobs", "as expected", "runs", "time", "fuel", "memory", "kind"]);
        for (kind, total) in self.totals() {
            let numbers = [total.jobs, total.as_expected, total.runs].map(|n| n.to_string());
            let measures = [millis(total.duration_ms), amount(total.fuel), bytes(total.memory_peak_bytes)];
            totals.row(numbers.into_iter().chain(measures).chain([kind.to_owned()]));
        }
        print("\n");
        totals.print("");
    }

    fn totals(&self) -> BTreeMap<&str, Total> {
        let mut totals: BTreeMap<&str, Total> = BTreeMap::new();
        for row in &self.rows {
            let total = totals.entry(&row.kind).or_default();
            *total = std::mem::take(total).add(Total {
                jobs: 1,
                as_expected: u64::from(row.is_expected()),
                runs: u64::from(row.runs),
                duration_ms: row.duration_ms,
                fuel: row.fuel,
                memory_peak_bytes: row.memory_peak_bytes,
            });
        }
        totals
    }
}

impl Row {
    fn new(accepted: &Accepted, kind: String, job: Option<&Job>, runs: &[RunRecord]) -> Self {
        let duration = |run: &RunRecord| run.started_at.map_or(0, |started| run.finished_at.since(started).0);
        let last = runs.last().and_then(|run| run.error.clone());
        let error = match job.map(|job| (job.state.name(), job.reason())) {
            None | Some((StateName::Completed, _)) => None,
            // What went wrong last says more than that all attempts failed.
            Some((_, None | Some(Reason::AttemptsExhausted { .. } | Reason::NeverRetried))) => last,
            Some((_, Some(reason))) => Some(reason.to_string()),
        };
        Self {
            id: accepted.id.to_string(),
            kind,
            expect: accepted.expect,
            state: job.map(|job| job.state.name()),
            runs: job.map_or(0, |job| job.run.0),
            duration_ms: runs.iter().map(duration).sum(),
            fuel: runs.iter().map(|run| run.fuel).sum(),
            memory_peak_bytes: runs.iter().map(|run| run.memory_peak_bytes).max().unwrap_or_default(),
            error: error.unwrap_or_default(),
        }
    }

    fn is_expected(&self) -> bool {
        self.state == Some(self.expect)
    }

    fn state(&self) -> &'static str {
        self.state.map_or("deleted", StateName::as_str)
    }

    fn cells(&self) -> [String; 9] {
        let (mark, error) = match self.is_expected() {
            true => ("ok", self.error.clone()),
            false if self.error.is_empty() => ("NO", format!("expected {}", self.expect)),
            false => ("NO", format!("expected {}: {}", self.expect, self.error)),
        };
        [
            self.id.clone(),
            self.kind.clone(),
            self.state().to_owned(),
            mark.to_owned(),
            self.runs.to_string(),
            millis(self.duration_ms),
            amount(self.fuel),
            bytes(self.memory_peak_bytes),
            error,
        ]
    }

    fn print_json(&self) {
        print_json(&json!({
            "id": self.id, "kind": self.kind, "state": self.state(), "expect": self.expect,
            "as_expected": self.is_expected(), "runs": self.runs, "duration": format!("{}ms", self.duration_ms),
            "fuel": self.fuel, "memory_peak_bytes": self.memory_peak_bytes,
            "error": (!self.error.is_empty()).then_some(&self.error),
        }));
    }
}

impl Total {
    fn add(self, other: Self) -> Self {
        Self {
            jobs: self.jobs + other.jobs,
            as_expected: self.as_expected + other.as_expected,
            runs: self.runs + other.runs,
            duration_ms: self.duration_ms + other.duration_ms,
            fuel: self.fuel + other.fuel,
            memory_peak_bytes: self.memory_peak_bytes.max(other.memory_peak_bytes),
        }
    }
}
