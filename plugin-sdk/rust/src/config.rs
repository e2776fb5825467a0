//! Settings and secrets that the operator gave to this tenant and the manifest asks for, by `[allow] config` and `secrets`.
//!
//! ```
//! use runner_plugin::{Context, Failure, config};
//!
//! fn size(_args: (), cx: &Context) -> Result<u32, Failure> {
//!     Ok(config::parse(cx, "SIZE")?.unwrap_or(256))
//! }
//!
//! # use runner_plugin::test;
//! let cx = test::job("image.size").config("SIZE", "512").context();
//! assert_eq!(test::run(size, b"null", &cx), Ok(b"512".to_vec()));
//! ```

use crate::{CallError, Context};
use std::fmt::Display;
use std::str::FromStr;

/// A setting; `None` if the operator set none.
///
/// # Errors
/// `denied` unless the manifest's `[allow] config` names it.
pub fn get(cx: &Context, name: &str) -> Result<Option<String>, CallError> {
    cx.host.config_get(name)
}

/// A setting that is a number, say; `None` if the operator set none.
///
/// # Errors
/// As [`get`]; `invalid` if it does not parse.
pub fn parse<T: FromStr<Err: Display>>(cx: &Context, name: &str) -> Result<Option<T>, CallError> {
    let read = |value: String| {
        value.parse().map_err(|error| {
            CallError::new("invalid", format_args!("the setting {name}, {value:?}, is wrong: {error}"))
        })
    };
    get(cx, name)?.map(read).transpose()
}

/// A secret.
///
/// # Errors
/// `denied` unless the manifest's `[allow] secrets` names it, `not_found` if the operator set none.
pub fn secret(cx: &Context, name: &str) -> Result<String, CallError> {
    cx.host.config_secret(name)
}
