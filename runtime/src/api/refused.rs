//! How often this process said no, by code: of all listeners and whatever stands before the routes, so it belongs to the
//! process and not to one API.
//!
//! Codes are literals of this program, so there are few; what a caller sends is never among them.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Codes that are told apart: three times as many as there are.
const CODES_MAX: usize = 200;

static REFUSED: Mutex<BTreeMap<(u16, String), u64>> = Mutex::new(BTreeMap::new());

/// One more answer with this status and code.
pub(super) fn count(status: u16, code: &str) {
    let mut refused = REFUSED.lock().unwrap_or_else(PoisonError::into_inner);
    let many = refused.len() >= CODES_MAX;
    match refused.get_mut(&(status, code.to_owned())) {
        Some(answers) => *answers += 1,
        None if many => {}
        None => _ = refused.insert((status, code.to_owned()), 1),
    }
}

/// All of them.
pub(super) fn now() -> BTreeMap<(u16, String), u64> {
    REFUSED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}
