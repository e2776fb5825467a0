//! `blobs`: linked, and denied: this version grants no containers.

use super::contract::runner::plugin::blobs::Host;
use super::{CallError, Job, not_granted};

fn denied(container: &str) -> CallError {
    let shown = container.escape_debug();
    not_granted(&format!("the container `{shown}`"), &format!("[allow.blobs] {shown} = \"read\""))
}

fn no_writer() -> CallError {
    super::call_error("not_found", "there is no such writer in this run".to_owned())
}

impl Host for Job {
    fn size(&mut self, container: String, _name: String) -> Result<Option<u32>, CallError> {
        Err(denied(&container))
    }

    fn read(&mut self, container: String, _name: String, _offset: u32, _len: u32) -> Result<Vec<u8>, CallError> {
        Err(denied(&container))
    }

    fn begin(&mut self, container: String, _name: String) -> Result<u32, CallError> {
        Err(denied(&container))
    }

    fn write_part(&mut self, _writer: u32, _data: Vec<u8>) -> Result<(), CallError> {
        Err(no_writer())
    }

    fn finish(&mut self, _writer: u32) -> Result<(), CallError> {
        Err(no_writer())
    }

    fn remove(&mut self, container: String, _name: String) -> Result<(), CallError> {
        Err(denied(&container))
    }

    fn names(
        &mut self,
        container: String,
        _prefix: String,
        _after: Option<String>,
        _limit: u32,
    ) -> Result<Vec<String>, CallError> {
        Err(denied(&container))
    }
}
