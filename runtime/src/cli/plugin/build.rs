//! `runner plugin build`: makes a plugin of a project, with the tools of its language.
//!
//! The language is told by the project's files (`find`). Everything is made in the project's folder `target`, and nothing is installed:
//! what is missing is named with the command that installs it. The SDK that a project in C, Go or Python needs is its own
//! folder `runner`, as `plugin new` makes it; the wrapper that makes a component of what C and Go make is within this program.

mod find;
mod rust;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use super::new::Lang;
use super::{CONTRACT, project};
use crate::cli::exit::{Code, Failure};
use crate::cli::output::{bytes, print};

/// The world of a handler.
const WORLD: &str = "plugin";
const INSTALL_RUST: &str =
    "curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs | sh -s -- -y --target wasm32-wasip2";
const CLANGS: [&str; 8] = ["clang-19", "clang-22", "clang-21", "clang-20", "clang-18", "clang-17", "clang-16", "clang"];
const LINKERS: [&str; 8] =
    ["wasm-ld-19", "wasm-ld-22", "wasm-ld-21", "wasm-ld-20", "wasm-ld-18", "wasm-ld-17", "wasm-ld-16", "wasm-ld"];

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The project's folder
    #[arg(default_value = ".")]
    project: PathBuf,
    /// Where the plugin and its manifest go; the project's target folder if absent
    #[arg(long, value_name = "DIR")]
    to: Option<PathBuf>,
}

/// A project that can be built.
struct Project {
    folder: PathBuf,
    lang: Lang,
    name: String,
}

pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let project = find::project(&args.project)?;
    let target = project.folder.join("target");
    make_folder(&target)?;
    let file = project::plugin_file(project.lang, &project.name);
    let made = target.join(&file);
    match project.lang {
        Lang::Rust => rust::build(&project, &made)?,
        Lang::C => c(&project, &made)?,
        Lang::Go => go(&project, &made)?,
        Lang::Js => copy(&project.folder.join(&file), &made)?,
        Lang::Ts => typescript(&project)?,
        Lang::Python => python(&project, &made)?,
    }
    let (to, manifest) = (args.to.as_deref().unwrap_or(&target), format!("{}.toml", project.name));
    make_folder(to)?;
    // The manifest before what it is for, and each as a whole: somebody may watch the folder.
    if project.folder.join(&manifest).is_file() {
        copy(&project.folder.join(&manifest), &to.join(&manifest))?;
    }
    if to != target {
        copy(&made, &to.join(&file))?;
    }
    let size = fs::metadata(&made).map_or(0, |found| found.len());
    print(&format!("made {} ({})\n", to.join(&file).display(), bytes(size)));
    Ok(ExitCode::SUCCESS)
}

fn c(project: &Project, made: &Path) -> Result<(), Failure> {
    const INSTALL: &str = "apt-get install -y clang-19 libclang-rt-19-dev-wasm32 lld-19 wasi-libc";
    let clang = tool(&CLANGS, "clang", INSTALL)?;
    let linker = tool(&LINKERS, "clang's linker for WebAssembly", INSTALL)?;
    let core = made.with_extension("core");
    let mut linked_with = OsString::from("-fuse-ld=");
    linked_with.push(linker);
    let mut command = Command::new(clang);
    command.args(["--target=wasm32-wasi", "-mexec-model=reactor", "-O2", "-std=c11", "-Wall", "-Wextra"]);
    command.arg(linked_with).args(["-Wl,--strip-debug", "-Irunner"]);
    command.arg(format!("{}.c", project.name)).args(["runner/runner.c", "runner/runner_wasm.c", "-o"]).arg(&core);
    run(project, command, &format!("if <stdlib.h> or a library is missing, this installs them: {INSTALL}"))?;
    wrap(&core, made)
}

fn go(project: &Project, made: &Path) -> Result<(), Failure> {
    let go = tool(&["go"], "Go 1.24 or newer", "https://go.dev/dl has it; unpack it and put its bin into PATH")?;
    let core = made.with_extension("core");
    let mut command = Command::new(go);
    command.env("GOOS", "wasip1").env("GOARCH", "wasm");
    command.args(["build", "-tags", "component", "-buildmode=c-shared", "-trimpath", "-ldflags=-s -w", "-o"]);
    command.arg(&core).arg(".");
    run(project, command, "exported functions need Go 1.24 or newer")?;
    wrap(&core, made)
}

fn typescript(project: &Project) -> Result<(), Failure> {
    let local = project.folder.join("node_modules/.bin/tsc");
    let tsc = if local.is_file() { local } else { tool(&["tsc"], "the TypeScript compiler", "npm install")? };
    run(project, Command::new(tsc), "what tsc says is about the files of this project")
}

fn python(project: &Project, made: &Path) -> Result<(), Failure> {
    let local = project.folder.join("target/venv/bin/componentize-py");
    let install = "python3 -m venv --clear target/venv && target/venv/bin/pip install componentize-py==0.25.1";
    // It names its own path: in a folder that was moved it is there and does not start.
    let componentize = if starts(&local) { local } else { tool(&["componentize-py"], "componentize-py", install)? };
    let entry = project.folder.join("target/entry");
    make_folder(&entry.join("wit"))?;
    write(&entry.join("wit/plugin.wit"), CONTRACT.as_bytes())?;
    // componentize-py begins with a module that has the export and the handlers. No plugin can be called as it is.
    let module = project::module(&project.name);
    write(&entry.join("_entry.py"), format!("import {module}\nfrom runner.guest import Handler\n").as_bytes())?;
    let mut command = Command::new(componentize);
    command.args(["--quiet", "-d", "target/entry/wit", "-w", WORLD, "componentize"]);
    command.args(["-p", "target/entry", "-p", ".", "_entry", "-o"]).arg(made);
    run(project, command, "a module that is imported must be pure Python, and lie in this folder")
}

/// Makes a component of what a C compiler or Go made.
fn wrap(core: &Path, made: &Path) -> Result<(), Failure> {
    let module = fs::read(core).map_err(|error| Failure::file(core, &error))?;
    let component = runner_componentize::component(&module, WORLD)
        .map_err(|error| Failure::new(Code::Failed, format!("`{}`: {error}", core.display())))?;
    write(made, &component)
}

/// Runs a tool in the project's folder; what it says goes to stderr as it is.
fn run(project: &Project, mut command: Command, hint: &str) -> Result<(), Failure> {
    command.current_dir(&project.folder).stdin(Stdio::null());
    let shown = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| Failure::new(Code::Failed, format!("`{shown}` cannot be started: {error}")))?;
    if status.success() {
        return Ok(());
    }
    Err(Failure::new(Code::Failed, format!("`{shown}` failed ({status}), so nothing was made; {hint}")))
}

fn starts(program: &Path) -> bool {
    let tried = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    tried.is_ok_and(|status| status.success())
}

/// The first of these programs that is in PATH.
fn tool(names: &[&str], what: &str, install: &str) -> Result<PathBuf, Failure> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = names
        .iter()
        .find_map(|name| std::env::split_paths(&path).map(|dir| dir.join(name)).find(|file| file.is_file()));
    found.ok_or_else(|| {
        Failure::new(
            Code::Failed,
            format!("{what} is missing: `{}` is not in PATH; this installs it:\n  {install}", names[0]),
        )
    })
}

fn make_folder(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder).map_err(|error| Failure::file(folder, &error))
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    let bytes = fs::read(from).map_err(|error| Failure::file(from, &error))?;
    write(to, &bytes)
}

/// Writes beside the place first: whoever watches the folder sees whole files only.
fn write(to: &Path, bytes: &[u8]) -> Result<(), Failure> {
    let name = to.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let beside = to.with_file_name(format!(".{name}.new"));
    fs::write(&beside, bytes).and_then(|()| fs::rename(&beside, to)).map_err(|error| Failure::file(to, &error))
}
