//! What is wrong with a script is said, with its line; and no run of a script sees what another one left.

use runner_runtime::wasm::{JobView, RunReport};

use super::run::{Place, Subject};

fn run(place: &Place, subject: &Subject) -> RunReport {
    let job = JobView { id: 7, kind: "conformance".to_owned(), args: b"{}".to_vec(), ..JobView::default() };
    place.run_job(subject, job, None)
}

/// It ends so, and its error says each of these words.
#[track_caller]
fn check(place: &Place, script: &str, outcome: &str, words: &[&str]) {
    let report = run(place, &place.script(script));
    let error = report.outcome.error().unwrap_or_default();
    assert_eq!(report.outcome.name().as_str(), outcome, "{script}: {error}");
    for word in words {
        assert!(error.contains(word), "{script}: {word:?} is not in {error:?}");
    }
}

#[test]
fn what_is_wrong_with_a_script_is_said_with_its_line() {
    let place = Place::new();
    check(
        &place,
        "export default () => {\n  nope();\n};",
        "failed",
        &["ReferenceError: nope is not defined", "(conformance.js:2:"],
    );
    check(
        &place,
        "const f = () => { throw new TypeError('odd'); };\nexport default () => f();",
        "failed",
        &["odd", "js:1:"],
    );
    check(&place, "\n\nlet x = ;", "failed", &["SyntaxError", "line 3"]);
    check(&place, "export const x = 1;", "failed", &["default export is no function: write `export default"]);
    check(&place, "import fs from 'fs';\nexport default () => fs;", "failed", &["import"]);
    check(&place, "export default () => new Promise(() => {});", "failed", &["waits for something that never comes"]);
    check(&place, "const f = () => f();\nexport default f;", "failed", &["recursion"]);
    check(&place, "export default () => { throw null; };", "failed", &["null"]);
    check(
        &place,
        "export default async function () { await null; throw new Discard('in the end'); }",
        "discarded",
        &[],
    );
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
        let report = run(&place, &subject);
        let runner_store::job::outcome::Outcome::Completed { output } = &report.outcome else {
            panic!("{:?}", report.outcome)
        };
        let output: serde_json::Value = serde_json::from_slice(output).unwrap();
        assert_eq!(output["seen"], 0);
        firsts.insert(output["first"].to_string());
    }
    assert_eq!(firsts.len(), 3, "random numbers are not part of what was made beforehand");
}
