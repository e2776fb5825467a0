//! What the command line makes of itself: completions, manual pages, the API's document; and that each verb has an example.

use super::Place;
use runner_runtime::api::openapi;
use runner_runtime::cli::settings;

/// Every verb that a user sees, as one types it.
pub(super) fn verbs() -> Vec<(String, clap::Command)> {
    let mut open = vec![(String::new(), settings::command())];
    let mut verbs = Vec::new();
    while let Some((name, command)) = open.pop() {
        let below: Vec<_> = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect();
        if below.is_empty() {
            verbs.push((name, command));
            continue;
        }
        open.extend(below.into_iter().map(|verb| (format!("{name} {}", verb.get_name()).trim().to_owned(), verb)));
    }
    verbs
}

#[test]
fn every_verb_that_there_is_has_an_example() {
    let verbs = verbs();
    assert!(verbs.len() > 60, "{}", verbs.len());
    for (name, command) in verbs {
        let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let example = help.split("Example").nth(1).unwrap_or_else(|| panic!("`runner {name}` has no example"));
        assert!(
            example.contains(&format!("runner {name}")),
            "the example of `runner {name}` is of another verb: {help}"
        );
        assert!(command.get_about().is_some(), "`runner {name}` does not say what it does");
    }
}

#[test]
fn completions_and_manual_pages_know_every_verb() {
    let place = Place::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = place.check(&["completions", shell], 0, &["reschedule", "metrics-listen"]);
        assert!(!said.out.contains("compile-plugin"), "{shell} completes what is nobody's to call");
    }
    place.check(&["completions", "csh"], 2, &["possible values"]);
    place.check(&["man", "man1"], 0, &["pages are in man1"]);
    let page = |name: &str| std::fs::read_to_string(place.path(&format!("man1/{name}.1"))).unwrap();
    assert!(page("runner").contains("Exit codes"));
    for (name, _) in verbs() {
        let page = page(&format!("runner-{}", name.replace(' ', "-")));
        assert!(page.contains(".TH") && page.contains("Example"), "{name}: {page}");
    }
    place.write("file", b"");
    place.check(&["man", "file"], 2, &["`file`"]);
    assert_eq!(place.check(&["openapi"], 0, &[]).out, openapi::text());
}
