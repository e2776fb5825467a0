//! `snapshot MODULE.wasm TO.wasm FUNCTION`: for `plugins/build`.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [from, to, function] = args.as_slice() else {
        eprintln!("usage: snapshot MODULE.wasm TO.wasm FUNCTION");
        return ExitCode::from(2);
    };
    let made = std::fs::read(from)
        .map_err(|error| format!("{from}: {error}"))
        .and_then(|module| runner_snapshot::snapshot(&module, function).map_err(|error| format!("{from}: {error}")))
        .and_then(|module| std::fs::write(to, module).map_err(|error| format!("{to}: {error}")));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("snapshot: {why}");
            ExitCode::FAILURE
        }
    }
}
