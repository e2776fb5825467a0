//! What a commit changes of the keys of jobs, for whoever starts them.

use std::collections::{BTreeMap, BTreeSet};

use super::Change;
use crate::command::Lane;
use crate::index::{self, KeyOf, Order};
use crate::job::{Job, State};

/// What a commit changes of keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyChanges {
    /// Lanes of keys whose jobs have changed, and what is first in each now; none: it is empty.
    pub heads: Vec<(Lane, Option<Order>)>,
    /// By how many more, or fewer, jobs of a key have begun and not ended.
    pub begun: Vec<(KeyOf, i64)>,
}

impl KeyChanges {
    /// Whether nothing has changed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heads.is_empty() && self.begun.is_empty()
    }
}

/// The lanes of keys whose jobs `changes` change, in order, and how the numbers of those differ that have begun and not
/// ended. Costs nothing where no job has a key.
#[must_use]
pub(crate) fn key_differences(changes: &[Change]) -> (BTreeSet<Lane>, Vec<(KeyOf, i64)>) {
    let (mut lanes, mut begun) = (BTreeSet::new(), BTreeMap::<KeyOf, i64>::new());
    let mut see = |job: &Job, difference: i64| {
        let Some(of) = index::key_of(job) else { return };
        if job.state == State::Available {
            lanes.insert(index::lane(job));
        }
        if job.has_begun() && !cfg!(planted = "begun_not_counted") {
            *begun.entry(of).or_default() += difference;
        }
    };
    for change in changes {
        if let Change::Job { before, after, .. } = change {
            before.iter().for_each(|job| see(job, -1));
            after.iter().for_each(|job| see(job, 1));
        }
    }
    (lanes, begun.into_iter().filter(|(_, n)| *n != 0).collect())
}
