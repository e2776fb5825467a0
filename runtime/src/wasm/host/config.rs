//! `config`: settings and secrets that the operator gives to the tenant and the manifest asks for.

use super::contract::runner::plugin::config::Host;
use super::{CallError, Job};

impl Host for Job {
    fn get(&mut self, name: String) -> Result<Option<String>, CallError> {
        let found = self.staged.grants.config(&name).map(|value| value.map(str::to_owned));
        found.map_err(|denied| self.denied(&denied))
    }

    fn secret(&mut self, name: String) -> Result<String, CallError> {
        let found = self.staged.grants.secret(&name).map(|secret| secret.reveal().to_owned());
        found.map_err(|denied| self.denied(&denied))
    }
}
