//! Keys of the tables about jobs with a key.

use super::{Packer, Unpacker, lane_head};
use crate::command::Lane;
use crate::index::{BegunKey, KeyOf, LaneKey, Order};
use crate::job::{JobId, KeyHash, KindId, QueueId, TenantId};

impl Unpacker<'_> {
    /// A lane, as far as it stands at the beginning of a key.
    pub(super) fn lane(&mut self) -> Lane {
        let (tenant, queue, kind) = (TenantId(self.u32()), QueueId(self.u32()), KindId(self.u32()));
        Lane { suspect: self.flag(), ..Lane::new(tenant, queue, kind) }
    }
}

fn keyed_lane_head(lane: Lane) -> [u8; 22] {
    Packer::new().put(lane_head(lane)).put(lane.key.0.to_be_bytes()).put([u8::from(lane.again)]).done()
}

pub(in super::super) fn keyed_lane(key: &LaneKey) -> [u8; 40] {
    Packer::new().put(keyed_lane_head(key.lane)).put(key.order.place).put(key.order.id.0.to_be_bytes()).done()
}

/// The first and the last key that a lane of a key can have.
pub(in super::super) fn keyed_lane_bounds(lane: Lane) -> ([u8; 40], [u8; 40]) {
    let head = keyed_lane_head(lane);
    (Packer::new().put(head).put([0; 18]).done(), Packer::new().put(head).put([0xff; 18]).done())
}

pub(in super::super) fn keyed_lane_of(key: &[u8; 40]) -> LaneKey {
    let mut key = Unpacker(key);
    let lane = key.lane();
    let lane = Lane { key: KeyHash(key.u64()), again: key.flag(), ..lane };
    LaneKey { lane, order: Order { place: key.take(), id: JobId(key.u64()) } }
}

pub(in super::super) fn begun(key: &BegunKey) -> [u8; 24] {
    Packer::new()
        .put(key.of.tenant.0.to_be_bytes())
        .put(key.of.kind.0.to_be_bytes())
        .put(key.of.key.0.to_be_bytes())
        .put(key.id.0.to_be_bytes())
        .done()
}

pub(in super::super) fn begun_of(key: &[u8; 24]) -> BegunKey {
    let mut key = Unpacker(key);
    let of = KeyOf { tenant: TenantId(key.u32()), kind: KindId(key.u32()), key: KeyHash(key.u64()) };
    BegunKey { of, id: JobId(key.u64()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Priority, QueueOrder, Time};

    #[test]
    fn the_order_of_the_bytes_is_the_order_within_each_lane_of_a_key() {
        let mut keys = Vec::new();
        for (key, again, suspect) in [(1, false, false), (1, true, false), (1, true, true), (u64::MAX, false, false)] {
            let lane = Lane { suspect, ..Lane::new(TenantId(1), QueueId(2), KindId(3)) };
            let lane = Lane { key: KeyHash(key), again, ..lane };
            for (priority, run_at, id) in [(-1, 9, 1), (0, 0, 300), (0, 256, 2)] {
                let order = Order::new(QueueOrder::Priority, Priority(priority), Time(run_at), JobId(id));
                keys.push(LaneKey { lane, order });
            }
        }
        for key in &keys {
            let bytes = keyed_lane(key);
            assert_eq!(keyed_lane_of(&bytes), *key, "a key comes back");
            let (first, last) = keyed_lane_bounds(key.lane);
            let within: Vec<_> = keys.iter().filter(|key| (first..=last).contains(&keyed_lane(key))).collect();
            assert!(within.len() == 3 && within.iter().all(|other| other.lane == key.lane));
            assert!(within.is_sorted_by_key(|key| keyed_lane(key)), "in the order of the lane");
        }
        let of = KeyOf { tenant: TenantId(1), kind: KindId(2), key: KeyHash(3) };
        let key = BegunKey { of, id: JobId(4) };
        assert_eq!(begun_of(&begun(&key)), key);
    }
}
