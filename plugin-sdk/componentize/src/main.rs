//! `componentize MODULE.wasm COMPONENT.wasm [WORLD]`: for `plugins/build`; `runner plugin build` has the same within.

use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (from, to, world) = match args.as_slice() {
        [from, to] => (from, to, "plugin"),
        [from, to, world] => (from, to, world.as_str()),
        _ => {
            eprintln!("usage: componentize MODULE.wasm COMPONENT.wasm [WORLD]");
            return ExitCode::from(2);
        }
    };
    let made = std::fs::read(from)
        .map_err(|error| format!("{from}: {error}"))
        .and_then(|module| runner_componentize::component(&module, world).map_err(|error| format!("{from}: {error}")))
        .and_then(|component| std::fs::write(to, component).map_err(|error| format!("{to}: {error}")));
    match made {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("componentize: {why}");
            ExitCode::FAILURE
        }
    }
}
