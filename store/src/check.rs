//! What `runner store check` reports.

/// The findings of a check. A store without findings is clean: every row decodes, every index entry is that of a row and
/// every row has its entries, every count is the number of its rows, every payload, run record and log of a run belongs to a
/// row, every key to a plugin, and the log's events chain, fold to the rows, and end at them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Rows looked at.
    pub jobs: u64,
    /// Events looked at.
    pub events: u64,
    /// Jobs whose whole history was in the log and was folded.
    pub folded: u64,
    /// What is wrong: the first [`FINDINGS_MAX`].
    pub findings: Vec<String>,
    /// How many things are wrong.
    pub wrong: u64,
}

/// Findings that are spelt out; a damaged store may have one for every row.
pub const FINDINGS_MAX: usize = 100;

impl Report {
    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.wrong == 0
    }

    pub(crate) fn find(&mut self, what: impl FnOnce() -> String) {
        self.wrong += 1;
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(what());
        }
    }

    pub(crate) fn ensure(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.find(what);
        }
    }
}
