//! A store with a rich history: jobs in every state that there is, with tags, retries, keys, staged jobs, checkpoints,
//! records of runs and names. What copies, restores or migrates a store is tried on it, as a store of one kind of job
//! would hide what was forgotten.

use runner_store::clock::Clock;
use runner_store::command::{
    Command, Ended, Enqueue, Finish, FinishCall, IdempotencyKey, KvWrites, Measured, Name, NameClass, QueueSettings,
    Reply, RunRef, Settings, StagedJob, TenantSettings,
};
use runner_store::engine::redb::Redb;
use runner_store::job::{
    Backoff, Edit, JobId, JobSpec, KindId, Millis, OnConflict, Outcome, PluginId, Priority, QueueId, RetryPolicy,
    RunNumber, RunSettings, Unique,
};
use runner_store::writer::step;

use crate::world::*;

/// Jobs that the history leaves.
pub(crate) const JOBS: usize = 41;

/// Writes the history into an empty store whose clock stands at [`START`]; always the same one. The store is left as a
/// process that was killed leaves it: with running jobs.
pub(crate) fn write(engine: &mut Redb, clock: &Clock) {
    enqueue_all(engine);
    let media = lane(engine, "media", "image.resize");
    let ordinary = lane(engine, "default", "work");
    clock.advance(Millis(10));
    let commands = [claim(BOOT, 12, &[ordinary]), claim(BOOT, 4, &[media])];
    let (decision, _) = step(engine, &commands).unwrap();
    let runs: Vec<RunRef> = decision.replies.iter().flat_map(claimed).map(|job| run(job.id, job.run.0)).collect();
    assert_eq!(runs.len(), 16);
    clock.advance(Millis(1_500));
    for (run, outcome) in runs.iter().zip(outcomes()) {
        end(engine, *run, outcome);
    }
    verbs(engine);
    clock.advance(Millis(200_000));
    let again = [Command::Due, claim(BOOT, 3, &[ordinary])];
    step(engine, &again).unwrap();
    crash(engine, clock);
    step(engine, &[Command::Due, claim(BOOT, 2, &[ordinary]), claim(BOOT, 1, &[media])]).unwrap();
}

/// What a call leaves beside its jobs: keys of a plugin, in a tenant's name or without one, and a log. It ends two of the
/// runs that go on.
pub(crate) fn write_kept(engine: &mut Redb) {
    let names = [Name::of_tenant("acme"), Name::of_plugin(TENANT, "thumbs")];
    let (decision, _) = step(engine, &names.map(Command::Name)).unwrap();
    let Reply::Named(number) = decision.replies[1] else { panic!("{decision:?}") };
    let running: Vec<RunRef> = engine
        .dump()
        .unwrap()
        .jobs
        .iter()
        .filter(|job| job.lease().is_some_and(|lease| lease.cancel.is_none()))
        .map(|job| RunRef { at: job.at(), run: job.run })
        .collect();
    let ended = |run: &RunRef| Ended {
        run: *run,
        outcome: completed(),
        settings: RunSettings::default(),
        measured: Measured { memory_denied: true, notes: vec!["a note".to_owned()], ..Measured::default() },
    };
    let writes = vec![put("seats", "4"), put("", "empty"), put("ümlaut", "ja")];
    let call = FinishCall {
        runs: running[..2].iter().map(ended).collect(),
        failed: false,
        staged: Vec::new(),
        merged: Vec::new(),
        kv: Some(KvWrites { plugin: PluginId(number), writes }),
        log: Some(b"what it said".to_vec()),
    };
    let (decision, _) = step(engine, &[Command::FinishCall(Box::new(call))]).unwrap();
    let Reply::Call(ends) = &decision.replies[0] else { panic!("{decision:?}") };
    assert!(ends.iter().all(Result::is_ok), "{ends:?}");
}

/// Jobs that [`write_more`] adds.
pub(crate) const MORE_JOBS: usize = 6;

/// What came later: jobs that wait for others, unique keys, and what is set for a tenant and a queue.
pub(crate) fn write_more(engine: &mut Redb) {
    let settings = [
        Settings::Queue(TENANT, "media".to_owned(), QueueSettings { capacity: Some(900), ..QueueSettings::default() }),
        Settings::Tenant(TENANT, TenantSettings { capacity: 5_000, ..TenantSettings::default() }),
    ];
    let mut commands: Vec<Command> = settings.into_iter().map(|set| Command::Set(Box::new(set))).collect();
    let held = || work_with(|spec| spec.hold = true);
    let after = |place| work_with(|spec| spec.depends_on = after_places(&[place]));
    let period = |spec: &mut JobSpec| {
        let kept = unique("nightly", OnConflict::Keep).unique.map(|u| Unique { period: Some(Millis::secs(90)), ..u });
        spec.unique = kept;
    };
    commands.push(enqueue(vec![held(), after(0), after(1), unique("mail", OnConflict::Reject), work_with(period)]));
    commands.push(enqueue(vec![work_with(|spec| spec.delay = Some(Millis::secs(70)))]));
    let (decision, _) = step(engine, &commands).unwrap();
    assert_eq!(decision.replies[2..].iter().map(|reply| ids(reply).len()).sum::<usize>(), MORE_JOBS);
}

fn enqueue_all(engine: &mut Redb) {
    let tag = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    let jobs: Vec<JobSpec> = (0..24)
        .map(|n: i16| {
            work_with(|spec| {
                spec.args = format!("{{\"n\": {n}}}").into_bytes();
                spec.priority = Priority(n % 5 - 2);
                spec.tags = vec![tag("customer", &format!("c{}", n % 3)), tag("ümlaut", "ja, \"quoted\"")];
                spec.max_attempts = (n % 4 == 1).then_some(1);
            })
        })
        .collect();
    let key = IdempotencyKey { key: "nightly 2023-11-14".to_owned(), request: [7; 32] };
    let keyed = Command::Enqueue(Enqueue { key: Some(key), ..Enqueue::new(TENANT, jobs) });
    let pictures = (0..5).map(|n| JobSpec {
        queue: "media".to_owned(),
        timeout: Some(Millis::secs(5)),
        retry: Some(RetryPolicy {
            backoff: Backoff::List(vec![Millis::secs(1), Millis::secs(7)]),
            jitter_permille: 0,
            max: Millis::secs(60),
        }),
        ..JobSpec::new("image.resize", vec![n; 3_000])
    });
    let mut others: Vec<JobSpec> = pictures.collect();
    others.extend((0..4).map(|_| work_with(|spec| spec.delay = Some(Millis::secs(3_600)))));
    others.extend((0..3).map(|_| work_with(|spec| spec.hold = true)));
    others.push(work_with(|spec| {
        spec.run_at = Some(runner_store::job::Time(START.0 + 86_400_000));
        spec.expires_at = Some(runner_store::job::Time(START.0 + 90_000_000));
    }));
    others.push(JobSpec { queue: "never-served".to_owned(), ..JobSpec::new("mail.send", "not JSON") });
    let (decision, _) = step(engine, &[keyed, enqueue(others)]).unwrap();
    assert_eq!(ids(&decision.replies[0]).len() + ids(&decision.replies[1]).len(), 38);
}

/// How the first runs end: in every way, and two not at all.
fn outcomes() -> Vec<Outcome> {
    let text = |text: &str| text.to_owned();
    vec![
        Outcome::Completed { output: b"{\"done\": true}".to_vec() },
        failed("the first try"),
        Outcome::Discarded { reason: text("no such picture") },
        Outcome::Snoozed { delay: Millis::secs(60), reason: Some(text("too early")) },
        Outcome::Trapped {
            code: text("unreachable"),
            message: text("a panic"),
            backtrace: Some(text("0: main\n1: start")),
        },
        Outcome::OutOfFuel { limit: 1_000 },
        Outcome::TimedOut { limit: Millis::secs(60) },
        Outcome::OutOfMemory { limit_bytes: 65_536 },
        Outcome::OutputTooLarge { limit_bytes: 1_024 },
        Outcome::Interrupted,
        Outcome::PluginBroken { message: text("no start") },
        completed(),
        Outcome::Failed { message: text("later"), retry_after: Some(Millis::secs(9_000)) },
        Outcome::Completed { output: vec![b'x'; 5_000] },
    ]
}

fn end(engine: &mut Redb, run: RunRef, outcome: Outcome) {
    let (decision, _) = step(engine, &[Command::ReserveIds { n: 2 }]).unwrap();
    let Reply::Reserved { first } = decision.replies[0] else { panic!("{decision:?}") };
    let stages = matches!(outcome, Outcome::Completed { .. } | Outcome::Discarded { .. });
    let staged = stages.then(|| StagedJob { id: first, spec: JobSpec::new("mail.send", "{\"to\": \"ops\"}") });
    let measured = Measured {
        started_at: Some(runner_store::job::Time(START.0 + 20)),
        fuel: 4_100,
        memory_peak_bytes: 65_536,
        plugin: Some([9; 32]),
        progress: Some((40, "forty of a hundred".to_owned())),
        ..Measured::default()
    };
    let finish = Finish {
        measured,
        staged: staged.into_iter().collect(),
        checkpoint: Some(b"as far as forty".to_vec()),
        ..finishing(run, outcome)
    };
    let (decision, _) = step(engine, &[Command::Finish(Box::new(finish))]).unwrap();
    job_of(&decision.replies[0]);
}

/// What operators did: cancelled, flagged, retried, released, edited and deleted.
fn verbs(engine: &mut Redb) {
    let dump = engine.dump().unwrap();
    let of = |state: &str, n: usize| {
        let mut jobs = dump.jobs.iter().filter(|job| job.state.name().as_str() == state);
        jobs.nth(n).unwrap_or_else(|| panic!("a job is {state}")).id
    };
    let edit = Edit {
        priority: Some(Priority(9)),
        run_at: None,
        max_attempts: Some(3),
        timeout: Some(Millis(77)),
        ..Edit::default()
    };
    let cancel_of = |job: JobId, why: &str| Command::Cancel { job: at(job), reason: Some(why.to_owned()) };
    let commands = [
        cancel_of(of("available", 0), "not wanted any more"),
        cancel_of(of("scheduled", 0), "too late"),
        cancel_of(of("running", 0), "it takes too long"),
        Command::Retry { job: at(of("discarded", 0)), fresh: false },
        Command::Release(at(of("held", 0))),
        Command::Edit { job: at(of("scheduled", 2)), edit: Box::new(edit) },
        Command::Delete { job: at(of("completed", 0)), force: false, cascade: false },
    ];
    let (decision, _) = step(engine, &commands).unwrap();
    for reply in &decision.replies {
        assert!(!matches!(reply, Reply::Rejected(_)), "{reply:?}");
    }
}

/// A boot that dies with two runs, of which one had started.
fn crash(engine: &mut Redb, clock: &Clock) {
    let dead = runner_store::job::BootId(0xDEAD);
    let ordinary = lane(engine, "default", "work");
    let (decision, _) = step(engine, &[claim(dead, 2, &[ordinary])]).unwrap();
    let runs = claimed(&decision.replies[0]);
    assert_eq!(runs.len(), 2);
    clock.advance(Millis(5_000));
    // The boot of the others goes on.
    let started = vec![run(runs[0].id, runs[0].run.0)];
    let (decision, _) = step(engine, &[end_boots(BOOT, started)]).unwrap();
    assert_eq!(decision.replies[0], Reply::Ended { crashed: 1, interrupted: 1, more: false });
}

fn run(job: JobId, run: u32) -> RunRef {
    RunRef { at: at(job), run: RunNumber(run) }
}

fn lane(engine: &Redb, queue: &str, kind: &str) -> runner_store::command::Lane {
    let names = engine.dump().unwrap().names;
    let number = |class, word: &str| {
        let found = names.iter().find(|(name, _)| name.class == class && name.name == word);
        found.unwrap_or_else(|| panic!("{word} has a number")).1
    };
    runner_store::command::Lane::new(
        TENANT,
        QueueId(number(NameClass::Queue, queue)),
        KindId(number(NameClass::Kind, kind)),
    )
}
