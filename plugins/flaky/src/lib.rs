//! Handlers that misbehave, each in its own way, for trying a runner out: they fail and recover, loop, eat memory, panic, sleep
//! and snooze. None of them does work of any use, and none of them attacks; that is what the sandbox's own tests do.

use runner_plugin::{Context, Failure, Level, NewJob, Raw, info, kinds};
use serde::{Deserialize, Serialize};
use std::time::Duration;

kinds! {
    "demo.echo" => echo,
    "demo.enqueue" => enqueue,
    "demo.flaky" => flaky,
    "demo.hog" => hog,
    "demo.log" => log,
    "demo.panic" => panic,
    "demo.sleep" => sleep,
    "demo.snooze" => snooze,
    "demo.spin" => spin,
}

/// One page of WebAssembly memory is 64 KiB; touching every 4 KiB makes each page of any system resident.
const TOUCH_BYTES: usize = 4 << 10;
/// The most that 32 bits of address space can hold.
const HOG_MIB_MAX: usize = 4095;
/// A run's default for `enqueues`.
const ENQUEUE_MAX: u32 = 100;

/// Answers with its args, byte for byte.
pub fn echo(args: Raw) -> Result<Raw, Failure> {
    Ok(args)
}

/// How often to fail.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Flaky {
    /// So many attempts fail, the next one works.
    #[serde(default = "one")]
    failures: u32,
    /// When to try again; by the retry policy if absent.
    retry_after_ms: Option<u64>,
}

/// The run that worked.
#[derive(Debug, Serialize)]
pub struct Worked {
    attempt: u32,
    run: u32,
}

/// Fails the first `failures` attempts, then works.
pub fn flaky(args: Flaky, cx: &Context) -> Result<Worked, Failure> {
    if cx.attempt > args.failures {
        return Ok(Worked { attempt: cx.attempt, run: cx.run });
    }
    let failure = Failure::retry(format_args!("attempt {} of {} that fail", cx.attempt, args.failures));
    Err(match args.retry_after_ms {
        Some(ms) => failure.after(Duration::from_millis(ms)),
        None => failure,
    })
}

/// Never ends. Not inlined, so that the backtrace of a stopped run names it.
#[inline(never)]
pub fn spin(_args: Raw) -> Result<(), Failure> {
    let mut turns = 0_u64;
    loop {
        // Without it the compiler may take an endless loop for what it is, and the runner would have nothing to stop.
        turns = std::hint::black_box(turns.wrapping_add(1));
    }
}

/// How much memory to take.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hog {
    /// In MiB.
    #[serde(default = "gibibyte")]
    mib: usize,
}

/// What was taken.
#[derive(Debug, Serialize)]
pub struct Taken {
    mib: usize,
}

/// Takes memory, MiB by MiB, and touches all of it.
pub fn hog(args: Hog, cx: &Context) -> Result<Taken, Failure> {
    if args.mib > HOG_MIB_MAX {
        return Err(Failure::discard(format_args!("`mib` is at most {HOG_MIB_MAX}")));
    }
    let mut taken = Vec::with_capacity(args.mib);
    for mib in 0..args.mib {
        if mib % 16 == 0 {
            info!(cx, "{mib} MiB taken");
        }
        let mut block = vec![0_u8; 1 << 20];
        for touched in block.iter_mut().step_by(TOUCH_BYTES) {
            *touched = 1;
        }
        taken.push(std::hint::black_box(block));
    }
    Ok(Taken { mib: taken.len() })
}

/// What to say.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panic {
    /// The panic's message.
    #[serde(default = "surprise")]
    message: String,
}

/// Panics.
pub fn panic(args: Panic) -> Result<(), Failure> {
    panic!("{}", args.message)
}

/// How long to wait.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wait {
    /// In milliseconds.
    #[serde(default = "second")]
    ms: u64,
}

/// Snoozes on its first run, works on the next.
pub fn snooze(args: Wait, cx: &Context) -> Result<Worked, Failure> {
    if cx.run == 1 {
        return Err(Failure::snooze(Duration::from_millis(args.ms)).because("too early: the first run only looks"));
    }
    Ok(Worked { attempt: cx.attempt, run: cx.run })
}

/// Sleeps, which costs time but no fuel.
pub fn sleep(args: Wait) -> Result<(), Failure> {
    std::thread::sleep(Duration::from_millis(args.ms));
    Ok(())
}

/// What to log.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Log {
    /// Of each line.
    #[serde(default = "hello")]
    message: String,
}

/// Logs one line of each level, one to standard output and one to standard error, with progress between them.
pub fn log(args: Log, cx: &Context) -> Result<(), Failure> {
    let levels = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error];
    for (level, percent) in levels.into_iter().zip([0, 20, 40, 60, 80]) {
        cx.progress(percent, format!("{level:?}"));
        cx.log(level, &args.message);
    }
    println!("{} (standard output)", args.message);
    eprintln!("{} (standard error)", args.message);
    cx.progress(100, "done");
    Ok(())
}

/// What to enqueue.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Enqueue {
    /// How many.
    #[serde(default = "one")]
    n: u32,
}

/// Enqueues `n` jobs `demo.echo`, recorded together with this one's completion; answers with their ids.
pub fn enqueue(args: Enqueue, cx: &Context) -> Result<Vec<String>, Failure> {
    if args.n > ENQUEUE_MAX {
        return Err(Failure::discard(format_args!("`n` is at most {ENQUEUE_MAX}")));
    }
    let child = |number| NewJob::new("demo.echo").args(&serde_json::json!({ "child": number, "of": cx.id }));
    Ok((1..=args.n).map(|number| cx.enqueue(child(number))).collect::<Result<_, _>>()?)
}

fn one() -> u32 {
    1
}

fn gibibyte() -> usize {
    1024
}

fn second() -> u64 {
    1000
}

fn surprise() -> String {
    "a panic, as asked for".to_owned()
}

fn hello() -> String {
    "hello".to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use runner_plugin::{Handler, test};

    /// `expected`: the output, or `retry: …`, `discard: …`, `snooze: …`.
    #[track_caller]
    fn check<Shape>(handler: impl Handler<Shape>, attempt: u32, args: &str, expected: &str) {
        let answer = match test::run(handler, args.as_bytes(), &test::job("demo").attempt(attempt).context()) {
            Ok(output) => String::from_utf8(output).unwrap(),
            Err(failure) => {
                let name = match &failure {
                    Failure::Retry { .. } => "retry",
                    Failure::Discard { .. } => "discard",
                    Failure::Snooze { .. } => "snooze",
                };
                format!("{name}: {}", failure.message())
            }
        };
        assert_eq!(answer, expected);
    }

    #[test]
    fn each_does_what_it_says() {
        check(echo, 1, "{\"a\": 1", "{\"a\": 1");
        check(flaky, 1, r#"{"failures": 2}"#, "retry: attempt 1 of 2 that fail");
        check(flaky, 3, r#"{"failures": 2}"#, r#"{"attempt":3,"run":3}"#);
        check(
            flaky,
            1,
            r#"{"failure": 2}"#,
            "discard: args do not fit: `failure`: unknown field `failure`, expected `failures` or `retry_after_ms` at line 1 column 10",
        );
        check(hog, 1, r#"{"mib": 3}"#, r#"{"mib":3}"#);
        check(hog, 1, r#"{"mib": 5000}"#, "discard: `mib` is at most 4095");
        check(snooze, 1, r#"{"ms": 5}"#, "snooze: too early: the first run only looks");
        check(snooze, 2, r#"{"ms": 5}"#, r#"{"attempt":2,"run":2}"#);
        check(sleep, 1, r#"{"ms": 1}"#, "");
        check(log, 1, "{}", "");
        check(enqueue, 1, r#"{"n": 2}"#, r#"["1001","1002"]"#);
        check(enqueue, 1, r#"{"n": 101}"#, "discard: `n` is at most 100");
    }

    #[test]
    #[should_panic(expected = "boom")]
    fn a_panic_says_what_was_asked_for() {
        check(super::panic, 1, r#"{"message": "boom"}"#, "");
    }

    #[test]
    fn log_and_children_are_recorded() {
        let cx = test::job("demo").context();
        test::run(log, b"{}", &cx).unwrap();
        test::run(enqueue, b"{}", &cx).unwrap();
        let recorded = cx.recorded();
        assert_eq!((recorded.logs.len(), recorded.progress.len()), (5, 6));
        assert_eq!(recorded.enqueued[0].args, br#"{"child":1,"of":"1"}"#);
    }
}
