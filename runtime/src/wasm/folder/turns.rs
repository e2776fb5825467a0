//! Whose plugin is compiled next: tenants in turn, each within its hour's share. Pure: the time is a parameter.
//!
//! A tenant that is cheap to serve does not wait behind one whose plugins take minutes each; one that has used up its
//! share waits until the hour has moved on. The share bounds when a compile may begin, so what is spent in an hour is at
//! most the share and one compile. The tenant `default` has no share: its folder is the operator's own.

use std::collections::{HashMap, VecDeque};

use runner_store::job::Millis;

use super::registry::TENANT_DEFAULT;

/// The time over which shares are counted.
const PERIOD: Millis = Millis::secs(3_600);
/// What one tenant may spend in it: some five of the slowest honest plugins.
const SHARE: Millis = Millis::secs(120);

/// What waits to be compiled.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// Tenants that have something, the next one first. None of the queues is empty.
    queues: VecDeque<(String, VecDeque<T>)>,
    /// When compiles ended and how long they took, within the last period.
    spent: HashMap<String, VecDeque<(Millis, Millis)>>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { queues: VecDeque::new(), spent: HashMap::new() }
    }
}

impl<T: PartialEq> Turns<T> {
    /// Puts something at the end of a tenant's queue, unless it is in it.
    pub(super) fn push(&mut self, tenant: &str, item: T) {
        match self.queues.iter_mut().find(|(of, _)| of == tenant) {
            Some((_, queue)) if queue.contains(&item) => {}
            Some((_, queue)) => queue.push_back(item),
            None => self.queues.push_back((tenant.to_owned(), VecDeque::from([item]))),
        }
    }

    /// Takes something out.
    pub(super) fn remove(&mut self, item: &T) {
        self.queues.iter_mut().for_each(|(_, queue)| queue.retain(|other| other != item));
        self.queues.retain(|(_, queue)| !queue.is_empty());
    }

    /// What is compiled now; its tenant's next turn comes after all others'.
    pub(super) fn next(&mut self, now: Millis) -> Option<T> {
        let place = self.queues.iter().position(|(tenant, _)| self.waits_until(tenant, now).is_none())?;
        let (tenant, mut queue) = self.queues.remove(place)?;
        let item = queue.pop_front();
        if !queue.is_empty() {
            self.queues.push_back((tenant, queue));
        }
        item
    }

    /// Notes what a compile took that has just ended.
    pub(super) fn spend(&mut self, tenant: &str, now: Millis, took: Millis) {
        let spent = self.spent.entry(tenant.to_owned()).or_default();
        spent.push_back((now, took));
        spent.retain(|(ended, _)| is_recent(*ended, now));
    }

    /// Until when a tenant has to wait because it has used up its share; none: it has not.
    pub(super) fn waits_until(&self, tenant: &str, now: Millis) -> Option<Millis> {
        if tenant == TENANT_DEFAULT {
            return None;
        }
        let recent: Vec<_> = self.spent.get(tenant)?.iter().filter(|(ended, _)| is_recent(*ended, now)).collect();
        let mut sum: u64 = recent.iter().map(|(_, took)| took.0).sum();
        let mut until = None;
        for (ended, took) in recent {
            if sum < SHARE.0 {
                break;
            }
            sum -= took.0;
            until = Some(Millis(ended.0 + PERIOD.0));
        }
        until
    }

    /// When the first of those that have to wait may go on.
    pub(super) fn next_at(&self, now: Millis) -> Option<Millis> {
        self.queues.iter().filter_map(|(tenant, _)| self.waits_until(tenant, now)).min()
    }

    /// Everything that waits, with its tenant.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, &T)> {
        self.queues.iter().flat_map(|(tenant, queue)| queue.iter().map(move |item| (tenant.as_str(), item)))
    }
}

fn is_recent(ended: Millis, now: Millis) -> bool {
    ended.0 + PERIOD.0 > now.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turns(items: &[(&str, u32)]) -> Turns<u32> {
        let mut turns = Turns::default();
        items.iter().for_each(|(tenant, item)| turns.push(tenant, *item));
        turns
    }

    fn all(turns: &mut Turns<u32>, now: Millis) -> Vec<u32> {
        std::iter::from_fn(|| turns.next(now)).collect()
    }

    #[test]
    fn tenants_take_turns() {
        let mut turns = turns(&[("a", 1), ("a", 2), ("a", 3), ("b", 4), ("c", 5), ("c", 6), ("a", 1)]);
        turns.remove(&2);
        assert_eq!(turns.iter().count(), 5);
        assert_eq!(all(&mut turns, Millis(0)), [1, 4, 5, 3, 6]);
    }

    #[test]
    fn a_share_that_is_used_up_comes_back_bit_by_bit() {
        let mut turns = turns(&[("a", 1), ("a", 2), ("b", 3)]);
        turns.spend("a", Millis::secs(10), Millis::secs(60));
        turns.spend("a", Millis::secs(100), Millis::secs(61));
        assert_eq!(all(&mut turns, Millis::secs(100)), [3]);
        assert_eq!(turns.next_at(Millis::secs(100)), Some(Millis::secs(3_610)));
        assert_eq!(turns.next(Millis::secs(3_609)), None);
        assert_eq!(turns.next(Millis::secs(3_610)), Some(1));
        turns.spend("a", Millis::secs(3_700), Millis::secs(300));
        assert_eq!(turns.waits_until("a", Millis::secs(3_700)), Some(Millis::secs(7_300)));
    }

    #[test]
    fn the_operators_own_plugins_have_no_share() {
        let mut turns = turns(&[("default", 1)]);
        turns.spend("default", Millis(0), Millis::secs(1_000));
        assert_eq!(turns.next(Millis(1)), Some(1));
    }
}
