//! Settings and secrets that the operator gave to this tenant and the manifest asks for.

use crate::{CallError, Context};

/// A setting; `None` if the operator set none.
///
/// # Errors
/// `denied` unless the manifest's `[allow] config` names it.
pub fn get(cx: &Context, name: &str) -> Result<Option<String>, CallError> {
    cx.host.config_get(name)
}

/// A secret.
///
/// # Errors
/// `denied` unless the manifest's `[allow] secrets` names it, `not_found` if the operator set none.
pub fn secret(cx: &Context, name: &str) -> Result<String, CallError> {
    cx.host.config_secret(name)
}
