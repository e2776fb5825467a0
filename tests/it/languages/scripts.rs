//! What is wrong with a script is said, with its line; and no run of a script sees what another one left.

use runner_runtime::wasm::{JobView, RunReport};

use super::run::{Place, Subject};

fn run(place: &Place, subject: &Subject) -> RunReport {
    let job = JobView { id: 7, kind: "conformance".to_owned(), args: b"{}".to_vec(), ..JobView::default() };
    place.run_job(subject, job, None)
}

/// A script, how it ends, and what its error says.
const WRONG: [(&str, &str, &[&str]); 10] = [
    ("export default () => {\n  null.x;\n};", "failed", &["TypeError", "(conformance.js:2:"]),
    // The engine notes no place of a name: it is the function's.
    ("\n\nexport default () => {\n  nope();\n};", "failed", &["nope is not defined", "(conformance.js:3:"]),
    ("const f = () => {\n throw new TypeError('odd');\n};\nexport default () => f();", "failed", &["odd", "js:2:"]),
    ("\n\nlet x = ;", "failed", &["SyntaxError", "line 3"]),
    ("export const x = 1;", "failed", &["default export is no function: write `export default"]),
    ("import fs from 'fs';\nexport default () => fs;", "failed", &["no \"fs\" to import"]),
    ("export default () => new Promise(() => {});", "failed", &["waits for something that never comes"]),
    ("const f = () => f();\nexport default f;", "failed", &["recursive calls", "(conformance.js:1:"]),
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
