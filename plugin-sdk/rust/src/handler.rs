//! From a job's bytes to a function over serde types and back: the part that the macros call, on both sides of the sandbox.

use crate::{Context, Failure, FromArgs, Raw};
use serde::Serialize;

/// What a run answers: the output's bytes (none: no output), or how it failed.
pub type Outcome = Result<Vec<u8>, Failure>;

/// A function that can be a handler: `fn(Args) -> Result<Output, E>` or `fn(Args, &Context) -> Result<Output, E>`, where
/// `Args` is [`FromArgs`], `Output` is [`IntoOutput`] and `E` is [`Failure`] or any error. `Shape` tells the two apart.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a handler",
    note = "a handler is `fn(Args) -> Result<Output, Failure>` or `fn(Args, &Context) -> Result<Output, Failure>`",
    note = "`Args` must implement serde's `Deserialize` (owned) or be `Raw` or `WithFile<_>`, `Output` serde's `Serialize` or be `Raw`"
)]
pub trait Handler<Shape> {
    /// Parses the args, runs the function, serializes its output.
    ///
    /// # Errors
    /// The function's own failure, or a discard if the args do not parse or the output cannot be written as JSON.
    fn call(&self, args: Vec<u8>, cx: &Context) -> Outcome;
}

impl<F, A, O, E> Handler<(A,)> for F
where
    F: Fn(A) -> Result<O, E>,
    A: FromArgs,
    O: IntoOutput,
    E: Into<Failure>,
{
    fn call(&self, args: Vec<u8>, _cx: &Context) -> Outcome {
        self(A::from_args(args)?).map_err(Into::into)?.into_output()
    }
}

impl<F, A, O, E> Handler<(A, Context)> for F
where
    F: Fn(A, &Context) -> Result<O, E>,
    A: FromArgs,
    O: IntoOutput,
    E: Into<Failure>,
{
    fn call(&self, args: Vec<u8>, cx: &Context) -> Outcome {
        self(A::from_args(args)?, cx).map_err(Into::into)?.into_output()
    }
}

/// What a handler may answer with: any `Serialize` type as JSON, or [`Raw`] bytes. `()` and `None` are no output.
pub trait IntoOutput {
    /// The output's bytes; none: no output.
    ///
    /// # Errors
    /// A discard if the value cannot be written as JSON (a map whose keys are no strings, say).
    fn into_output(self) -> Outcome;
}

impl<T: Serialize> IntoOutput for T {
    fn into_output(self) -> Outcome {
        let json = serde_json::to_vec(&self)
            .map_err(|error| Failure::discard(format_args!("the output cannot be written as JSON: {error}")))?;
        Ok(if json == b"null" { Vec::new() } else { json })
    }
}

impl IntoOutput for Raw {
    fn into_output(self) -> Outcome {
        Ok(self.0)
    }
}

#[doc(hidden)]
pub fn call<Shape>(handler: &impl Handler<Shape>, args: Vec<u8>, cx: &Context) -> Outcome {
    handler.call(args, cx)
}

/// The manifest names a kind that the plugin does not know: no retry will change that.
#[doc(hidden)]
pub fn unknown_kind(cx: &Context, known: &[&str]) -> Outcome {
    let known = known.join(", ");
    Err(Failure::discard(format_args!("this plugin has no handler for the kind {:?}, only for: {known}", cx.kind)))
}
