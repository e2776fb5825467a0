//! What is wrong with a script is said, with its line; no run of a script sees what another one left; and what is done before its
//! runs is not to be seen in them.

use std::time::{SystemTime, UNIX_EPOCH};

use runner_runtime::wasm::{Host, HostSettings, JobView, Manifest, RunReport};
use runner_store::job::outcome::Outcome;

use super::run::{Place, Subject};

fn run(place: &Place, subject: &Subject) -> RunReport {
    run_with(place, subject, "{}")
}

fn run_with(place: &Place, subject: &Subject, args: &str) -> RunReport {
    let job = JobView { id: 7, kind: "conformance".to_owned(), args: args.as_bytes().to_vec(), ..JobView::default() };
    place.run_job(subject, job, None)
}

/// The answer of a run that completes.
fn answer(place: &Place, subject: &Subject, args: &str) -> serde_json::Value {
    match run_with(place, subject, args).outcome {
        Outcome::Completed { output } => serde_json::from_slice(&output).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// A script, how it ends, and what its error says.
const WRONG: [(&str, &str, &[&str]); 19] = [
    ("export default () => {\n  null.x;\n};", "failed", &["TypeError", "(conformance.js:2:"]),
    // The engine notes no place of a name: it is the function's.
    ("\n\nexport default () => {\n  nope();\n};", "failed", &["nope is not defined", "(conformance.js:3:"]),
    ("const f = () => {\n throw new TypeError('odd');\n};\nexport default () => f();", "failed", &["odd", "js:2:"]),
    ("\n\nlet x = ;", "failed", &["SyntaxError", "line 3"]),
    ("export const x = 1;", "failed", &["default export is no function: write `export default"]),
    // The engine has no place of what it is asked for.
    ("let x;\nimport fs from 'fs';\nexport default () => fs;", "failed", &["no \"fs\" to import", "js:2:16)"]),
    ("\nexport default () => import('fs');", "failed", &["no \"fs\" to import", "(conformance.js:2:29)"]),
    ("export default () => new Promise(() => {});", "failed", &["waits for something that never comes"]),
    // It had no line: of text without an end the engine says none.
    ("const a = `ok`;\n\nconst b = `never\n\\`;\n", "failed", &["unterminated template literal", "(conformance.js:3)"]),
    ("const a = 'ok';\n\nconst b = \"never;\nlet c;\n", "failed", &["unterminated string literal", "js:3)"]),
    ("export default () => {\n  if (1) {\n};\n", "failed", &["ends before something", "(conformance.js:3)"]),
    ("\nexport default class Handler {\n  run() {}\n}", "failed", &["is a class, and must be a function", "js:2:1)"]),
    ("let x;\n  export default { run() {} };", "failed", &["default export is no function", "(conformance.js:2:3)"]),
    // "expected token 'function'" helps nobody who wrote an arrow as everywhere else.
    ("\nexport default async (args) => 1;", "failed", &["line 2", "write `export default async function (args, cx)"]),
    ("const f = () => f();\nexport default f;", "failed", &["more than 400 recursive calls", "(conformance.js:1:"]),
    // The engine gave up as a whole: "capacity overflow", at a line of its own library.
    (
        "const f = () => 'x'.repeat(1 << 30);\nexport default f;",
        "failed",
        &["at most 134217728 characters, and this one would have 1073741824", "(conformance.js:1:"],
    ),
    ("export default () => {\n  return 'x'.padEnd(2 ** 40);\n};", "failed", &["at most 134217728", "js:2:"]),
    ("export default () => { throw null; };", "failed", &["null"]),
    ("export default async function () { await null; throw new Discard('so'); }", "discarded", &[]),
];

#[test]
fn what_is_wrong_with_a_script_is_said_with_its_line() {
    let place = Place::new();
    let mut unsaid = Vec::new();
    for (script, outcome, words) in WRONG {
        let report = run(&place, &place.script(script));
        let (ended, error) = (report.outcome.name().as_str(), report.outcome.error().unwrap_or_default());
        if ended != outcome || !words.iter().all(|word| error.contains(word)) {
            unsaid.push(format!("{script:?} {ended}: {error:?}, not {outcome} with {words:?}"));
        }
    }
    assert!(unsaid.is_empty(), "{}", unsaid.join("\n"));
}

/// What writes an output goes by recursion: one that was nested too deep overflowed the stack of the engine, and the run ended as a
/// trap in the midst of it. The next run would make the same, hence it is given up.
#[test]
fn an_output_that_is_nested_too_deep_is_given_up_and_says_so() {
    let place = Place::new();
    let subject = place.script(
        "export default ({ how, n }) => {\n  let made = 0;\n  for (let i = 0; i < n; i++) \
         made = how === 'list' ? [made] : { n: i, text: 'x', next: made };\n  return made;\n};",
    );
    let nested = |how: &str, n: usize| run_with(&place, &subject, &format!(r#"{{"how":"{how}","n":{n}}}"#)).outcome;
    for how in ["list", "chain"] {
        let deepest = nested(how, 500);
        assert!(matches!(deepest, Outcome::Completed { .. }), "{how}: {deepest:?}");
        for n in [501, 100_000] {
            let Outcome::Discarded { reason } = nested(how, n) else { panic!("{how} of {n}: {:?}", nested(how, n)) };
            assert!(reason.contains("nested more than 500 deep"), "{how} of {n}: {reason}");
        }
    }
    // A value within itself is something else.
    let cyclic = place.script("export default () => {\n  const made = {};\n  made.made = [made];\n  return made;\n};");
    let Outcome::Discarded { reason } = run(&place, &cyclic).outcome else { panic!("it is no JSON") };
    assert!(reason.contains("cyclic"), "{reason}");
}

/// More than the host copies at once was "fuel allocated for hostcalls has been exhausted", whatever the language.
#[test]
fn an_output_far_beyond_its_limit_is_too_large() {
    let place = Place::new();
    let report = run(&place, &place.script("export default () => 'x'.repeat(3_000_000);"));
    assert_eq!(report.outcome, Outcome::OutputTooLarge { limit_bytes: 1 << 20 });
}

/// A text of the largest size is the language's own; what bounds it must not be seen elsewhere.
#[test]
fn functions_that_are_bounded_are_those_of_the_language() {
    let place = Place::new();
    let subject = place.script(
        "const thrown = f => { try { return f(); } catch (error) { return error.name; } };\n\
         export default () => [\n  'ab'.repeat(2), 'a'.repeat('3'), 'a'.repeat(), 'a'.padStart(3, 'xy'), 'a'.padEnd(3), 'a'.padEnd(),\n  \
         String.prototype.repeat.call(7, 2), String.prototype.repeat.name, String.prototype.repeat.length,\n  \
         thrown(() => 'a'.repeat(-1)), thrown(() => 'a'.repeat(Infinity)), thrown(() => 'a'.repeat(1n)), ''.repeat(2 ** 30),\n  \
         thrown(() => String.prototype.repeat.call(null, 1)), Object.keys(String.prototype).length,\n];",
    );
    let expected = serde_json::json!([
        "abab",
        "aaa",
        "",
        "xya",
        "a  ",
        "a",
        "77",
        "repeat",
        1,
        "RangeError",
        "RangeError",
        "TypeError",
        "",
        "TypeError",
        0
    ]);
    assert_eq!(answer(&place, &subject, "{}"), expected);
}

/// The engine begins every run with a context that was made when it was built: what one run does to it must be gone in the next.
#[test]
fn no_run_of_a_script_leaves_anything_for_the_next() {
    let place = Place::new();
    let subject = place.script(
        "export default () => {\n  const seen = [globalThis.left, Array.prototype.left, Discard.left, console.left];\n  \
         for (const place of [globalThis, Array.prototype, Discard, console]) place.left = 1;\n  \
         return { seen: seen.filter(left => left !== undefined).length, first: Math.random() };\n};",
    );
    let mut firsts = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let output = answer(&place, &subject, "{}");
        assert_eq!(output["seen"], 0);
        firsts.insert(output["first"].to_string());
    }
    assert_eq!(firsts.len(), 3, "random numbers are not part of what was made beforehand");
}

/// A script is evaluated when it is loaded, and its runs begin behind that: each as if it had just evaluated it.
#[test]
fn every_run_begins_behind_a_script_that_was_just_evaluated() {
    let place = Place::new();
    let text = "let runs = 0;\nconst made = [1, 2, 3].map(n => n * n);\nexport default () => ({ runs: ++runs, made });";
    let subject = place.script(text);
    for _ in 0..3 {
        assert_eq!(answer(&place, &subject, "{}"), serde_json::json!({ "runs": 1, "made": [1, 4, 9] }));
    }
    // One that depends on its run is parsed by each: that is most of what a small script costs.
    let each = place.script(&format!("Math.random();\n{text}"));
    let (beforehand, each) = (run(&place, &subject).fuel_used, run(&place, &each).fuel_used);
    assert!(beforehand * 2 < each, "{beforehand} of fuel, and {each} where every run evaluates the script");
}

/// The story: each script that was evaluated beforehand took two mebibytes for as long as it was loaded, however many there were.
#[test]
fn scripts_that_are_evaluated_beforehand_have_a_bound_together() {
    // Room for one of them: each takes about two mebibytes, so that four were now and then room for both.
    let place = Place::with_room_for_scripts(3 << 10);
    let text = "export default () => 1;";
    let first = place.script(text);
    let second = place.script(text);
    let fuel = |subject: &Subject| {
        assert_eq!(answer(&place, subject, "{}"), 1);
        run(&place, subject).fuel_used
    };
    let (beforehand, each) = (fuel(&first), fuel(&second));
    assert!(beforehand * 2 < each, "{beforehand} of fuel, and {each} of the one without room");
    drop((first, second));
    assert!(fuel(&place.script(text)) * 2 < each, "the room is free when the script is gone");
}

/// Evaluated beforehand, it would have had the same chance, the same time and the same line for all runs, or none.
#[test]
fn what_a_script_takes_from_its_run_while_it_is_evaluated_is_that_runs_own() {
    let place = Place::new();
    let chance = place.script("const first = Math.random();\nexport default () => first;");
    assert_ne!(answer(&place, &chance, "{}"), answer(&place, &chance, "{}"));

    let time = place.script("const at = Date.now();\nexport default () => at;");
    let loaded = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let at = answer(&place, &time, "{}").as_f64().unwrap();
    assert!(at >= loaded as f64, "{at} is before {loaded}");

    let line = place.script("console.log('a line');\nexport default () => 1;");
    for _ in 0..2 {
        assert_eq!(run(&place, &line).log.shown(), "a line\n");
    }
}

/// As in every other language: the manifest's `reuse` says that runs may find what others left.
#[test]
fn a_kept_instance_keeps_its_script() {
    let place = Place::new();
    let reuse = "\n[instance]\nreuse = { max_runs = 9 }\n";
    for (first, text) in [
        ("evaluated when it was loaded", "let runs = 0;\nexport default () => ++runs;"),
        ("evaluated by the first run", "let runs = 0;\nMath.random();\nexport default () => ++runs;"),
    ] {
        let subject = place.script_with(text, reuse);
        let seen: Vec<_> = (0..3).map(|_| answer(&place, &subject, "{}")).collect();
        assert_eq!(seen, [1, 2, 3], "{first}");
    }
}

/// Args are read by a reader of our own, which must read them as the language does.
#[test]
fn args_are_read_as_the_language_reads_them() {
    let place = Place::new();
    let subject = place.script(
        "export default ({ text, value }) => {\n  const own = JSON.parse(text);\n  \
         return [JSON.stringify(value), Object.is(value, own), Object.keys(value ?? {}).join()];\n};",
    );
    for (text, written, is_same, keys) in [
        ("-0", "0", true, ""),
        ("9007199254740993", "9007199254740992", true, ""),
        ("18446744073709551616", "18446744073709552000", true, ""),
        ("2.2250738585072011e-308", "2.225073858507201e-308", true, ""),
        ("0.1e-6", "1e-7", true, ""),
        ("4294967295", "4294967295", true, ""),
        ("null", "null", true, ""),
        (r#"{"b":1,"a":2,"b":3,"1":true}"#, r#"{"1":true,"b":3,"a":2}"#, false, "1,b,a"),
        (r#"{"__proto__":{"x":1}}"#, r#"{"__proto__":{"x":1}}"#, false, "__proto__"),
        (r#"[[],{},"\u00e4\ud83e\udd80"]"#, r#"[[],{},"ä🦀"]"#, false, "0,1,2"),
    ] {
        let args = serde_json::json!({ "text": text }).to_string();
        let args = format!("{},\"value\":{text}}}", args.strip_suffix('}').unwrap());
        assert_eq!(answer(&place, &subject, &args), serde_json::json!([written, is_same, keys]), "{text}");
    }
    let error = run_with(&place, &subject, "{").outcome.error().unwrap_or_default();
    assert!(error.contains("args are not JSON"), "{error}");
}

/// Images are compiled in the runner's own process, as there is nothing in them to compile.
#[test]
fn an_image_with_code_in_it_is_refused() {
    let image = wat::parse_str(r#"(module (memory (export "memory") 1) (func))"#).unwrap();
    let section = [&[5], b"image".as_slice(), &image].concat();
    let mut component = wat::parse_str("(component)").unwrap();
    component.extend([0, u8::try_from(section.len()).expect("it is short")]);
    component.extend(section);
    let host = Host::new(&HostSettings::default()).expect("wasmtime runs here");
    let refused = host.compile("image", &component, Manifest::default()).expect_err("it has code").to_string();
    assert!(refused.contains("has more in it than a memory"), "{refused}");
}
