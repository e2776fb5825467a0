//! `kv`: linked, and denied: this version grants no durable values.

use super::contract::runner::plugin::kv::Host;
use super::{CallError, Job, not_granted};

fn denied() -> CallError {
    not_granted("kv", "[allow] kv = true")
}

impl Host for Job {
    fn get(&mut self, _key: String) -> Result<Option<Vec<u8>>, CallError> {
        Err(denied())
    }

    fn set(&mut self, _key: String, _value: Vec<u8>) -> Result<(), CallError> {
        Err(denied())
    }

    fn remove(&mut self, _key: String) -> Result<(), CallError> {
        Err(denied())
    }

    fn compare_and_set(
        &mut self,
        _key: String,
        _expected: Option<Vec<u8>>,
        _value: Option<Vec<u8>>,
    ) -> Result<(), CallError> {
        Err(denied())
    }

    fn keys(&mut self, _prefix: String, _after: Option<String>, _limit: u32) -> Result<Vec<String>, CallError> {
        Err(denied())
    }
}
