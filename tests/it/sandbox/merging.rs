//! Merges of args by a plugin's own export, without a store.

use std::sync::Arc;

use runner_runtime::wasm::{Host, HostSettings, Manifest, MergeError};

use super::block_on;
use super::exports::nothing;
use super::guests::{component_of, export, module};

/// Adds two numbers of one digit; refuses with the incoming args where the waiting ones begin with `x`.
pub(crate) const ADD: &str = r#"(if (i32.eq (i32.load8_u (local.get $waiting)) (i32.const 120))
    (then (i32.store8 (i32.const 64) (i32.const 1)) (i32.store (i32.const 68) (local.get $incoming))
          (i32.store (i32.const 72) (local.get $incoming-len)))
    (else (i32.store8 (i32.const 80) (i32.sub
            (i32.add (i32.load8_u (local.get $waiting)) (i32.load8_u (local.get $incoming))) (i32.const 48)))
          (i32.store (i32.const 68) (i32.const 80)) (i32.store (i32.const 72) (i32.const 1))))
  (i32.const 64)"#;

/// A plugin whose handler does nothing and whose merge is this.
pub(crate) fn merging(body: &str) -> Vec<u8> {
    let ty = "(param $kind i32) (param i32) (param $waiting i32) (param i32) (param $incoming i32)
      (param $incoming-len i32) (result i32)";
    component_of(&["handler", "merge"], &module(&[nothing("handler"), export("merge", "merge", ty, body)].concat()))
}

fn merge(body: &str, waiting: &str, incoming: &str) -> Result<Vec<u8>, MergeError> {
    let host = Host::new(&HostSettings::default()).expect("wasmtime runs here");
    let plugin = Arc::new(host.compile("guest", &merging(body), Manifest::default()).expect("is a plugin"));
    assert!(plugin.merges());
    block_on(host.merge(plugin, "guest".to_owned(), waiting.into(), incoming.into()))
}

#[test]
fn the_waiting_job_gets_what_the_plugin_makes_of_both() {
    assert_eq!(merge(ADD, "4", "3"), Ok(b"7".to_vec()));
}

#[test]
fn the_plugins_no_is_told_in_its_words() {
    assert_eq!(merge(ADD, "x", "not now"), Err(MergeError::Refused("not now".to_owned())));
}

#[test]
fn a_merge_that_breaks_or_answers_too_much_is_none() {
    for (body, words) in [("unreachable", "gave up"), ("(loop $again (br $again)) unreachable", "")] {
        let error = merge(body, "1", "1").expect_err("it breaks");
        assert!(matches!(error, MergeError::Broken { .. }) && error.to_string().contains(words), "{error}");
    }
    let large = "(drop (memory.grow (i32.const 32))) (i32.store (i32.const 68) (i32.const 4096))
      (i32.store (i32.const 72) (i32.const 1048577)) (i32.const 64)";
    assert!(matches!(merge(large, "1", "1"), Err(MergeError::TooLarge { bytes: 1_048_577, .. })));
}
