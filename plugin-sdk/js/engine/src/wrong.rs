//! What is wrong with a script, with a place in it and in words for its author, where the engine's own say neither.
//!
//! The engine knows the place of most errors. Of text that never ends it does not, nor of imports and exports; those places are
//! looked for in the script's text here, which a comment may deceive about the line, and never about what is wrong.

use boa_engine::error::{EngineError, RuntimeLimitError};
use boa_engine::object::JsObject;
use boa_engine::property::PropertyKey;
use boa_engine::{Context, JsError, JsNativeError, Module, Source, js_string};

use super::script::{RECURSION_MAX, Script};

const FUNCTION: &str = "write `export default (args, cx) => { … }`";

/// A syntax error, with its place and with what helps.
pub(crate) fn misparsed(error: JsError, script: Script<'_>, context: &mut Context) -> JsError {
    let Some(message) = error.as_native().map(|error| error.message().to_owned()) else { return error };
    if message.contains("in async function declaration") {
        // It reads `export default async` as the begin of a declaration, whatever follows.
        let help = "the engine takes no async arrow there, write `export default async function (args, cx) { … }`";
        return syntax(format!("{message}: {help}"));
    }
    let (what, line) = match message.as_str() {
        "unterminated template literal" => (message.as_str(), last_backtick(script.source)),
        "unterminated string literal" => (message.as_str(), first_line_with(&message, script, context)),
        "abrupt end" => ("the script ends before something that it opens is closed", script.source.lines().count()),
        _ => return error,
    };
    syntax(format!("{what} ({}:{line})", script.name))
}

fn syntax(message: String) -> JsError {
    JsNativeError::syntax().with_message(message).into()
}

/// The line of the last backtick that is not escaped: what follows a template that never ends has none.
fn last_backtick(source: &str) -> usize {
    let is_escaped = |at: usize| source[..at].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
    let last = source.rmatch_indices('`').map(|(at, _)| at).find(|at| !is_escaped(*at));
    source[..last.unwrap_or(0)].matches('\n').count() + 1
}

/// The first line with which a script is wrong in this way: what comes before it is not, however it ends, and more lines change
/// nothing.
fn first_line_with(message: &str, script: Script<'_>, context: &mut Context) -> usize {
    let lines: Vec<&str> = script.source.split_inclusive('\n').collect();
    let mut is_wrong = |lines: &[&str]| {
        let text = lines.concat();
        let parsed = Module::parse(Source::from_bytes(text.as_bytes()), None, context);
        parsed.is_err_and(|error| error.as_native().is_some_and(|error| error.message() == message))
    };
    let (mut right, mut wrong) = (0, lines.len());
    while right + 1 < wrong {
        let middle = right.midpoint(wrong);
        if is_wrong(&lines[..middle]) { wrong = middle } else { right = middle }
    }
    wrong
}

/// There is nothing to import.
pub(crate) fn no_import(name: &str, (script, source): (&str, &str)) -> JsError {
    let quoted = ['"', '\'', '`'].map(|quote| format!("{quote}{name}{quote}"));
    let place = place(source, script, |line| {
        let at = quoted.iter().find_map(|quoted| line.find(quoted))?;
        ["import", "from"].iter().any(|word| line[..at].contains(word)).then_some(at)
    });
    let why = format!("there is no {name:?} to import: a script is one file, and its world is in `runner.d.ts`{place}");
    JsNativeError::typ().with_message(why).into()
}

/// What a script's default export is, if it is no handler.
pub(crate) fn no_handler(handler: Option<&JsObject>, script: Script<'_>) -> Option<JsError> {
    let what = match handler {
        Some(handler) if is_class(handler) => "is a class, and must be a function",
        Some(_) => return None,
        None => "is no function",
    };
    let place =
        place(script.source, script.name, |line| line.find("export default").or_else(|| line.find("as default")));
    let why = format!("the script's default export {what}: {FUNCTION}{place}");
    Some(JsNativeError::typ().with_message(why).into())
}

/// Unlike that of any other function, the prototype of a class stays as it is.
fn is_class(function: &JsObject) -> bool {
    let prototype = function.borrow().properties().get(&PropertyKey::from(js_string!("prototype")));
    prototype.is_some_and(|prototype| prototype.writable() == Some(false))
}

/// ` (NAME:LINE:COLUMN)` of the first line of code in which something is found, or nothing.
fn place(source: &str, name: &str, find: impl Fn(&str) -> Option<usize>) -> String {
    let is_code = |line: &str| !["//", "/*", "*"].iter().any(|begin| line.trim_start().starts_with(begin));
    let mut lines = source.lines().enumerate().filter(|(_, line)| is_code(line));
    let found = lines.find_map(|(n, line)| find(line).map(|at| (n + 1, line[..at].chars().count() + 1)));
    found.map_or_else(String::new, |(line, column)| format!(" ({name}:{line}:{column})"))
}

/// The engine's own end of a script: one of its limits, in our words.
pub(crate) fn ended(error: &EngineError) -> String {
    match error {
        EngineError::RuntimeLimit(RuntimeLimitError::Recursion) => {
            format!(
                "more than {RECURSION_MAX} recursive calls within each other, the most of a script: endless recursion?"
            )
        }
        EngineError::RuntimeLimit(RuntimeLimitError::StackSize) => {
            "more values at once than the engine's stack holds: a long list spread into a call's arguments?".to_owned()
        }
        error => error.to_string(),
    }
}
