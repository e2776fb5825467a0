//! What a component exports decides what it is good for; any sensible set of interfaces is a plugin.

use runner_runtime::wasm::{Manifest, PluginError};

use super::guests::{CONTRACT, component_from, component_of, export, module};
use super::{compile, host};

/// Every interface of the contract, doing nothing; zeroes at 64 are `ok` or none, whatever is answered.
pub(crate) fn nothing(interface: &str) -> String {
    let zero = "(i32.const 64)";
    let job = "(param $job i32) (result i32)";
    match interface {
        "handler" => export("handler", "handle", job, zero),
        "batch" => export("batch", "handle-batch", "(param i32 i32) (result i32)", zero),
        "policy" => {
            export("policy", "describe", "(result i32)", zero)
                + &export("policy", "timeout-ms", job, zero)
                + &export("policy", "next-retry-ms", "(param i32) (result i32)", zero)
        }
        "merge" => export("merge", "merge", "(param i32 i32 i32 i32 i32 i32) (result i32)", zero),
        "middleware" => {
            export("middleware", "before", job, zero) + &export("middleware", "after", "(param i32) (result i32)", zero)
        }
        other => panic!("the contract has no interface {other}"),
    }
}

fn with(interfaces: &[&str]) -> Vec<u8> {
    let functions: String = interfaces.iter().map(|interface| nothing(interface)).collect();
    component_of(interfaces, &module(&functions))
}

#[track_caller]
fn check(interfaces: &[&str], kinds: &[&str]) {
    let plugin = compile(&with(interfaces));
    assert_eq!(plugin.describe().offers, interfaces);
    assert_eq!(plugin.kinds(), kinds);
}

#[test]
fn any_sensible_set_of_interfaces_is_a_plugin() {
    check(&["handler"], &["guest"]);
    check(&["batch"], &["guest"]);
    check(&["handler", "batch", "policy", "merge"], &["guest"]);
    check(&["batch", "merge"], &["guest"]);
    check(&["handler", "batch", "policy", "merge", "middleware"], &["guest"]);
    // Middleware has no jobs of its own, so it serves no kind.
    check(&["middleware"], &[]);
    check(&["policy", "middleware"], &[]);
}

#[track_caller]
fn refused(bytes: &[u8], manifest: &str, words: &str) {
    let error = host().compile("guest", bytes, Manifest::parse(manifest).expect("is right")).expect_err("is refused");
    assert!(error.to_string().contains(words), "{error}");
}

#[test]
fn advice_without_anything_to_be_run_is_no_plugin() {
    for interfaces in [&["policy"][..], &["merge"], &["policy", "merge"]] {
        let error = host().compile("guest", &with(interfaces), Manifest::default()).expect_err("is refused");
        let PluginError::MissingExports { names, .. } = &error else { panic!("{error}") };
        assert!(names[0].contains("runner:plugin/handler@0.1.0 or runner:plugin/batch@0.1.0"), "{names:?}");
    }
}

#[test]
fn a_manifest_cannot_ask_for_what_the_file_does_not_export() {
    let batch = "[[kind]]\nname = \"guest\"\nbatch = { max = 5 }";
    refused(&with(&["handler"]), batch, "the batches of kind `guest` need the export batch");
    refused(&with(&["middleware"]), "kinds = [\"a\"]", "`kinds` needs the export handler or batch");
}

/// The contract as a later patch release has it, with one more function that plugins may import.
fn later() -> String {
    CONTRACT.replace("@0.1.0", "@0.1.9").replace(
        "  pause-schedule: func()",
        "  added-later: func() -> u32;\n  /// As before.\n  pause-schedule: func()",
    )
}

#[test]
fn a_plugin_built_for_a_later_patch_loads_if_all_that_it_imports_is_offered() {
    let handler = nothing("handler").replace("@0.1.0", "@0.1.9");
    let log = r#"(import "runner:plugin/host@0.1.9" "log" (func $log (param i32 i32 i32)))"#;
    let bytes = component_from(&later(), "0.1.9", &["handler"], &module(&format!("{log} {handler}")));
    let plugin = compile(&bytes);
    assert_eq!(plugin.describe().offers, ["handler"]);
    let report = super::run(&plugin, super::request(&plugin));
    assert_eq!(report.outcome.error(), None);
}

#[test]
fn a_function_that_is_not_offered_is_refused_by_name() {
    let handler = nothing("handler").replace("@0.1.0", "@0.1.9");
    let import = r#"(import "runner:plugin/host@0.1.9" "added-later" (func (result i32)))"#;
    let bytes = component_from(&later(), "0.1.9", &["handler"], &module(&format!("{import} {handler}")));
    let error = host().compile("guest", &bytes, Manifest::default()).expect_err("is refused");
    let PluginError::UnknownImports { names } = &error else { panic!("{error}") };
    assert_eq!(names, &["runner:plugin/host@0.1.9#added-later"]);
}
