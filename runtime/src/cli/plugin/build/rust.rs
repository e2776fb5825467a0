//! How a project in Rust becomes a component: with the target that its toolchain has, or with what Debian packages.
//!
//! The second way is for machines where rustup cannot bring the target: Debian's compiler builds the standard library along,
//! from its sources, against Debian's C library for WebAssembly. `plugins/build` has the same two ways, and installs what they need.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::{INSTALL_RUST, LINKERS, Project, copy, run, tool};
use crate::cli::exit::{Code, Failure};
use crate::cli::plugin::project;

const TARGET: &str = "wasm32-wasip2";
const DEBIAN_CARGO: &str = "/usr/bin/cargo";
const DEBIAN_RUSTC: &str = "/usr/bin/rustc";
/// The sources of the standard library.
const DEBIAN_LIBRARY: &str = "/usr/lib/rustlib/src/rust/library/Cargo.toml";
/// The C library for WebAssembly, and what begins a program of it.
const DEBIAN_LIBC: &str = "/usr/lib/wasm32-wasi";

/// Makes the component, by the first way that there is.
pub(super) fn build(project: &Project, made: &Path) -> Result<(), Failure> {
    let cargo = tool(&["cargo"], "Rust", INSTALL_RUST)?;
    let sysroot = sysroot();
    let (mut command, hint) =
        if sysroot.as_ref().is_some_and(|root| root.join("lib/rustlib").join(TARGET).join("lib").is_dir()) {
            (Command::new(cargo), "what cargo says is about this project")
        } else {
            (
                debian(sysroot.as_deref()).ok_or_else(missing)?,
                "it was built with Debian's packages, as the toolchain has no target",
            )
        };
    command.args(["build", "--release", "--target", TARGET, "--target-dir", "target"]);
    run(project, command, hint)?;
    copy(&project.folder.join(format!("target/{TARGET}/release/{}.wasm", project::module(&project.name))), made)
}

fn sysroot() -> Option<PathBuf> {
    let said = Command::new("rustc").args(["--print", "sysroot"]).output().ok().filter(|said| said.status.success())?;
    Some(PathBuf::from(String::from_utf8(said.stdout).ok()?.trim()))
}

/// Debian's cargo, told where everything is; none if something is not there.
fn debian(sysroot: Option<&Path>) -> Option<Command> {
    let libc = Path::new(DEBIAN_LIBC);
    let start = libc.join("crt1-reactor.o");
    let needed = [Path::new(DEBIAN_CARGO), Path::new(DEBIAN_RUSTC), Path::new(DEBIAN_LIBRARY), &start];
    let linker = LINKERS.iter().map(|name| Path::new("/usr/bin").join(name)).find(|file| file.is_file())?;
    // It is a part of toolchains, and the only one that is needed of the one in PATH.
    let wrapper = component_linker(sysroot?)?;
    if !needed.iter().all(|file| file.is_file()) {
        return None;
    }
    let flags = format!(
        "-Clink-self-contained=no -Clink-arg=--wasm-ld-path={} -Clink-arg=-L{} -Clink-arg={} -Clink-arg=-lc",
        linker.display(),
        libc.display(),
        start.display()
    );
    let mut command = Command::new(DEBIAN_CARGO);
    command.env("RUSTC", DEBIAN_RUSTC).env("RUSTC_BOOTSTRAP", "1").env("RUSTFLAGS", flags);
    command.env("CARGO_TARGET_WASM32_WASIP2_LINKER", wrapper).arg("-Zbuild-std=std,panic_abort");
    Some(command)
}

/// What makes a component of a module, in a toolchain's folder of any host.
fn component_linker(sysroot: &Path) -> Option<PathBuf> {
    let hosts = std::fs::read_dir(sysroot.join("lib/rustlib")).ok()?;
    hosts.filter_map(|host| Some(host.ok()?.path().join("bin/wasm-component-ld"))).find(|file| file.is_file())
}

fn missing() -> Failure {
    let root = if rustix::process::geteuid().is_root() { "" } else { "sudo " };
    let message = format!(
        "the target {TARGET} is missing; this installs it:\n  rustup target add {TARGET}\nor, on Debian and its kin:\n  \
         {root}apt-get install -y cargo-web lld-19 rust-web-src rustc-web wasi-libc"
    );
    Failure::new(Code::Failed, message)
}
