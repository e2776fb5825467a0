//! `runner plugin push | remove`: puts a plugin into a server's folder over the API, and takes one out.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::json;

use super::super::ask;
use super::super::client::Common;
use super::super::exit::{Code, Failure};
use super::super::job::percent;
use super::super::list::read_file;
use super::super::output::{Format, note, print, print_json};
use super::short;
use crate::api::plugins::one::FileShown;
use crate::api::plugins::upload::{FORM, SCRIPT, WASM};
use crate::wasm::folder::MANIFEST_BYTES_MAX;
use crate::wasm::log::escaped;
use crate::wasm::plugin::PLUGIN_BYTES_MAX;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin, a .wasm or .js file; the .toml file of the same name beside it, its manifest, goes with it
    file: PathBuf,
    /// Its name on the server; the file's if absent
    #[arg(long)]
    name: Option<String>,
    /// Take away the manifest that the server has; without this, and without one beside the file, that stays
    #[arg(long)]
    no_manifest: bool,
    #[command(flatten)]
    common: Common,
}

/// Runs `push`.
pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let file = &args.file;
    let is_script = match file.extension().and_then(|extension| extension.to_str()) {
        Some("wasm") => false,
        Some("js") => true,
        _ => return Err(Failure::usage(format!("`{}`: a plugin is a .wasm or a .js file", file.display()))),
    };
    let name = match &args.name {
        Some(name) => name.clone(),
        None => file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
    };
    let bytes = read(file, PLUGIN_BYTES_MAX)?;
    let beside = file.with_extension("toml");
    let manifest = match (args.no_manifest, beside.exists()) {
        (true, _) => Some(Vec::new()),
        (false, true) => Some(read(&beside, MANIFEST_BYTES_MAX)?),
        (false, false) => None,
    };
    let (media, body) = match manifest {
        Some(manifest) => form(if is_script { "script" } else { "plugin" }, &bytes, &manifest),
        None => (if is_script { SCRIPT } else { WASM }.to_owned(), bytes),
    };
    let path = path(&name);
    let shown: FileShown = ask(&args.common.target, async |client| client.put(&path, &media, body).await?.json())?;
    Ok(show(&shown, args.common.output))
}

/// Runs `remove`.
pub(super) fn remove(name: &str, Common { target, output }: &Common) -> Result<ExitCode, Failure> {
    let path = path(name);
    ask(target, async |client| client.delete(&path).await)?;
    match output {
        Format::Json => print_json(&json!({ "removed": name })),
        Format::Table => print(&format!("{} removed; jobs of its kinds wait\n", escaped(name))),
    }
    Ok(ExitCode::SUCCESS)
}

fn read(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    read_file(path, bytes_max).map_err(|error| Failure::file(path, &error))
}

fn path(name: &str) -> String {
    format!("/v1/plugins/{}", percent(name))
}

/// Both files as a form, and its media type.
fn form(part: &str, bytes: &[u8], manifest: &[u8]) -> (String, Vec<u8>) {
    // No file has it, unless it was made for this one call.
    let random = || getrandom::u64().expect("the system has random numbers, or nothing works");
    let boundary = format!("runner-{:016x}{:016x}", random(), random());
    let mut body = Vec::with_capacity(bytes.len() + manifest.len() + 512);
    for (name, bytes) in [(part, bytes), ("manifest", manifest)] {
        let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n");
        body.extend_from_slice(head.as_bytes());
        body.extend_from_slice(bytes);
        body.extend_from_slice(b"\r\n");
    }
    body.extend_from_slice(format!("--{boundary}--\r\n").as_bytes());
    (format!("{FORM}; boundary={boundary}"), body)
}

/// Exit code 1 where it is put and does not serve all that it offers.
fn show(shown: &FileShown, format: Format) -> ExitCode {
    for report in &shown.reports {
        note(&format!("plugin {}: {}", escaped(&report.path), escaped(&report.problem)));
    }
    for warning in shown.plugin.iter().flat_map(|plugin| &plugin.warnings) {
        note(&format!("plugin {}: {}", escaped(&shown.name), escaped(warning)));
    }
    match (format, &shown.plugin) {
        (Format::Json, _) => print_json(shown),
        (Format::Table, Some(plugin)) => {
            let (name, version, kinds) = (escaped(&plugin.name), short(&plugin.digest), plugin.kinds.join(" "));
            print(&format!("{name} {version} serves {kinds}\n"));
        }
        (Format::Table, None) => print(&format!("{} is put, and still to be loaded\n", escaped(&shown.name))),
    }
    ExitCode::from(if shown.reports.is_empty() { Code::Done as u8 } else { Code::Failed as u8 })
}
