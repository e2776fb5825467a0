//! The bytes of records are golden, and what was written before some fields came is still read.

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
use crate::token::{Token, TokenScope};

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
            worker: None,
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
        key: Some(JobKey::text("acme")),
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

fn a_token() -> Token {
    Token {
        name: "shop".into(),
        tenant: Some(TenantId(1)),
        scopes: vec![TokenScope::Enqueue, TokenScope::Read],
        created_at: Time(1_700_000_000_000),
        expires_at: Some(Time(1_800_000_000_000)),
        used_at: None,
        confirmed: true,
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
        key: None,
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
        (Job { key: Some(JobKey::text("acme")), ..early.clone() }, 28),
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
    let golden = include_str!("../golden.txt").lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(golden, Some(hex.as_str()), "{name}");
}

#[test]
fn the_bytes_of_every_record_are_golden() {
    check_golden("row with everything", Row::of(&job_with_everything()).bytes());
    let of_schema_4 = Job { key: None, ..job_with_everything() };
    let of_schema_3 = Job { schedule: None, ..of_schema_4.clone() };
    let of_schema_2 = Job { depth: 0, conflicts: 0, alone: false, ..of_schema_3.clone() };
    check_golden("row of schema 4", Row::of(&of_schema_4).bytes());
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
    let leased = State::Running(Lease {
        holder: Holder::Worker(9),
        claimed_at: Time(1_700_000_000_500),
        expires_at: Some(Time(1_700_000_030_500)),
        cancel: None,
        worker: Some("gpu-1".into()),
    });
    check_golden("state running at a worker", &encode(&leased));
    assert_eq!(decode::<State>(&encode(&leased)).unwrap(), leased);
    let before = Job { state: State::Available, ..job.clone() };
    let (old, new) = (Row::of(&before), Row::of(&job));
    let entry = LogEntry::new(Time(1_700_000_000_700), EventName::Started, Some((&before, &old)), Some((&job, &new)));
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
        worker: None,
    };
    check_golden("run", &encode(&record));
    let staged = vec![StagedFate { id: JobId(5), joined: Some(JobId(4)), why: None }];
    let record = RunRecord { staged, ..record };
    check_golden("run with staged jobs that joined others", &encode(&record));
    assert_eq!(decode::<RunRecord>(&encode(&record)).unwrap(), record);
    let (notes, call) = (vec!["a fact".to_owned()], Some((JobId(42), RunNumber(2))));
    let record = RunRecord { memory_denied: true, notes, call, ..record };
    check_golden("run of a call", &encode(&record));
    for record in [record.clone(), RunRecord { call: None, staged: Vec::new(), ..record.clone() }] {
        assert_eq!(decode::<RunRecord>(&encode(&record)).unwrap(), record);
    }
    let record = RunRecord { node: None, worker: Some("gpu-1".into()), ..record.clone() };
    check_golden("run of a worker", &encode(&record));
    assert_eq!(decode::<RunRecord>(&encode(&record)).unwrap(), record);
    let answer = vec![Enqueued { id: JobId(42), state: StateName::Available, duplicate: false }];
    let remembered = KeyRecord { request: [0xcd; 32], until: Time(1_700_086_400_000), answer };
    check_golden("key", &encode(&remembered));
    let name = Name { tenant: TenantId(1), class: NameClass::Kind, name: "image.resize".into() };
    check_golden("name", &encode(&name));
    check_golden("tenant", &encode(&Name::of_tenant("acme")));
    check_golden("plugin", &encode(&Name::of_plugin(TenantId(9), "thumbs")));
    check_golden("unique", &encode(&UniqueRecord { job: JobId(42), until: Some(Time(1_700_086_400_000)) }));
    check_golden("spread", &encode(&Spread { verdict: Verdict::Discarded, deep: true }));
    let to = Listener { kind: "alert".into(), queue: "default".into(), priority: Priority(-1), key: None };
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
    let tenant = Scope::Tenant(TenantId(1)).defaults();
    check_golden("settings tenant", &encode(&tenant));
    // As they were before tenants had more than three, at the end.
    let mut of_schema_4 = encode(&tenant);
    of_schema_4.truncate(of_schema_4.len() - 4);
    of_schema_4[11] = 0x93;
    assert_eq!(decode::<Settings>(&of_schema_4).expect("it is still read"), tenant);
    check_golden("token", &encode(&a_token()));
    assert_eq!(decode::<Token>(&encode(&a_token())).unwrap(), a_token());
    let queue = QueueSettings { capacity: Some(9), order: QueueOrder::RunAt, ..QueueSettings::default() };
    let settings = Settings::Queue(TenantId(1), "mail".into(), queue);
    check_golden("settings queue", &encode(&settings));
    // As they were before queues had more than two.
    let of_schema_3 = [VERSION, 0x81, 0xa5].into_iter().chain(*b"Queue").chain([0x93, 1, 0xa4]).chain(*b"mail");
    let of_schema_3: Vec<u8> = of_schema_3.chain([0x92, 9, 0xa5]).chain(*b"RunAt").collect();
    assert_eq!(decode::<Settings>(&of_schema_3).expect("it is still read"), settings);
    let pause = Some(Pause::Until(Time(1_700_086_400_000)));
    let rate = Some(Rate { jobs: 100, per: Millis(60_000), burst: 10 });
    let kind = KindSettings { concurrency: Some(4), rate, pause, ..KindSettings::default() };
    let settings = Settings::Kind(TenantId(1), "image.resize".into(), kind);
    // As they were before keys had any.
    let golden =
        include_str!("../golden.txt").lines().find_map(|line| line.strip_prefix("settings kind of schema 4: "));
    let hex = golden.expect("it is kept").as_bytes().chunks(2).map(|hex| std::str::from_utf8(hex).unwrap());
    let of_schema_4: Vec<u8> = hex.map(|hex| u8::from_str_radix(hex, 16).unwrap()).collect();
    assert_eq!(decode::<Settings>(&of_schema_4).expect("it is still read"), settings);
    let kind = KindSettings { key_concurrency: Some(1), key_rate: rate, ..kind };
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
    assert!(!fold.apply(&delta[..3]), "also where it is torn in a field's head");
    assert_eq!(lane_of(&old_row.delta(None)), Some((old.queue, old.kind)));
    assert_eq!(lane_of(&delta), None, "neither ever changes");
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
