//! `config`: linked, and denied: this version grants no settings and no secrets.

use super::contract::runner::plugin::config::Host;
use super::{CallError, Job, not_granted};

impl Host for Job {
    fn get(&mut self, name: String) -> Result<Option<String>, CallError> {
        let name = name.escape_debug();
        Err(not_granted(&format!("the setting `{name}`"), &format!("[allow] config = [\"{name}\"]")))
    }

    fn secret(&mut self, name: String) -> Result<String, CallError> {
        let name = name.escape_debug();
        Err(not_granted(&format!("the secret `{name}`"), &format!("[allow] secrets = [\"{name}\"]")))
    }
}
