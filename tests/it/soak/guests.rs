//! Handlers of the soak, in WebAssembly text: all but one answer with the whole record that they were given, so that an
//! output says which job, run and attempt made it.

use crate::sandbox::guests::command_with;

/// How long `slow` runs: longer than a few commits, so that a kill finds it running.
const SLOW_NS: u64 = 200_000_000;
/// Attempts of `flaky` that fail; the next one works.
pub(super) const FLAKY_FAILS: u32 = 2;

/// Reads the record on stdin to 65536 and answers with it. Before it at 1024 stands how an answer begins; at 2048 and 3072
/// what comes behind the record and, for `parent`, behind the second one.
const PARTS: &str = r#"
  (data (i32.const 1024) "{\"ok\":")
  (data (i32.const 2048) "}\n")
  (data (i32.const 3072) ",\"enqueue\":[{\"kind\":\"quick\",\"args\":{\"of\":")
  (data (i32.const 3584) "}}]}\n")
  (func $take (result i32) (local $n i32) (local $got i32)
    (loop $more
      (i32.store (i32.const 0) (i32.add (i32.const 65536) (local.get $n)))
      (i32.store (i32.const 4) (i32.const 65536))
      (drop (call $read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
      (local.set $got (i32.load (i32.const 8)))
      (local.set $n (i32.add (local.get $n) (local.get $got)))
      (br_if $more (local.get $got)))
    (i32.sub (local.get $n) (i32.const 1)))
  (func $echo (param $n i32)
    (call $print (i32.const 1) (i32.const 1024) (i32.const 6))
    (call $print (i32.const 1) (i32.const 65536) (local.get $n))
    (call $print (i32.const 1) (i32.const 2048) (i32.const 2)))
  (func $sleep (param $ns i64)
    (i32.store (i32.const 4112) (i32.const 1))
    (i64.store (i32.const 4120) (local.get $ns))
    (drop (call $poll (i32.const 4096) (i32.const 4160) (i32.const 1) (i32.const 4224))))
  (func $attempt (result i32) (local $at i32)
    (local.set $at (i32.const 65536))
    (block $found
      (loop $next
        (br_if $found (i64.eq (i64.load (local.get $at)) (i64.const 0x74706d6574746122)))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (br $next)))
    (i32.sub (i32.load8_u offset=10 (local.get $at)) (i32.const 48)))"#;

/// Every handler: its kind, its bytes, its manifest.
pub(super) fn all() -> [(&'static str, Vec<u8>, &'static str); 6] {
    let made = |body: &str| command_with(PARTS, body);
    let flaky = format!(
        "(call $echo (call $take))
         (if (i32.le_u (call $attempt) (i32.const {FLAKY_FAILS})) (then (call $exit (i32.const 1))))"
    );
    let parent = "(local $n i32)
        (local.set $n (call $take))
        (call $print (i32.const 1) (i32.const 1024) (i32.const 6))
        (call $print (i32.const 1) (i32.const 65536) (local.get $n))
        (call $print (i32.const 1) (i32.const 3072) (i32.const 41))
        (call $print (i32.const 1) (i32.const 65536) (local.get $n))
        (call $print (i32.const 1) (i32.const 3584) (i32.const 5))";
    let slow = format!("(call $sleep (i64.const {SLOW_NS})) (call $echo (call $take))");
    [
        ("quick", made("(call $echo (call $take))"), ""),
        ("flaky", made(&flaky), ""),
        ("hopeless", made("(call $exit (i32.const 1))"), ""),
        ("slow", made(&slow), ""),
        ("parent", made(parent), "[allow]\nenqueue = [\"quick\"]"),
        ("spin", made("(loop $again (br $again))"), ""),
    ]
}
