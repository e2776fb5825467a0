//! `blobs`: named stores of large values.

use super::contract::runner::plugin::blobs::Host;
use super::{CallError, Job, call_error};

impl Host for Job {
    fn size(&mut self, container: String, _name: String) -> Result<Option<u32>, CallError> {
        Err(self.no_container(&container, false))
    }

    fn read(&mut self, container: String, _name: String, _offset: u32, _len: u32) -> Result<Vec<u8>, CallError> {
        Err(self.no_container(&container, false))
    }

    fn begin(&mut self, container: String, _name: String) -> Result<u32, CallError> {
        Err(self.no_container(&container, true))
    }

    fn write_part(&mut self, _writer: u32, _data: Vec<u8>) -> Result<(), CallError> {
        Err(call_error("not_found", "there is no such writer in this run".to_owned()))
    }

    fn finish(&mut self, _writer: u32) -> Result<(), CallError> {
        Err(call_error("not_found", "there is no such writer in this run".to_owned()))
    }

    fn remove(&mut self, container: String, _name: String) -> Result<(), CallError> {
        Err(self.no_container(&container, true))
    }

    fn names(
        &mut self,
        container: String,
        _prefix: String,
        _after: Option<String>,
        _limit: u32,
    ) -> Result<Vec<String>, CallError> {
        Err(self.no_container(&container, false))
    }
}

impl Job {
    fn no_container(&mut self, container: &str, write: bool) -> CallError {
        match self.staged.grants.blob(container, write).map(|_| ()) {
            Err(denied) => self.denied(&denied),
            Ok(()) => call_error("unavailable", "containers are not served yet".to_owned()),
        }
    }
}
