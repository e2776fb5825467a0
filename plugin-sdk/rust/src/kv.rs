//! Small durable values of this plugin within its tenant: keys up to 256 bytes, values up to 64 KiB. Reads see what is committed
//! plus this run's own writes; writes are staged; of two concurrent runs the later commit wins. Needs `[allow] kv = true`.

//!
//! ```
//! use runner_plugin::{Context, Failure, kv};
//!
//! fn count(_args: (), cx: &Context) -> Result<u32, Failure> {
//!     let seen = kv::get_json(cx, "seen")?.unwrap_or(0) + 1;
//!     kv::set_json(cx, "seen", &seen)?;
//!     Ok(seen)
//! }
//!
//! # use runner_plugin::test;
//! let cx = test::job("visits.count").kv("seen", b"41").context();
//! assert_eq!(test::run(count, b"null", &cx), Ok(b"42".to_vec()));
//! assert_eq!(cx.recorded().kv["seen"], b"42");
//! ```

use crate::{CallError, Context};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The value, or `None`.
///
/// # Errors
/// `denied`, `invalid` (an empty key), `limit` (one of more than 256 bytes).
pub fn get(cx: &Context, key: &str) -> Result<Option<Vec<u8>>, CallError> {
    cx.host.kv_get(key)
}

/// Sets a value; staged.
///
/// # Errors
/// As [`get`]; `limit` also for the value, or for all that the run stages.
pub fn set(cx: &Context, key: &str, value: &[u8]) -> Result<(), CallError> {
    cx.host.kv_set(key, value)
}

/// The value, read as JSON, or `None`.
///
/// # Errors
/// As [`get`]; `invalid` if it is no JSON of this shape.
pub fn get_json<T: DeserializeOwned>(cx: &Context, key: &str) -> Result<Option<T>, CallError> {
    let read = |value: Vec<u8>| {
        serde_json::from_slice(&value)
            .map_err(|error| CallError::new("invalid", format_args!("the value of {key} does not fit: {error}")))
    };
    get(cx, key)?.map(read).transpose()
}

/// Sets a value as JSON; staged.
///
/// # Errors
/// As [`set`]; `invalid` if it cannot be written as JSON.
pub fn set_json<T: Serialize + ?Sized>(cx: &Context, key: &str, value: &T) -> Result<(), CallError> {
    let json = serde_json::to_vec(value).map_err(|error| {
        CallError::new("invalid", format_args!("the value of {key} cannot be written as JSON: {error}"))
    })?;
    set(cx, key, &json)
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
