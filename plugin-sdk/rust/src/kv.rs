//! Small durable values of this plugin within its tenant: keys up to 256 bytes, values up to 64 KiB. Reads see what is committed
//! plus this run's own writes; writes are staged; of two concurrent runs the later commit wins. Needs `[allow] kv = true`.

use crate::{CallError, Context};

/// The value, or `None`.
///
/// # Errors
/// `denied`, `invalid` (the key).
pub fn get(cx: &Context, key: &str) -> Result<Option<Vec<u8>>, CallError> {
    cx.host.kv_get(key)
}

/// Sets a value; staged.
///
/// # Errors
/// `denied`, `invalid` (the key), `limit` (the value, or all that the run stages).
pub fn set(cx: &Context, key: &str, value: &[u8]) -> Result<(), CallError> {
    cx.host.kv_set(key, value)
}

/// Removes a value, if there is one; staged.
///
/// # Errors
/// As [`get`].
pub fn remove(cx: &Context, key: &str) -> Result<(), CallError> {
    cx.host.kv_remove(key)
}

/// Sets (`None`: removes) a value if it then still is the expected one (`None`: absent). That is checked when the run is
/// recorded; if another run was first, this one is retried, uncounted.
///
/// # Errors
/// As [`set`].
pub fn compare_and_set(
    cx: &Context,
    key: &str,
    expected: Option<&[u8]>,
    value: Option<&[u8]>,
) -> Result<(), CallError> {
    cx.host.kv_compare_and_set(key, expected, value)
}

/// Keys that begin with `prefix`, ascending, after `after`, at most `limit` and at most 1,000.
///
/// # Errors
/// As [`get`].
pub fn keys(cx: &Context, prefix: &str, after: Option<&str>, limit: u32) -> Result<Vec<String>, CallError> {
    cx.host.kv_keys(prefix, after, limit)
}
