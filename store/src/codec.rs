//! How values become bytes: versioned MessagePack. The first byte of every record is its version.
//!
//! A job's row is an array of its fields in the order of the struct. The fields are written one by one, so that two rows
//! can be compared field by field without parsing either: that difference is what the log keeps of an event.

use serde::{Serialize, de::DeserializeOwned};

use crate::job::{Job, QueueOrder};

/// The version of every record that this code writes.
pub const VERSION: u8 = 1;

/// Fields of a row.
pub const FIELDS: usize = 27;
/// Fields that every row has. The others came later: a row leaves out those at its end which have their default, so that a
/// row from before them is what it would be today.
const FIELDS_MIN: usize = 20;

/// An array of 16 to 65,535 elements begins with this byte and its length in two.
const ARRAY_16: u8 = 0xdc;
/// Version, marker, length.
const HEAD: usize = 4;

/// A stored record that this code cannot read.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    /// Nothing there.
    #[error("the record is empty")]
    Empty,
    /// Written by another version of this code.
    #[error("the record has version {0}; this program reads version {VERSION}")]
    Version(u8),
    /// Not what it should be.
    #[error("the record does not decode: {0}")]
    Decode(#[from] rmp_serde::decode::Error),
}

/// A job's row as bytes, and where each field ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    bytes: Vec<u8>,
    ends: [u32; FIELDS],
}

impl Row {
    /// The row of `job`.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let mut row = Self { bytes: Vec::with_capacity(192), ends: [0; FIELDS] };
        // Taken apart, so that a field that is added and not written is a compile error.
        let Job {
            id,
            tenant,
            queue,
            kind,
            state,
            priority,
            enqueued_at,
            run_at,
            expires_at,
            run,
            started,
            attempts,
            crashes,
            snoozes,
            max_attempts,
            timeout,
            retry,
            dependencies,
            tags,
            last,
            unique,
            order,
            edits,
            depth,
            conflicts,
            alone,
            schedule,
        } = job;
        let ordered = *order != QueueOrder::default();
        let later = [unique.is_some(), ordered, *edits != 0, *depth != 0, *conflicts != 0, *alone, schedule.is_some()];
        let fields = later.iter().rposition(|says| *says).map_or(FIELDS_MIN, |last| FIELDS_MIN + last + 1);
        row.bytes.extend_from_slice(&[VERSION, ARRAY_16, 0, fields as u8]);
        let mut field = 0;
        macro_rules! put {
            ($($value:expr),*) => {$(
                if field < fields {
                    write(&mut row.bytes, $value);
                }
                row.ends[field] = row.bytes.len() as u32;
                field += 1;
            )*};
        }
        put!(id, tenant, queue, kind, state, priority, enqueued_at, run_at, expires_at, run, started, attempts);
        put!(crashes, snoozes, max_attempts, timeout, retry, dependencies, tags, last);
        put!(unique, order, edits, depth, conflicts, alone, schedule);
        assert_eq!(field, FIELDS, "every field of a row is written");
        row
    }

    /// The bytes as stored.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// A hash of the bytes, to chain events by.
    #[must_use]
    pub fn digest(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.bytes)
    }

    fn field(&self, i: usize) -> &[u8] {
        let start = if i == 0 { HEAD } else { self.ends[i - 1] as usize };
        &self.bytes[start..self.ends[i] as usize]
    }

    /// The fields in which `self` differs from `before` (none: all of them): one byte for which, four for how long
    /// (little-endian), its bytes; of a field that is left out: none.
    #[must_use]
    pub fn delta(&self, before: Option<&Self>) -> Vec<u8> {
        let mut delta = Vec::with_capacity(64);
        for i in 0..FIELDS {
            let value = self.field(i);
            if before.is_none_or(|row| row.field(i) != value) {
                delta.push(i as u8);
                delta.extend_from_slice(&(value.len() as u32).to_le_bytes());
                delta.extend_from_slice(value);
            }
        }
        delta
    }
}

/// A row that is put together again from the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fold {
    fields: Vec<Vec<u8>>,
}

impl Fold {
    /// Applies what an event changed. False: `delta` is not what [`Row::delta`] makes.
    #[must_use]
    pub fn apply(&mut self, mut delta: &[u8]) -> bool {
        self.fields.resize(FIELDS, Vec::new());
        while let Some((&[field, a, b, c, d], rest)) = delta.split_first_chunk::<5>() {
            let len = u32::from_le_bytes([a, b, c, d]) as usize;
            let (Some(value), Some(slot)) = (rest.get(..len), self.fields.get_mut(usize::from(field))) else {
                return false;
            };
            value.clone_into(slot);
            delta = &rest[len..];
        }
        delta.is_empty()
    }

    /// The row's bytes.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let there = self.fields.iter().filter(|field| !field.is_empty()).count();
        let mut bytes = vec![VERSION, ARRAY_16, 0, there as u8];
        bytes.extend(self.fields.iter().flatten());
        bytes
    }
}

/// The job of a row.
///
/// # Errors
/// The bytes are no row of this version.
pub fn job(bytes: &[u8]) -> Result<Job, CodecError> {
    decode(bytes)
}

/// A record of any other type.
#[must_use]
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    bytes.push(VERSION);
    write(&mut bytes, value);
    bytes
}

/// The value of a record.
///
/// # Errors
/// The bytes are no such record of this version.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
    match bytes.split_first() {
        None => Err(CodecError::Empty),
        Some((&VERSION, record)) => Ok(rmp_serde::from_slice(record)?),
        Some((&other, _)) => Err(CodecError::Version(other)),
    }
}

fn write<T: Serialize + ?Sized>(bytes: &mut Vec<u8>, value: &T) {
    rmp_serde::encode::write(bytes, value).expect("plain data serialises into memory");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{
        Enqueued, KindSettings, Listener, Name, NameClass, Pause, QueueSettings, Rate, RunRecord, Scope, Settings,
        StagedFate, Subscription,
    };
    use crate::engine::{KeyRecord, Spread, UniqueRecord};
    use crate::job::*;
    use crate::listening::{Heard, HeardOutput};
    use crate::log::LogEntry;
    use crate::schedule::*;

    fn job_with_everything() -> Job {
        Job {
            id: JobId(42),
            tenant: TenantId(1),
            queue: QueueId(2),
            kind: KindId(3),
            state: State::Running(Lease {
                holder: Holder::Node(BootId(7)),
                claimed_at: Time(1_700_000_000_500),
                expires_at: None,
                cancel: Some(CancelRequest { at: Time(1_700_000_000_600), reason: Some("why".into()) }),
            }),
            priority: Priority(-5),
            enqueued_at: Time(1_700_000_000_000),
            run_at: Time(1_700_000_000_000),
            expires_at: Some(Time(1_800_000_000_000)),
            run: RunNumber(2),
            started: true,
            attempts: 1,
            crashes: 0,
            snoozes: 3,
            max_attempts: Some(4),
            timeout: Some(Millis(2_000)),
            retry: Some(RetryPolicy::default()),
            dependencies: vec![Dependency {
                job: JobId(41),
                on_failure: EdgePolicy::Run,
                settled: Some(Verdict::Discarded),
            }],
            tags: vec![("k".into(), "v".into())],
            last: Some(LastRun { run: RunNumber(1), outcome: OutcomeName::Failed, error: Some("no".into()) }),
            unique: Some(UniqueHold { key: "k".into(), states: States::UNFINISHED, until: Some(Time(5)) }),
            order: QueueOrder::RunAt,
            edits: 6,
            depth: 7,
            conflicts: 2,
            alone: true,
            schedule: Some(OfSchedule { name: "nightly".into(), slot: Some(Time(1_700_000_000_000)) }),
        }
    }

    fn a_schedule() -> Schedule {
        Schedule {
            tenant: TenantId(1),
            name: "nightly".into(),
            plan: Plan {
                when: When::Cron { cron: "0 3 * * *".into(), zone: "Europe/Berlin".into() },
                overlap: Overlap::CancelRunning,
                catch_up: CatchUp::All(3),
                deadline: Some(Millis(60_000)),
                job: JobSpec::new("report", "{}"),
            },
            source: Source::Manifest("reports".into()),
            paused_at: None,
            created_at: Time(1_700_000_000_000),
            from: Time(1_700_000_000_000),
            last: Some(Time(1_700_000_100_000)),
            edits: 2,
            tally: Tally {
                fired: 5,
                last_fired: Some((Time(1_700_000_100_000), JobId(42))),
                last_skipped: Some((Time(1_700_000_000_500), Skip::QueueFull)),
                ..Tally::default()
            },
        }
    }

    /// As rows were before some fields came.
    fn early_job() -> Job {
        Job {
            unique: None,
            order: QueueOrder::Priority,
            edits: 0,
            depth: 0,
            conflicts: 0,
            alone: false,
            schedule: None,
            ..job_with_everything()
        }
    }

    #[test]
    fn a_row_is_the_struct_as_an_array_and_comes_back() {
        let job = job_with_everything();
        let row = Row::of(&job);
        let whole = rmp_serde::to_vec(&job).unwrap();
        assert_eq!(row.bytes(), [&[VERSION], whole.as_slice()].concat());
        assert_eq!(super::job(row.bytes()).unwrap(), job);
    }

    #[test]
    fn a_row_leaves_out_later_fields_at_its_end_that_say_nothing() {
        let early = early_job();
        let rows = [
            (early.clone(), 20),
            (Job { order: QueueOrder::RunAt, ..early.clone() }, 22),
            (Job { edits: 1, ..early.clone() }, 23),
            (Job { depth: 1, ..early.clone() }, 24),
            (Job { conflicts: 1, ..early.clone() }, 25),
            (Job { alone: true, ..early.clone() }, 26),
            (Job { schedule: Some(OfSchedule { name: "n".into(), slot: None }), ..early.clone() }, 27),
        ];
        let mut fold = Fold::default();
        let mut before: Option<Row> = None;
        for (job, fields) in rows {
            let row = Row::of(&job);
            assert_eq!(row.bytes()[3], fields);
            assert_eq!(super::job(row.bytes()).unwrap(), job);
            assert!(fold.apply(&row.delta(before.as_ref())));
            assert_eq!(fold.bytes(), row.bytes());
            before = Some(row);
        }
        let back = Row::of(&early);
        assert!(fold.apply(&back.delta(before.as_ref())));
        assert_eq!(fold.bytes(), back.bytes(), "what is left out again is gone");
    }

    /// A change here is a change of the schema: it needs a new version and a migration.
    #[track_caller]
    fn check_golden(name: &str, bytes: &[u8]) {
        let golden = include_str!("golden.txt").lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(golden, Some(hex.as_str()), "{name}");
    }

    #[test]
    fn the_bytes_of_every_record_are_golden() {
        check_golden("row with everything", Row::of(&job_with_everything()).bytes());
        let of_schema_2 = Job { depth: 0, conflicts: 0, alone: false, schedule: None, ..job_with_everything() };
        let of_schema_3 = Job { schedule: None, ..job_with_everything() };
        check_golden("row of schema 3", Row::of(&of_schema_3).bytes());
        check_golden("row of schema 2", Row::of(&of_schema_2).bytes());
        let job = early_job();
        check_golden("row", Row::of(&job).bytes());
        let states = [
            State::Held,
            State::Blocked,
            State::Scheduled,
            State::Retryable,
            State::Available,
            State::Completed { finalized_at: Time(1) },
            State::Discarded { finalized_at: Time(1), reason: Reason::Poison { crashes: 3 } },
            State::Cancelled { finalized_at: Time(1), reason: Reason::Requested(None) },
        ];
        for state in states {
            let name = format!("state {}", state.name());
            check_golden(&name, &encode(&state));
        }
        let before = Job { state: State::Available, ..job.clone() };
        let (old, new) = (Row::of(&before), Row::of(&job));
        let entry =
            LogEntry::new(Time(1_700_000_000_700), EventName::Started, Some((&before, &old)), Some((&job, &new)));
        check_golden("event", &entry.encoded_at(Seq(9)));
        check_golden("event", &encode(&LogEntry { seq: Seq(9), ..entry }));
        let record = RunRecord {
            run: RunNumber(2),
            started_at: Some(Time(1_700_000_000_500)),
            finished_at: Time(1_700_000_000_900),
            outcome: OutcomeName::OutOfFuel,
            error: Some("used its whole fuel".into()),
            trace: Some("main".into()),
            fuel: 1_000_000,
            memory_peak_bytes: 65_536,
            plugin: Some([0xab; 32]),
            node: Some(BootId(7)),
            progress: Some((50, "half".into())),
            staged: Vec::new(),
            memory_denied: false,
            notes: Vec::new(),
            call: None,
        };
        check_golden("run", &encode(&record));
        let staged = vec![StagedFate { id: JobId(5), joined: Some(JobId(4)), why: None }];
        let record = RunRecord { staged, ..record };
        check_golden("run with staged jobs that joined others", &encode(&record));
        assert_eq!(decode::<RunRecord>(&encode(&record)).unwrap(), record);
        let (notes, call) = (vec!["a fact".to_owned()], Some((JobId(42), RunNumber(2))));
        let record = RunRecord { memory_denied: true, notes, call, ..record };
        check_golden("run of a call", &encode(&record));
        for record in [record.clone(), RunRecord { call: None, staged: Vec::new(), ..record }] {
            assert_eq!(decode::<RunRecord>(&encode(&record)).unwrap(), record);
        }
        let answer = vec![Enqueued { id: JobId(42), state: StateName::Available, duplicate: false }];
        let remembered = KeyRecord { request: [0xcd; 32], until: Time(1_700_086_400_000), answer };
        check_golden("key", &encode(&remembered));
        let name = Name { tenant: TenantId(1), class: NameClass::Kind, name: "image.resize".into() };
        check_golden("name", &encode(&name));
        check_golden("tenant", &encode(&Name::of_tenant("acme")));
        check_golden("plugin", &encode(&Name::of_plugin(TenantId(9), "thumbs")));
        check_golden("unique", &encode(&UniqueRecord { job: JobId(42), until: Some(Time(1_700_086_400_000)) }));
        check_golden("spread", &encode(&Spread { verdict: Verdict::Discarded, deep: true }));
        let to = Listener { kind: "alert".into(), queue: "default".into(), priority: Priority(-1) };
        let heard = Heard {
            at: JobRef { tenant: TenantId(1), job: JobId(42) },
            event: EventName::Completed,
            kind: "image.resize".into(),
            state: Some(StateName::Completed),
            error: None,
            output: HeardOutput::Json("7".into()),
            depth: 1,
            to: vec![to.clone()],
        };
        check_golden("heard", &encode(&heard));
        let (event, of, by) = (EventName::Discarded, vec!["image.*".into()], "alerts".into());
        check_golden("subscriptions", &encode(&vec![Subscription { event, of, to, by }]));
        check_golden("settings store", &encode(&Scope::Store.defaults()));
        check_golden("settings tenant", &encode(&Scope::Tenant(TenantId(1)).defaults()));
        let queue = QueueSettings { capacity: Some(9), order: QueueOrder::RunAt, ..QueueSettings::default() };
        let settings = Settings::Queue(TenantId(1), "mail".into(), queue);
        check_golden("settings queue", &encode(&settings));
        // As they were before queues had more than two.
        let of_schema_3 = [VERSION, 0x81, 0xa5].into_iter().chain(*b"Queue").chain([0x93, 1, 0xa4]).chain(*b"mail");
        let of_schema_3: Vec<u8> = of_schema_3.chain([0x92, 9, 0xa5]).chain(*b"RunAt").collect();
        assert_eq!(decode::<Settings>(&of_schema_3).expect("it is still read"), settings);
        let pause = Some(Pause::Until(Time(1_700_086_400_000)));
        let rate = Some(Rate { jobs: 100, per: Millis(60_000), burst: 10 });
        let kind = KindSettings { concurrency: Some(4), rate, pause };
        check_golden("settings kind", &encode(&Settings::Kind(TenantId(1), "image.resize".into(), kind)));
        check_golden("schedule", &encode(&a_schedule()));
        assert_eq!(decode::<Schedule>(&encode(&a_schedule())).unwrap(), a_schedule());
    }

    #[test]
    fn every_outcome_and_event_is_stored_by_its_word() {
        let words: Vec<String> = OutcomeName::ALL.iter().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(decode::<Vec<OutcomeName>>(&encode(&words)).unwrap(), OutcomeName::ALL);
        let words: Vec<String> = EventName::ALL.iter().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(decode::<Vec<EventName>>(&encode(&words)).unwrap(), EventName::ALL);
        let words: Vec<String> = StateName::ALL.iter().map(|name| name.as_str().to_owned()).collect();
        assert_eq!(decode::<Vec<StateName>>(&encode(&words)).unwrap(), StateName::ALL);
    }

    #[test]
    fn deltas_fold_to_the_row() {
        let old = job_with_everything();
        let new = Job { state: State::Available, run_at: Time(9), last: None, ..old.clone() };
        let (old_row, new_row) = (Row::of(&old), Row::of(&new));
        let mut fold = Fold::default();
        assert!(fold.apply(&old_row.delta(None)));
        assert_eq!(fold.bytes(), old_row.bytes());
        let delta = new_row.delta(Some(&old_row));
        assert_eq!(delta.iter().len(), 3 * 5 + 10 + 1 + 1, "three fields: {delta:?}");
        assert!(fold.apply(&delta));
        assert_eq!(fold.bytes(), new_row.bytes());
        assert!(!fold.apply(&delta[..delta.len() - 1]), "a torn delta is seen");
    }

    #[test]
    fn foreign_bytes_are_errors_not_panics() {
        assert!(matches!(super::job(&[]), Err(CodecError::Empty)));
        assert!(matches!(super::job(&[9, 1]), Err(CodecError::Version(9))));
        let good = Row::of(&job_with_everything());
        for cut in 1..good.bytes().len() {
            assert!(super::job(&good.bytes()[..cut]).is_err());
        }
    }
}
