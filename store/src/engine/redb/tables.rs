//! The tables of the file, and how keys become bytes: fixed widths, most significant byte first, so that their order is
//! the order of what they mean. Keys that answer a tenant's question begin with the tenant.

mod keyed;

use redb::TableDefinition;

pub(super) use self::keyed::{begun, begun_of, keyed_lane, keyed_lane_bounds, keyed_lane_of};
pub(super) use super::tokens::TOKENS;
use crate::command::{CountKey, Lane, Namespace, Part, Scope, Total, TotalKey};
use crate::engine::{KeyRef, KvKey, Wait};
use crate::index::{DueKey, EndKey, ExpiryKey, LaneKey, ListKey, Order, ScheduledKey, TagKey, WaitKey};
use crate::job::{JobId, JobRef, KindId, PluginId, QueueId, RunNumber, StateName, TenantId, Time};
use crate::schedule::ScheduleRef;

/// Tenant and plugin, before a key of a plugin.
const NAMESPACE_BYTES: usize = 8;

type Table<const N: usize, V> = TableDefinition<'static, &'static [u8; N], V>;

/// tenant, id → row.
pub(super) const JOBS: Table<12, &[u8]> = TableDefinition::new("jobs");
/// tenant, id, part → bytes.
pub(super) const PAYLOADS: Table<13, &[u8]> = TableDefinition::new("payloads");
/// tenant, id, run → record.
pub(super) const RUNS: Table<16, &[u8]> = TableDefinition::new("runs");
/// tenant, queue, kind, suspect, priority, `run_at`, id.
pub(super) const LANES: Table<31, ()> = TableDefinition::new("lanes");
/// tenant, queue, kind, suspect, hash of the key, again, priority, `run_at`, id: the same of jobs with a key.
pub(super) const KEYED_LANES: Table<40, ()> = TableDefinition::new("keyed_lanes");
/// tenant, kind, hash of the key, id of a job that has begun and not ended.
pub(super) const BEGUN: Table<24, ()> = TableDefinition::new("begun");
/// `run_at`, id, tenant.
pub(super) const DUE: Table<20, ()> = TableDefinition::new("due");
/// tenant, state, queue, kind, id.
pub(super) const LISTS: Table<21, ()> = TableDefinition::new("lists");
/// tenant, queue, kind, suspect, state → how many.
pub(super) const COUNTS: Table<14, u64> = TableDefinition::new("counts");
/// number → name.
pub(super) const NAMES: Table<4, &[u8]> = TableDefinition::new("names");
/// tenant, SHA-256 of the key → remembered call.
pub(super) const KEYS: Table<36, &[u8]> = TableDefinition::new("keys");
/// until, tenant, SHA-256 of the key.
pub(super) const KEYS_UNTIL: Table<44, ()> = TableDefinition::new("keys_until");
/// `expires_at`, id, tenant.
pub(super) const EXPIRY: Table<20, ()> = TableDefinition::new("expiry");
/// tenant, final state, `finalized_at`, id.
pub(super) const ENDED: Table<21, ()> = TableDefinition::new("ended");
/// tenant, job that is waited for, how, job that waits.
pub(super) const WAITS: Table<21, ()> = TableDefinition::new("waits");
/// tenant, hash of a tag, id.
pub(super) const TAGS: Table<20, ()> = TableDefinition::new("tags");
/// tenant, SHA-256 of the unique key → whose it is.
pub(super) const UNIQUES: Table<36, &[u8]> = TableDefinition::new("uniques");
/// until, tenant, SHA-256 of the unique key.
pub(super) const UNIQUES_UNTIL: Table<44, ()> = TableDefinition::new("uniques_until");
/// tenant, id of a job whose dependents are being told → how it ended.
pub(super) const SPREADS: Table<12, &[u8]> = TableDefinition::new("spreads");
/// number → what was heard and has yet to be told.
pub(super) const HEARD: Table<8, &[u8]> = TableDefinition::new("heard");
/// tenant → what its kinds listen to.
pub(super) const SUBSCRIPTIONS: Table<4, &[u8]> = TableDefinition::new("subscriptions");
/// tenant, class, SHA-256 of the name → scope and settings.
pub(super) const SETTINGS: Table<37, &[u8]> = TableDefinition::new("settings");
/// tenant, plugin, then the key's own bytes → value. The one key of variable length: it stands at the end, behind what
/// has a fixed width, so that the order is that of the keys within each plugin, and no key reaches into another's.
pub(super) const KV: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("kv");
/// tenant, id, run → the log of a run.
pub(super) const RUN_LOGS: Table<16, &[u8]> = TableDefinition::new("run_logs");
/// tenant, class, queue → how much.
pub(super) const TOTALS: Table<9, u64> = TableDefinition::new("totals");
/// tenant, then the name's own bytes → schedule. As with [`KV`], what is of variable length stands at the end.
pub(super) const SCHEDULES: TableDefinition<'static, &'static [u8], &'static [u8]> = TableDefinition::new("schedules");
/// tenant, hash of a schedule's name, id.
pub(super) const SCHEDULED: Table<20, ()> = TableDefinition::new("scheduled");
/// number → event.
pub(super) const LOG: Table<8, &[u8]> = TableDefinition::new("log");
/// Single numbers, by name.
pub(super) const META: TableDefinition<'static, &'static str, u64> = TableDefinition::new("meta");

/// In [`META`]: the next id of a job.
pub(super) const NEXT_JOB: &str = "next_job";
/// In [`META`]: the next number of the log.
pub(super) const NEXT_SEQ: &str = "next_seq";
/// In [`META`]: the next number of a name.
pub(super) const NEXT_NAME: &str = "next_name";
/// In [`META`]: slots of schedules before this time are not made up for.
pub(super) const SCHEDULES_FROM: &str = "schedules_from";
/// In [`META`]: how often what kinds listen to has changed; none: never.
pub(super) const SUBSCRIBED: &str = "subscribed";
/// In [`META`]: bytes of the log.
pub(super) const LOG_BYTES: &str = "log_bytes";
/// Calls a macro with every table. What makes, copies or measures a store goes by this list: no table can be forgotten in
/// a backup.
macro_rules! for_each_table {
    ($each:ident) => {
        $each!(
            JOBS PAYLOADS RUNS LANES DUE LISTS COUNTS NAMES KEYS KEYS_UNTIL EXPIRY ENDED WAITS TAGS UNIQUES UNIQUES_UNTIL
            SPREADS HEARD SUBSCRIPTIONS SETTINGS TOTALS KV RUN_LOGS SCHEDULES SCHEDULED KEYED_LANES BEGUN LOG META TOKENS
        )
    };
}
pub(super) use for_each_table;

/// What the keys of a plugin begin with: tenant, plugin.
pub(super) fn namespace(space: Namespace) -> [u8; NAMESPACE_BYTES] {
    Packer::new().put(space.tenant.0.to_be_bytes()).put(space.plugin.0.to_be_bytes()).done()
}

/// A key of a plugin, or what several of them begin with.
pub(super) fn kv(space: Namespace, key: &str) -> Vec<u8> {
    [&namespace(space), key.as_bytes()].concat()
}

/// None: it is no key of a plugin.
pub(super) fn kv_of(key: &[u8]) -> Option<KvKey> {
    let (head, key) = key.split_first_chunk::<NAMESPACE_BYTES>()?;
    let mut head = Unpacker(head);
    let space = Namespace { tenant: TenantId(head.u32()), plugin: PluginId(head.u32()) };
    Some(KvKey { space, key: String::from_utf8(key.to_vec()).ok()? })
}

/// A schedule, by its name.
pub(super) fn schedule(at: &ScheduleRef) -> Vec<u8> {
    [&at.tenant.0.to_be_bytes(), at.name.as_bytes()].concat()
}

/// Writes the parts of a key, one after another.
struct Packer<const N: usize> {
    key: [u8; N],
    at: usize,
}

impl<const N: usize> Packer<N> {
    fn new() -> Self {
        Self { key: [0; N], at: 0 }
    }

    fn put<const M: usize>(mut self, bytes: [u8; M]) -> Self {
        self.key[self.at..self.at + M].copy_from_slice(&bytes);
        self.at += M;
        self
    }

    fn done(self) -> [u8; N] {
        debug_assert_eq!(self.at, N, "a key is full");
        self.key
    }
}

/// Reads the parts of a key, one after another.
struct Unpacker<'a>(&'a [u8]);

impl Unpacker<'_> {
    fn take<const M: usize>(&mut self) -> [u8; M] {
        let (head, rest) = self.0.split_first_chunk().expect("a key has its fixed width");
        self.0 = rest;
        *head
    }

    fn u32(&mut self) -> u32 {
        u32::from_be_bytes(self.take())
    }

    fn u64(&mut self) -> u64 {
        u64::from_be_bytes(self.take())
    }

    fn flag(&mut self) -> bool {
        self.take::<1>() != [0]
    }

    /// A state; a byte that is none reads as the last, which no row then agrees with: `check` says so.
    fn state(&mut self) -> StateName {
        let [n] = self.take();
        StateName::ALL.get(usize::from(n)).copied().unwrap_or(StateName::Cancelled)
    }
}

pub(super) fn job(at: JobRef) -> [u8; 12] {
    Packer::new().put(at.tenant.0.to_be_bytes()).put(at.job.0.to_be_bytes()).done()
}

pub(super) fn job_of(key: &[u8; 12]) -> JobRef {
    let mut key = Unpacker(key);
    JobRef { tenant: TenantId(key.u32()), job: JobId(key.u64()) }
}

pub(super) fn payload(at: JobRef, part: Part) -> [u8; 13] {
    Packer::new().put(job(at)).put([part as u8]).done()
}

pub(super) fn payload_of(key: &[u8; 13]) -> (JobRef, Option<Part>) {
    let mut key = Unpacker(key);
    let at = JobRef { tenant: TenantId(key.u32()), job: JobId(key.u64()) };
    let [part] = key.take();
    (at, Part::ALL.into_iter().find(|p| *p as u8 == part))
}

pub(super) fn run(at: JobRef, run: RunNumber) -> [u8; 16] {
    Packer::new().put(job(at)).put(run.0.to_be_bytes()).done()
}

pub(super) fn run_of(key: &[u8; 16]) -> (JobRef, RunNumber) {
    let mut key = Unpacker(key);
    let at = JobRef { tenant: TenantId(key.u32()), job: JobId(key.u64()) };
    (at, RunNumber(key.u32()))
}

fn lane_head(lane: Lane) -> [u8; 13] {
    Packer::new()
        .put(lane.tenant.0.to_be_bytes())
        .put(lane.queue.0.to_be_bytes())
        .put(lane.kind.0.to_be_bytes())
        .put([u8::from(lane.suspect)])
        .done()
}

pub(super) fn lane(key: &LaneKey) -> [u8; 31] {
    Packer::new().put(lane_head(key.lane)).put(key.order.place).put(key.order.id.0.to_be_bytes()).done()
}

/// The first and the last key that a lane can have.
pub(super) fn lane_bounds(lane: Lane) -> ([u8; 31], [u8; 31]) {
    let head = lane_head(lane);
    (Packer::new().put(head).put([0; 18]).done(), Packer::new().put(head).put([0xff; 18]).done())
}

pub(super) fn lane_of(key: &[u8; 31]) -> LaneKey {
    let mut key = Unpacker(key);
    LaneKey { lane: key.lane(), order: Order { place: key.take(), id: JobId(key.u64()) } }
}

pub(super) fn due(key: &DueKey) -> [u8; 20] {
    Packer::new().put(key.run_at.0.to_be_bytes()).put(key.id.0.to_be_bytes()).put(key.tenant.0.to_be_bytes()).done()
}

/// The last key that is due at `now`.
pub(super) fn due_until(now: Time) -> [u8; 20] {
    Packer::new().put(now.0.to_be_bytes()).put([0xff; 12]).done()
}

pub(super) fn due_of(key: &[u8; 20]) -> DueKey {
    let mut key = Unpacker(key);
    DueKey { run_at: Time(key.u64()), id: JobId(key.u64()), tenant: TenantId(key.u32()) }
}

pub(super) fn list(key: &ListKey) -> [u8; 21] {
    Packer::new()
        .put(key.tenant.0.to_be_bytes())
        .put([key.state as u8])
        .put(key.queue.0.to_be_bytes())
        .put(key.kind.0.to_be_bytes())
        .put(key.id.0.to_be_bytes())
        .done()
}

/// The first key of a tenant's list of a state.
pub(super) fn list_start(tenant: TenantId, state: StateName) -> [u8; 21] {
    Packer::new().put(tenant.0.to_be_bytes()).put([state as u8]).put([0; 16]).done()
}

pub(super) fn list_of(key: &[u8; 21]) -> ListKey {
    let mut key = Unpacker(key);
    ListKey {
        tenant: TenantId(key.u32()),
        state: key.state(),
        queue: QueueId(key.u32()),
        kind: KindId(key.u32()),
        id: JobId(key.u64()),
    }
}

pub(super) fn count(key: &CountKey) -> [u8; 14] {
    Packer::new().put(lane_head(key.lane)).put([key.state as u8]).done()
}

/// The first and the last key that the counts of a tenant can have.
pub(super) fn counts_of(tenant: TenantId) -> ([u8; 14], [u8; 14]) {
    let tenant = tenant.0.to_be_bytes();
    (Packer::new().put(tenant).put([0; 10]).done(), Packer::new().put(tenant).put([0xff; 10]).done())
}

pub(super) fn count_of(key: &[u8; 14]) -> CountKey {
    let mut key = Unpacker(key);
    CountKey { lane: key.lane(), state: key.state() }
}

pub(super) fn key(at: KeyRef) -> [u8; 36] {
    let tenant = if cfg!(planted = "miss_tenant_prefix") { 0 } else { at.tenant.0 };
    Packer::new().put(tenant.to_be_bytes()).put(at.hash).done()
}

pub(super) fn key_of(key: &[u8; 36]) -> KeyRef {
    let mut key = Unpacker(key);
    KeyRef { tenant: TenantId(key.u32()), hash: key.take() }
}

pub(super) fn key_until(at: KeyRef, until: Time) -> [u8; 44] {
    Packer::new().put(until.0.to_be_bytes()).put(key(at)).done()
}

pub(super) fn key_until_of(key: &[u8; 44]) -> (KeyRef, Time) {
    let mut key = Unpacker(key);
    let until = Time(key.u64());
    (KeyRef { tenant: TenantId(key.u32()), hash: key.take() }, until)
}

pub(super) fn expiry(key: &ExpiryKey) -> [u8; 20] {
    due(&DueKey { run_at: key.at, id: key.id, tenant: key.tenant })
}

pub(super) fn expiry_of(key: &[u8; 20]) -> ExpiryKey {
    let DueKey { run_at, id, tenant } = due_of(key);
    ExpiryKey { at: run_at, id, tenant }
}

pub(super) fn ended(key: &EndKey) -> [u8; 21] {
    Packer::new()
        .put(key.tenant.0.to_be_bytes())
        .put([key.state as u8])
        .put(key.at.0.to_be_bytes())
        .put(key.id.0.to_be_bytes())
        .done()
}

pub(super) fn ended_of(key: &[u8; 21]) -> EndKey {
    let mut key = Unpacker(key);
    EndKey { tenant: TenantId(key.u32()), state: key.state(), at: Time(key.u64()), id: JobId(key.u64()) }
}

pub(super) fn wait(key: &WaitKey) -> [u8; 21] {
    Packer::new()
        .put(key.tenant.0.to_be_bytes())
        .put(key.on.0.to_be_bytes())
        .put([key.wait as u8])
        .put(key.id.0.to_be_bytes())
        .done()
}

pub(super) fn wait_of(key: &[u8; 21]) -> WaitKey {
    let mut key = Unpacker(key);
    let (tenant, on) = (TenantId(key.u32()), JobId(key.u64()));
    // A byte that is none reads as the last, which no row then agrees with.
    let wait = match key.take() {
        [0] => Wait::Waiting,
        [1] => Wait::Named,
        _ => Wait::EndedBy,
    };
    WaitKey { tenant, on, wait, id: JobId(key.u64()) }
}

pub(super) fn tag(key: &TagKey) -> [u8; 20] {
    Packer::new().put(key.tenant.0.to_be_bytes()).put(key.hash.to_be_bytes()).put(key.id.0.to_be_bytes()).done()
}

pub(super) fn tag_of(key: &[u8; 20]) -> TagKey {
    let mut key = Unpacker(key);
    TagKey { tenant: TenantId(key.u32()), hash: key.u64(), id: JobId(key.u64()) }
}

pub(super) fn scheduled(key: &ScheduledKey) -> [u8; 20] {
    tag(&TagKey { tenant: key.tenant, hash: key.hash, id: key.id })
}

pub(super) fn scheduled_of(key: &[u8; 20]) -> ScheduledKey {
    let TagKey { tenant, hash, id } = tag_of(key);
    ScheduledKey { tenant, hash, id }
}

pub(super) fn setting(scope: &Scope) -> [u8; 37] {
    let (tenant, class, hash) = match scope {
        Scope::Store => (0, 0, [0; 32]),
        Scope::Tenant(tenant) => (tenant.0, 1, [0; 32]),
        Scope::Queue(tenant, name) => (tenant.0, 2, crate::sha256(name.as_bytes())),
        Scope::Kind(tenant, name) => (tenant.0, 3, crate::sha256(name.as_bytes())),
    };
    Packer::new().put(tenant.to_be_bytes()).put([class]).put(hash).done()
}

pub(super) fn total(key: TotalKey) -> [u8; 9] {
    let (class, queue) = match key.of {
        Total::Unfinished => (0, 0),
        Total::UnfinishedIn(queue) => (1, queue.0),
        Total::Completed => (2, 0),
        Total::Bytes => (3, 0),
        Total::KvKeys => (4, 0),
        Total::Schedules => (5, 0),
    };
    Packer::new().put(key.tenant.0.to_be_bytes()).put([class]).put(queue.to_be_bytes()).done()
}

pub(super) fn total_of(key: &[u8; 9]) -> TotalKey {
    let mut key = Unpacker(key);
    let tenant = TenantId(key.u32());
    let [class] = key.take();
    let of = match class {
        0 => Total::Unfinished,
        1 => Total::UnfinishedIn(QueueId(key.u32())),
        2 => Total::Completed,
        3 => Total::Bytes,
        4 => Total::KvKeys,
        _ => Total::Schedules,
    };
    TotalKey { tenant, of }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::{Priority, QueueOrder};

    #[test]
    fn the_order_of_the_bytes_is_the_order_of_the_keys() {
        let mut keys = Vec::new();
        for tenant in [1, 256] {
            for suspect in [false, true] {
                for priority in [i16::MIN, -1, 0, 1, i16::MAX] {
                    for (run_at, id) in [(0, 0), (0, 300), (255, 1), (256, 0), (u64::MAX, u64::MAX)] {
                        let lane = Lane { suspect, ..Lane::new(TenantId(tenant), QueueId(1), KindId(2)) };
                        let by = if suspect { QueueOrder::RunAt } else { QueueOrder::Priority };
                        let order = Order::new(by, Priority(priority), Time(run_at), JobId(id));
                        keys.push(LaneKey { lane, order });
                    }
                }
            }
        }
        keys.sort_unstable();
        let bytes: Vec<_> = keys.iter().map(lane).collect();
        assert!(bytes.is_sorted());
        for (key, bytes) in keys.iter().zip(&bytes) {
            assert_eq!(lane_of(bytes), *key, "a key comes back");
            let (first, last) = lane_bounds(key.lane);
            assert!((first..=last).contains(bytes));
        }
    }

    #[test]
    fn keys_of_plugins_are_in_order_and_never_another_plugins() {
        let mut keys = Vec::new();
        for (tenant, plugin) in [(1, 1), (1, 2), (1, 256), (2, 1), (u32::MAX, u32::MAX)] {
            let space = Namespace { tenant: TenantId(tenant), plugin: PluginId(plugin) };
            keys.extend(
                ["", "\0", "a", "a\0", "ab", "b", "ä", "\u{10ffff}"].map(|key| KvKey { space, key: key.into() }),
            );
        }
        assert!(keys.is_sorted());
        let bytes: Vec<Vec<u8>> = keys.iter().map(|key| kv(key.space, &key.key)).collect();
        assert!(bytes.is_sorted());
        for (key, bytes) in keys.iter().zip(&bytes) {
            assert_eq!(kv_of(bytes).as_ref(), Some(key), "a key comes back");
        }
        for (i, other) in keys.iter().enumerate() {
            let begins = bytes[i].starts_with(&namespace(keys[0].space));
            assert_eq!(begins, other.space == keys[0].space);
        }
        assert_eq!((kv_of(&[0; 7]), kv_of(&[0, 0, 0, 0, 0, 0, 0, 0, 0xff])), (None, None), "no key of ours");
    }

    #[test]
    fn every_key_comes_back() {
        let at = JobRef { tenant: TenantId(7), job: JobId(u64::MAX - 1) };
        assert_eq!(job_of(&job(at)), at);
        assert_eq!(payload_of(&payload(at, Part::Checkpoint)), (at, Some(Part::Checkpoint)));
        assert_eq!(run_of(&run(at, RunNumber(9))), (at, RunNumber(9)));
        let d = DueKey { run_at: Time(5), id: JobId(6), tenant: TenantId(7) };
        assert_eq!(due_of(&due(&d)), d);
        assert!(due(&d) <= due_until(Time(5)) && due(&d) > due_until(Time(4)));
        let k = KeyRef { tenant: TenantId(3), hash: [8; 32] };
        assert_eq!(key_of(&key(k)), k);
        assert_eq!(key_until_of(&key_until(k, Time(4))), (k, Time(4)));
        let e = ExpiryKey { at: Time(5), id: JobId(6), tenant: TenantId(7) };
        assert_eq!(expiry_of(&expiry(&e)), e);
        for wait in [Wait::Waiting, Wait::Named, Wait::EndedBy] {
            let w = WaitKey { tenant: TenantId(1), on: JobId(2), wait, id: JobId(3) };
            assert_eq!(wait_of(&super::wait(&w)), w);
        }
        let t = TagKey::new(at, "k", "v");
        assert_eq!(tag_of(&tag(&t)), t);
        let s = ScheduledKey::new(at, "nightly");
        assert_eq!(scheduled_of(&scheduled(&s)), s);
        let sums = [Total::Unfinished, Total::UnfinishedIn(QueueId(5)), Total::Completed, Total::Bytes, Total::KvKeys];
        for of in sums.into_iter().chain([Total::Schedules]) {
            let key = TotalKey { tenant: TenantId(9), of };
            assert_eq!(total_of(&total(key)), key);
        }
        for state in StateName::ALL {
            let end = EndKey { tenant: TenantId(1), state, at: Time(2), id: JobId(3) };
            assert_eq!(ended_of(&ended(&end)), end);
            let l = ListKey { tenant: TenantId(1), state, queue: QueueId(2), kind: KindId(3), id: JobId(4) };
            assert_eq!(list_of(&list(&l)), l);
            let lane = Lane { suspect: true, ..Lane::new(TenantId(1), QueueId(2), KindId(3)) };
            let c = CountKey { lane, state };
            assert_eq!(count_of(&count(&c)), c);
        }
    }
}
