//! The beasts: guests that do what no honest handler does, each with the outcome that it must have.

use runner_store::job::outcome::OutcomeName::{
    self, Completed, Failed, OutOfFuel, OutOfMemory, OutputTooLarge, PluginBroken, TimedOut, Trapped,
};

use super::guests::{
    CONTRACT, REALLOC, RESULT, command, command_with, component, component_in, handler, handler_with, says,
};

/// One of them.
pub(crate) struct Beast {
    /// Its plugin's name and its kind; and what it does, in words.
    pub(crate) name: &'static str,
    pub(crate) guest: Vec<u8>,
    /// Further keys of `[limits]`; the time-out is 200 ms unless they say otherwise.
    pub(crate) limits: &'static str,
    /// How each of its runs ends: one of these.
    pub(crate) ends: &'static [OutcomeName],
}

const SPIN: &str = "(loop $again (br $again)) unreachable";
const CANCELLED: &str = r#"(import "runner:plugin/host@0.1.0" "cancelled" (func $cancelled (result i32)))"#;
const LOG: &str = r#"(import "runner:plugin/host@0.1.0" "log" (func $log (param i32 i32 i32)))"#;
const ENQUEUE: &str =
    r#"(import "runner:plugin/host@0.1.0" "enqueue" (func $enqueue (param i32 i32 i32 i32 i32 i32 i32)))"#;
/// What a flood may do before its time is over.
const MANY_CALLS: &str = "host_calls = 1_000_000_000";

/// WASI as far as beasts call it.
const WASI: [&str; 3] = [
    "package wasi:io@0.2.0; interface poll { resource pollable { block: func(); } }",
    "package wasi:clocks@0.2.0; interface monotonic-clock {
       use wasi:io/poll@0.2.0.{pollable}; subscribe-duration: func(when: u64) -> pollable; }",
    "package wasi:random@0.2.0; interface random { get-random-bytes: func(len: u64) -> list<u8>; }",
];
const WASI_WORLD: &str = "package test:guest; world guest {
    import wasi:clocks/monotonic-clock@0.2.0; import wasi:random/random@0.2.0; include runner:plugin/plugin@0.1.0; }";

/// All of them.
pub(crate) fn all() -> Vec<Beast> {
    let mut all = loops();
    all.extend(memory());
    all.extend(answers());
    all.extend(floods());
    all.extend(waits());
    all
}

fn beast(name: &'static str, guest: Vec<u8>, limits: &'static str, ends: &'static [OutcomeName]) -> Beast {
    Beast { name, guest, limits, ends }
}

fn loops() -> Vec<Beast> {
    let in_realloc = r#"(module (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (loop $again (br $again)) unreachable)
        (func (export "runner:plugin/handler@0.1.0#handle") (param i32) (result i32) (i32.const 64)))"#;
    let in_start = "(func $spin (loop $again (br $again))) (start $spin)";
    let fill = "(loop $again (memory.fill (i32.const 0) (i32.const 1) (i32.const 1048576)) (br $again)) unreachable";
    let through_host =
        format!("{CANCELLED} (func $deep (drop (call $cancelled)) (call $deep) (drop (call $cancelled)))");
    vec![
        beast("loop.in-handle", handler(SPIN), "", &[TimedOut]),
        beast("loop.in-command", command("(loop $again (br $again))"), "", &[TimedOut]),
        beast("loop.in-start", handler_with(in_start, RESULT), "", &[TimedOut]),
        beast("loop.in-realloc", component(in_realloc), "", &[TimedOut]),
        beast("loop.of-fills", handler(fill), "", &[TimedOut]),
        beast("loop.until-fuel", handler(SPIN), "fuel = \"50M\"\ntimeout = \"10s\"", &[OutOfFuel]),
        // About what 200 ms burn: whichever comes first, it is one of the two.
        beast("loop.fuel-and-time", handler(SPIN), "fuel = \"600M\"", &[OutOfFuel, TimedOut]),
        beast(
            "recursion",
            handler_with("(func $deep (call $deep) (call $deep))", &format!("(call $deep) {RESULT}")),
            "",
            &[Trapped],
        ),
        beast(
            "recursion.through-host",
            handler_with(&through_host, &format!("(call $deep) {RESULT}")),
            "timeout = \"10s\"",
            &[Trapped],
        ),
        beast("panic", handler("unreachable"), "", &[Trapped]),
        beast(
            "panic.in-start",
            handler_with("(func $broken unreachable) (start $broken)", RESULT),
            "",
            &[PluginBroken],
        ),
    ]
}

fn memory() -> Vec<Beast> {
    let at_once = format!("(if (i32.eq (memory.grow (i32.const 16384)) (i32.const -1)) (then unreachable)) {RESULT}");
    let pages = "(loop $again (br_if $again (i32.ne (memory.grow (i32.const 1)) (i32.const -1)))) unreachable";
    let forever = "(loop $again (drop (memory.grow (i32.const 1))) (br $again)) unreachable";
    let several = "(if (i32.eq (memory.grow $b (i32.const 400)) (i32.const -1)) (then unreachable))
        (if (i32.eq (memory.grow $c (i32.const 400)) (i32.const -1)) (then unreachable))
        (if (i32.eq (memory.grow $d (i32.const 400)) (i32.const -1)) (then unreachable))";
    let table =
        "(if (i32.eq (table.grow $t (ref.null func) (i32.const 1000000000)) (i32.const -1)) (then unreachable))";
    // Takes all that it may, touches every page of it, and then spins.
    let hog =
        "(drop (memory.grow (i32.const 1000))) (memory.fill (i32.const 65536) (i32.const 1) (i32.const 60000000))";
    vec![
        beast("memory.at-once", handler(&at_once), "", &[OutOfMemory]),
        beast("memory.by-pages", handler(pages), "", &[OutOfMemory]),
        beast("memory.without-end", handler(forever), MANY_CALLS, &[TimedOut]),
        beast("memory.several", command_with("(memory $b 1) (memory $c 1) (memory $d 1)", several), "", &[OutOfMemory]),
        beast("memory.from-the-start", command_with("(memory $b 2000)", ""), "", &[OutOfMemory]),
        beast(
            "memory.exit-after-denial",
            command("(if (i32.eq (memory.grow (i32.const 16384)) (i32.const -1)) (then (call $exit (i32.const 1))))"),
            "",
            &[OutOfMemory],
        ),
        beast("memory.hog-and-spin", handler(&format!("{hog} {SPIN}")), "", &[TimedOut]),
        beast(
            "memory.fill-4-gib",
            handler(&format!("(memory.fill (i32.const 0) (i32.const 1) (i32.const -1)) {RESULT}")),
            "",
            &[Trapped],
        ),
        beast("table.huge", handler_with("(table $t 1 funcref)", &format!("{table} {RESULT}")), "", &[OutOfMemory]),
        // Answers with an error if it finds what any run before it has left.
        beast("canary.reader", handler(READS_CANARY), "timeout = \"10s\"", &[Completed]),
        beast("canary.writer", handler(WRITES_CANARY), "timeout = \"10s\"", &[Completed]),
    ]
}

/// Looks for another tenant's mark through all of its memory, above its own few bytes.
const READS_CANARY: &str = "(local $i i32) (local.set $i (i32.const 65536))
    (loop $look (if (i64.ne (i64.load (local.get $i)) (i64.const 0)) (then unreachable))
      (local.set $i (i32.add (local.get $i) (i32.const 8)))
      (br_if $look (i32.lt_u (local.get $i) (i32.const 1048576)))) (i32.const 64)";
const WRITES_CANARY: &str = "(memory.fill (i32.const 65536) (i32.const 0xc5) (i32.const 983040)) (i32.const 64)";

fn answers() -> Vec<Beast> {
    let reason = "(i32.store8 (i32.const 64) (i32.const 1)) (i32.store8 (i32.const 68) (i32.const 1))
        (i32.store (i32.const 72) (i32.const 128)) (i32.store (i32.const 76) (i32.const 2))
        (i32.store (i32.const 128) (i32.const 0xfefe)) (i32.const 64)";
    let pages = "(memory.fill (i32.const 65536) (i32.const 120) (i32.const 2097152))";
    let print = "(call $print (i32.const 1) (i32.const 65536) (i32.const 2097152))";
    let quoted = command_with(
        r#"(data (i32.const 1024) "{\"ok\":\"")"#,
        &format!("(call $print (i32.const 1) (i32.const 1024) (i32.const 7)) {pages} {print} {print} {print}"),
    );
    vec![
        beast("answer.bad-pointer", handler("(i32.const 0x7ffffff0)"), "", &[Trapped]),
        beast("answer.askew", handler("(i32.const 65)"), "", &[Trapped]),
        beast(
            "answer.beyond-memory",
            handler(
                "(i32.store (i32.const 68) (i32.const 1048570)) (i32.store (i32.const 72) (i32.const 64)) (i32.const 64)",
            ),
            "",
            &[Trapped],
        ),
        beast(
            "answer.four-gigabytes",
            handler("(i32.store (i32.const 72) (i32.const -1)) (i32.const 64)"),
            "",
            &[Trapped],
        ),
        beast(
            "answer.bad-discriminant",
            handler("(i32.store8 (i32.const 64) (i32.const 2)) (i32.const 64)"),
            "",
            &[Trapped],
        ),
        beast("answer.bad-utf-8", handler(reason), "", &[Trapped]),
        beast("answer.nonsense", says("{nonsense\n", "", 0), "", &[Trapped]),
        beast("answer.six-megabytes", quoted, "timeout = \"10s\"", &[OutputTooLarge]),
        beast("exit.code", says("", "why", 3), "", &[Failed]),
        beast("log.escapes", says("\u{1b}[2J\u{1b}]0;title\u{7}\u{202e}\r\n\n\n", "\u{9b}31m\n", 0), "", &[Completed]),
    ]
}

fn floods() -> Vec<Beast> {
    let calls = "(loop $again (drop (call $cancelled)) (br $again)) unreachable";
    let lines = "(loop $again (call $log (i32.const 2) (i32.const 65536) (i32.const 1000)) (br $again)) unreachable";
    let gigabyte = format!("(call $log (i32.const 2) (i32.const 0) (i32.const -1)) {RESULT}");
    // 1,100 jobs of a megabyte each; what does not fit is refused, and the run goes on. Unoptimised, the runner copies args
    // byte by byte: then it is a tenth of them.
    let jobs = if cfg!(debug_assertions) { 110 } else { 1_100 };
    let stage = format!(
        "(local $i i32) (loop $again
        (call $enqueue (i32.const 4096) (i32.const 4) (i32.const 4096) (i32.const 1000000) (i32.const 0) (i32.const 0) (i32.const 128))
        (local.set $i (i32.add (local.get $i) (i32.const 1)))
        (br_if $again (i32.lt_u (local.get $i) (i32.const {jobs})))) (i32.const 64)"
    );
    // Options that are a hundred thousand lists in one another.
    let nested = "(memory.fill (i32.const 65536) (i32.const 91) (i32.const 100000))
        (call $enqueue (i32.const 4096) (i32.const 4) (i32.const 0) (i32.const 0) (i32.const 65536) (i32.const 60000) (i32.const 128))
        (i32.const 64)";
    let sink = format!("{ENQUEUE} (data (i32.const 4096) \"sink\")");
    let pollables = "(loop $again (drop (call $subscribe (i64.const 1000000000000))) (br $again)) unreachable";
    let print = "(loop $again (call $print (i32.const 1) (i32.const 65536) (i32.const 2097152)) (br $again))";
    let newlines = format!("(memory.fill (i32.const 65536) (i32.const 10) (i32.const 2097152)) {print}");
    vec![
        beast("flood.calls", handler_with(CANCELLED, calls), MANY_CALLS, &[TimedOut]),
        beast("flood.calls-counted", handler_with(CANCELLED, calls), "host_calls = 1_000", &[Trapped]),
        beast("flood.log", handler_with(LOG, lines), MANY_CALLS, &[TimedOut]),
        beast("flood.log-4-gib", handler_with(LOG, &gigabyte), "", &[Trapped]),
        beast("flood.stdout", command(print), MANY_CALLS, &[TimedOut]),
        beast("flood.newlines", command(&newlines), MANY_CALLS, &[TimedOut]),
        beast("flood.resources", wasi(SUBSCRIBE, pollables), MANY_CALLS, &[Trapped]),
        beast(
            "flood.random",
            command("(loop $again (drop (call $random (i32.const 0) (i32.const 65000))) (br $again))"),
            MANY_CALLS,
            &[TimedOut],
        ),
        beast(
            "flood.clock",
            command("(loop $again (drop (call $clock (i32.const 0) (i64.const 1) (i32.const 0))) (br $again))"),
            MANY_CALLS,
            &[TimedOut],
        ),
        beast("random.four-gigabytes", command("(drop (call $random (i32.const 0) (i32.const -1)))"), "", &[Trapped]),
        beast(
            "random.a-terabyte",
            wasi(RANDOM, &format!("(call $bytes (i64.const 1099511627776) (i32.const 128)) {RESULT}")),
            "",
            &[Trapped],
        ),
        beast("stage.a-gigabyte", handler_with(&sink, &stage), "timeout = \"10s\"", &[Completed]),
        beast("stage.nested", handler_with(&sink, nested), "timeout = \"10s\"", &[Completed]),
    ]
}

fn waits() -> Vec<Beast> {
    let sleep =
        "(i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 4611686018427387904))
        (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096)))";
    let polls = "(i32.store (i32.const 1040) (i32.const 1)) (i64.store (i32.const 1048) (i64.const 0))
        (loop $again (drop (call $poll (i32.const 1024) (i32.const 2048) (i32.const 1) (i32.const 4096))) (br $again))";
    let block = "(call $block (call $subscribe (i64.const 4611686018427387904))) (i32.const 64)";
    vec![
        beast("sleep.for-ever", command(sleep), "", &[TimedOut]),
        beast("sleep.in-a-component", wasi(SUBSCRIBE, block), "", &[TimedOut]),
        beast("poll.for-ever", command(polls), MANY_CALLS, &[TimedOut]),
        beast("honest", handler(RESULT), "timeout = \"10s\"", &[Completed]),
    ]
}

const SUBSCRIBE: &str = r#"(import "wasi:clocks/monotonic-clock@0.2.0" "subscribe-duration"
        (func $subscribe (param i64) (result i32)))
    (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))"#;
const RANDOM: &str = r#"(import "wasi:random/random@0.2.0" "get-random-bytes" (func $bytes (param i64 i32)))"#;

/// A component that imports WASI beside the contract.
fn wasi(fields: &str, body: &str) -> Vec<u8> {
    let module = format!(
        r#"(module {fields}
          (memory (export "memory") 16)
          {REALLOC}
          (func (export "runner:plugin/handler@0.1.0#handle") (param $job i32) (result i32) {body}))"#
    );
    let [io, clocks, random] = WASI;
    component_in(CONTRACT, &[io, clocks, random, WASI_WORLD], &module)
}
