//! `snapshot MODULE.wasm TO.wasm FUNCTION` and `snapshot COMPONENT.wasm TO.wasm`, which takes the memory out: for `plugins/build`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (from, to, function) = match args.as_slice() {
        [from, to] => (from, to, None),
        [from, to, function] => (from, to, Some(function)),
        _ => {
            eprintln!("usage: snapshot MODULE.wasm TO.wasm FUNCTION | snapshot COMPONENT.wasm TO.wasm");
            return ExitCode::from(2);
        }
    };
    let made = |bytes: &[u8]| match function {
        Some(function) => runner_snapshot::snapshot(bytes, function),
        None => runner_snapshot::split(bytes),
    };
    let made = std::fs::read(from)
        .map_err(|error| format!("{from}: {error}"))
        .and_then(|bytes| made(&bytes).map_err(|error| format!("{from}: {error}")))
        .and_then(|made| std::fs::write(to, made).map_err(|error| format!("{to}: {error}")));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("snapshot: {why}");
            ExitCode::FAILURE
        }
    }
}
