//! Says which outcome an error of wasmtime's means: by its type and the run's flags; by its text only where wasmtime keeps the
//! type to itself ([`COPIES_EXHAUSTED`]). Pure.

use runner_store::job::outcome::Outcome;
use wasmtime::{PoolConcurrencyLimitError, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use super::answer::cut;
use super::engine::{WASM_STACK_BYTES, component_copied_bytes};
use super::guest::HostCallLimit;
use super::limits::Limits;
use super::log::{RunLog, escaped};
use super::plugin::chain;

/// How much of a guest's last words becomes the message of a trap.
const COMPLAINT_BYTES_MAX: usize = 4 << 10;
/// Where a backtrace is cut: what a run record keeps of a trace.
const BACKTRACE_BYTES_MAX: usize = 64 << 10;

/// What wasmtime says of more bytes than one call may bring: an error whose type nobody else can name.
const COPIES_EXHAUSTED: &str =
    "too much data is being copied between the host and the guest: fuel allocated for hostcalls has been exhausted";

/// Where a run was when it went wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the handler was entered: instantiation and start functions.
    Starting,
    /// In the handler.
    Running,
}

/// The exit code in an error, if a guest ended itself.
pub(super) fn exit_code(error: &wasmtime::Error) -> Option<i32> {
    error.downcast_ref::<I32Exit>().map(|exit| exit.0)
}

/// The outcome that an error means. Our own limits come first; then the limiter's flag, as what follows a
/// denied growth is its consequence.
pub(super) fn outcome(phase: Phase, error: &wasmtime::Error, denied: bool, limits: &Limits, log: &RunLog) -> Outcome {
    let trap = error.downcast_ref::<Trap>().copied();
    if trap == Some(Trap::OutOfFuel) {
        return Outcome::OutOfFuel { limit: limits.fuel() };
    }
    if let Some(limit) = error.downcast_ref::<HostCallLimit>() {
        return trapped("host_calls", format!("more than {} host calls", limit.limit), error);
    }
    if error.root_cause().to_string() == COPIES_EXHAUSTED {
        return too_much(error, limits);
    }
    if denied {
        return Outcome::OutOfMemory { limit_bytes: limits.memory_bytes };
    }
    let complaint = log.complaint(COMPLAINT_BYTES_MAX);
    if error.is::<PoolConcurrencyLimitError>() {
        // Each place has room for one run, so this is a bug of ours, and none of the guest's.
        tracing::error!(%error, "no room in the pool");
        return Outcome::Interrupted;
    }
    if phase == Phase::Starting {
        let why = trap.map_or_else(|| escaped(&chain(error)), |trap| trap.to_string());
        let message = complaint.map_or_else(|| why.clone(), |complaint| format!("{why}: {complaint}"));
        return Outcome::PluginBroken { message: cut(format!("the plugin's start failed: {message}")) };
    }
    if let Some(code) = exit_code(error) {
        let message = complaint.unwrap_or_else(|| format!("ended with exit code {code} instead of an answer"));
        return Outcome::Failed { message: cut(message), retry_after: None };
    }
    match trap {
        Some(trap) => trapped(code(trap), complaint.unwrap_or_else(|| sentence(trap)), error),
        None => trapped("bad_answer", root(error), error),
    }
}

/// More than the host copies at once: of an answer, which is read when the guest has returned and so has no frames, or of a call
/// that the guest makes.
fn too_much(error: &wasmtime::Error, limits: &Limits) -> Outcome {
    if !error.is::<WasmBacktrace>() {
        return Outcome::OutputTooLarge { limit_bytes: limits.output_bytes };
    }
    let message = format!(
        "a call brought more than {} bytes: a call takes 1 MiB, more is refused (`limit`), and so much more ends the run; \
         write what is large as a blob, in parts",
        component_copied_bytes(limits)
    );
    trapped("call_too_large", message, error)
}

/// What no guest may answer, where no error of wasmtime's says so.
pub(super) fn bad_answer(message: String) -> Outcome {
    Outcome::Trapped { code: "bad_answer".to_owned(), message: cut(message), backtrace: None }
}

fn trapped(code: &str, message: String, error: &wasmtime::Error) -> Outcome {
    let backtrace = error.downcast_ref::<WasmBacktrace>().and_then(frames);
    Outcome::Trapped { code: code.to_owned(), message: cut(message), backtrace }
}

/// Stable words; a trap that is added to wasmtime is `trap` until it has one.
fn code(trap: Trap) -> &'static str {
    match trap {
        Trap::StackOverflow => "stack_overflow",
        Trap::MemoryOutOfBounds => "memory_out_of_bounds",
        Trap::TableOutOfBounds => "table_out_of_bounds",
        Trap::IndirectCallToNull => "indirect_call_to_null",
        Trap::BadSignature => "bad_signature",
        Trap::IntegerOverflow => "integer_overflow",
        Trap::IntegerDivisionByZero => "division_by_zero",
        Trap::BadConversionToInteger => "bad_conversion",
        Trap::UnreachableCodeReached => "unreachable",
        Trap::CannotEnterComponent | Trap::CannotLeaveComponent => "reentrance",
        // What a component's own adapters find in an answer.
        Trap::InvalidChar
        | Trap::StringOutOfBounds
        | Trap::ListOutOfBounds
        | Trap::InvalidDiscriminant
        | Trap::UnalignedPointer => "bad_answer",
        _ => "trap",
    }
}

fn sentence(trap: Trap) -> String {
    match trap {
        Trap::UnreachableCodeReached => "the guest gave up (`unreachable`): a panic without a message?".to_owned(),
        Trap::StackOverflow => format!(
            "the guest's stack of {} KiB overflowed: endless recursion, or something nested too deep?",
            WASM_STACK_BYTES >> 10
        ),
        trap => trap.to_string(),
    }
}

/// The innermost cause: the guest's own frames stand in the contexts around it.
fn root(error: &wasmtime::Error) -> String {
    escaped(&error.root_cause().to_string())
}

/// Innermost first, one line each, functions by name; no paths of any machine.
fn frames(backtrace: &WasmBacktrace) -> Option<String> {
    let mut text = String::new();
    for (at, frame) in backtrace.frames().iter().enumerate() {
        let name = frame.func_name().map_or_else(|| format!("function {}", frame.func_index()), demangled);
        let offset = frame.func_offset().map_or_else(String::new, |offset| format!(" + {offset:#x}"));
        let module = frame.module().name().map_or_else(String::new, |module| format!("{} ! ", escaped(module)));
        let line = format!("{at}: {module}{}{offset}\n", escaped(&name));
        if text.len() + line.len() > BACKTRACE_BYTES_MAX {
            break;
        }
        text.push_str(&line);
    }
    (!text.is_empty()).then_some(text)
}

/// Rust's names without their hashes; others as they are.
fn demangled(name: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(name))
}
