//! What a client was promised: each job that was acknowledged, and what the last answer about it means for its end.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// Every job that was asked for carries a tag of this name, which no other job has.
pub(super) const TAG: &str = "call";

/// A job as it was asked for.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) tag: String,
    pub(super) kind: &'static str,
    /// As the API takes it.
    pub(super) body: Value,
}

/// What the client knows of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is to end by itself.
    Open,
    /// It was seen in this final state after this run; nobody asked for more.
    Ended { state: String, run: u32 },
    /// It was asked to be cancelled while it ran.
    CancelAsked,
    /// It is gone.
    Deleted,
    /// A call about it was cut, and what came after does not say what it did.
    Unsure,
}

/// An acknowledged job.
#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) id: u64,
    pub(super) asked: Asked,
    pub(super) standing: Standing,
    /// Retries that were acknowledged as such, and those that may have happened beside them.
    pub(super) retries: (u32, u32),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    /// In the order of their acceptance.
    pub(super) entries: Vec<Entry>,
    /// Lists without a key whose answers were lost: accepted whole or not at all.
    pub(super) perhaps: Vec<Vec<Asked>>,
    /// Jobs that were not accepted, as another one had their unique key: its id, and the key.
    pub(super) joined: Vec<(u64, String)>,
    /// Calls that were cut and repeated with their key.
    pub(super) repeated: u64,
    pub(super) calls: BTreeMap<&'static str, u64>,
}

impl Asked {
    pub(super) fn unique_key(&self) -> Option<&str> {
        self.body["unique"]["key"].as_str()
    }
}

impl Ledger {
    pub(super) fn accept(&mut self, id: u64, asked: Asked) {
        self.entries.push(Entry { id, asked, standing: Standing::Open, retries: (0, 0) });
    }

    pub(super) fn merge(ledgers: Vec<Self>) -> Self {
        let mut all = Self::default();
        for ledger in ledgers {
            all.entries.extend(ledger.entries);
            all.perhaps.extend(ledger.perhaps);
            all.joined.extend(ledger.joined);
            all.repeated += ledger.repeated;
            for (what, n) in ledger.calls {
                *all.calls.entry(what).or_default() += n;
            }
        }
        let ids: BTreeSet<u64> = all.entries.iter().map(|entry| entry.id).collect();
        assert_eq!(ids.len(), all.entries.len(), "two calls were answered with one id");
        all
    }
}

impl Entry {
    /// An answer that shows the job: what is final now stays so.
    pub(super) fn shown(&mut self, job: &Value) {
        assert_eq!(job["tags"][TAG], self.asked.tag, "job {} is another one", self.id);
        let state = job["state"].as_str().unwrap();
        let run = u32::try_from(job["run"].as_u64().unwrap()).unwrap();
        if let Standing::Ended { state: before, run: last } = &self.standing {
            assert_eq!((before.as_str(), *last), (state, run), "job {} had ended otherwise", self.id);
        }
        if matches!(state, "completed" | "discarded" | "cancelled") {
            self.standing = Standing::Ended { state: state.to_owned(), run };
        }
    }
}
