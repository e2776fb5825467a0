//! A guest that makes calls of `blobs` one after the other and answers with what each of them said.
//!
//! A script has one call a line: `size C NAME`, `read C NAME OFFSET LEN`, `sum C NAME OFFSET LEN` (the length and the sum of
//! the bytes, for what is too large to be shown), `begin C NAME`, `write W TEXT`, `fill W LETTER LEN`, `finish W`,
//! `remove C NAME`, `names C PREFIX AFTER LIMIT`, and `spin`, which never ends. `_` is an empty word, or none.

use std::fmt::Write as _;

use super::super::guests::component;

/// What is written comes from here: letters that are filled in before each call.
const FILL_AT: u32 = 4 << 20;
/// Where the host's lists go; each call begins anew.
const HEAP_AT: u32 = 8 << 20;

const FRAME: &str = r#"
  (import "runner:plugin/blobs@0.1.0" "size" (func $size (param i32 i32 i32 i32 i32)))
  (import "runner:plugin/blobs@0.1.0" "read" (func $read (param i32 i32 i32 i32 i32 i32 i32)))
  (import "runner:plugin/blobs@0.1.0" "begin" (func $begin (param i32 i32 i32 i32 i32)))
  (import "runner:plugin/blobs@0.1.0" "write-part" (func $write (param i32 i32 i32 i32)))
  (import "runner:plugin/blobs@0.1.0" "finish" (func $finish (param i32 i32)))
  (import "runner:plugin/blobs@0.1.0" "remove" (func $remove (param i32 i32 i32 i32 i32)))
  (import "runner:plugin/blobs@0.1.0" "names" (func $names (param i32 i32 i32 i32 i32 i32 i32 i32 i32)))
  (memory (export "memory") 256)
  (global $out (mut i32) (i32.const 2097152))
  (func $put (param $n i32) (i32.store (global.get $out) (local.get $n))
    (global.set $out (i32.add (global.get $out) (i32.const 4))))
  (func $list (param $at i32) (param $len i32) (call $put (local.get $len))
    (memory.copy (global.get $out) (local.get $at) (local.get $len))
    (global.set $out (i32.add (global.get $out) (local.get $len))))
  ;; The list that the answer has, as its length and its sum.
  (func $sum (local $at i32) (local $end i32) (local $sum i32)
    (local.set $at (i32.load (i32.const 1028)))
    (local.set $end (i32.add (local.get $at) (i32.load (i32.const 1032))))
    (block $done (loop $next
      (br_if $done (i32.eq (local.get $at) (local.get $end)))
      (local.set $sum (i32.add (local.get $sum) (i32.load8_u (local.get $at))))
      (local.set $at (i32.add (local.get $at) (i32.const 1)))
      (br $next)))
    (call $put (i32.const 8)) (call $put (i32.load (i32.const 1032))) (call $put (local.get $sum)))
  (func $texts (local $at i32) (local $n i32)
    (local.set $at (i32.load (i32.const 1028)))
    (local.set $n (i32.load (i32.const 1032)))
    (call $put (local.get $n))
    (block $done (loop $next
      (br_if $done (i32.eqz (local.get $n)))
      (call $list (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
      (local.set $at (i32.add (local.get $at) (i32.const 8)))
      (local.set $n (i32.sub (local.get $n) (i32.const 1)))
      (br $next))))
  ;; What the call answered at 1024: 1 and an error's two texts, or 0 and what it is.
  (func $answer (param $shape i32)
    (global.set $top (i32.const 8388608))
    (call $put (i32.load8_u (i32.const 1024)))
    (if (i32.load8_u (i32.const 1024))
      (then (call $list (i32.load (i32.const 1028)) (i32.load (i32.const 1032)))
            (call $list (i32.load (i32.const 1036)) (i32.load (i32.const 1040))) (return)))
    (if (i32.eq (local.get $shape) (i32.const 1)) (then (call $list (i32.const 1028) (i32.const 8))))
    (if (i32.eq (local.get $shape) (i32.const 2)) (then (call $list (i32.load (i32.const 1028)) (i32.load (i32.const 1032)))))
    (if (i32.eq (local.get $shape) (i32.const 3)) (then (call $sum)))
    (if (i32.eq (local.get $shape) (i32.const 4)) (then (call $texts))))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (local $at i32)
    (local.set $at (i32.and (i32.add (global.get $top) (i32.const 7)) (i32.const -8)))
    (global.set $top (i32.add (local.get $at) (local.get 3)))
    (local.get $at))
"#;

/// The guest that follows this script.
pub(super) fn guest(script: &str) -> Vec<u8> {
    let (mut data, mut body) = (Data { at: 65_536, segments: String::new() }, String::new());
    for line in lines(script) {
        writeln!(body, "{}", call(&line, &mut data)).expect("a text takes it");
    }
    component(&format!(
        r#"(module {FRAME} (global $top (mut i32) (i32.const {HEAP_AT})) {}
          (func (export "runner:plugin/handler@0.1.0#handle") (param i32) (result i32) {body}
            (i32.store (i32.const 68) (i32.const 2097152))
            (i32.store (i32.const 72) (i32.sub (global.get $out) (i32.const 2097152))) (i32.const 64)))"#,
        data.segments
    ))
}

/// What each call answered, as a text: `!code: message` for an error.
pub(super) fn answers(script: &str, output: &[u8]) -> Vec<String> {
    let mut rest = Rest(output);
    lines(script).iter().filter(|line| line[0] != "spin").map(|line| rest.answer(line[0])).collect()
}

fn lines(script: &str) -> Vec<Vec<&str>> {
    let words = |line: &'_ str| line.trim().len();
    script.lines().filter(|line| words(line) > 0).map(|line| line.trim().split(' ').collect()).collect()
}

struct Data {
    at: usize,
    segments: String,
}

impl Data {
    /// A text in the guest's memory, as pointer and length.
    fn text(&mut self, text: &str) -> String {
        let text = if text == "_" { "" } else { text };
        let bytes: String = text.bytes().map(|byte| format!("\\{byte:02x}")).collect();
        let at = self.at;
        write!(self.segments, r#"(data (i32.const {at}) "{bytes}")"#).expect("a text takes it");
        self.at += text.len();
        format!("(i32.const {at}) (i32.const {})", text.len())
    }
}

fn call(line: &[&str], data: &mut Data) -> String {
    let to = "(i32.const 1024)";
    let (call, shape) = match *line {
        ["size", of, name] => (format!("(call $size {} {} {to})", data.text(of), data.text(name)), 1),
        ["read" | "sum", of, name, offset, len] => {
            let range = format!("(i32.const {offset}) (i32.const {len})");
            let call = format!("(call $read {} {} {range} {to})", data.text(of), data.text(name));
            (call, if line[0] == "read" { 2 } else { 3 })
        }
        ["begin", of, name] => (format!("(call $begin {} {} {to})", data.text(of), data.text(name)), 1),
        ["write", writer, text] => (format!("(call $write (i32.const {writer}) {} {to})", data.text(text)), 0),
        ["fill", writer, letter, len] => {
            let at = format!("(i32.const {FILL_AT})");
            let fill = format!("(memory.fill {at} (i32.const {}) (i32.const {len}))", letter.as_bytes()[0]);
            (format!("{fill} (call $write (i32.const {writer}) {at} (i32.const {len}) {to})"), 0)
        }
        ["finish", writer] => (format!("(call $finish (i32.const {writer}) {to})"), 0),
        ["remove", of, name] => (format!("(call $remove {} {} {to})", data.text(of), data.text(name)), 0),
        ["names", of, prefix, after, limit] => {
            let (of, prefix, is_some) = (data.text(of), data.text(prefix), u8::from(after != "_"));
            let after = format!("(i32.const {is_some}) {}", data.text(after));
            (format!("(call $names {of} {prefix} {after} (i32.const {limit}) {to})"), 4)
        }
        ["spin"] => return "(loop $again (br $again))".to_owned(),
        _ => panic!("no call: {line:?}"),
    };
    format!("{call} (call $answer (i32.const {shape}))")
}

struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
    fn number(&mut self) -> u32 {
        let (number, rest) = self.0.split_at(4);
        self.0 = rest;
        u32::from_le_bytes(number.try_into().expect("there are four"))
    }

    fn list(&mut self) -> Vec<u8> {
        let len = self.number() as usize;
        let (list, rest) = self.0.split_at(len);
        self.0 = rest;
        list.to_vec()
    }

    fn text(&mut self) -> String {
        String::from_utf8(self.list()).expect("it is a text")
    }

    fn answer(&mut self, call: &str) -> String {
        if self.number() == 1 {
            return format!("!{}: {}", self.text(), self.text());
        }
        let pair = |list: Vec<u8>| {
            let mut pair = Rest(&list);
            (pair.number(), pair.number())
        };
        match call {
            "size" => match pair(self.list()) {
                // The first byte says whether there is one; the padding behind it says nothing.
                (some, size) if some & 0xff == 1 => size.to_string(),
                _ => "none".to_owned(),
            },
            "begin" => pair(self.list()).0.to_string(),
            "read" => self.text(),
            "sum" => {
                let (len, sum) = pair(self.list());
                format!("{len} {sum}")
            }
            "names" => (0..self.number()).map(|_| self.text()).collect::<Vec<_>>().join(" "),
            _ => "ok".to_owned(),
        }
    }
}
