//! What the command line says of itself: completions for shells, manual pages, and the API's document.

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Command;
use clap_complete::Shell;

use super::exit::Failure;
use super::output::{note, print, print_bytes};
use super::settings;
use crate::api::openapi;

/// Write completions for a shell to stdout
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: runner completions bash > /etc/bash_completion.d/runner")]
pub(super) struct Completions {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

/// Write a manual page for each verb into a folder
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: runner man /usr/local/share/man/man1")]
pub(super) struct Man {
    /// The folder; made if it does not exist
    #[arg(value_name = "DIR")]
    folder: PathBuf,
}

/// Print the OpenAPI document of the HTTP API
#[derive(Debug, clap::Args)]
#[command(after_help = "Example: runner openapi > openapi.json")]
pub(super) struct Openapi {}

/// Runs the verb.
pub(super) fn completions(args: &Completions) -> ExitCode {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut visible(&settings::command()), "runner", &mut text);
    print_bytes(&text);
    ExitCode::SUCCESS
}

/// The command without the verbs that nobody is to call, which some shells would be told of.
fn visible(command: &Command) -> Command {
    let verbs = command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned();
    let about = command.get_about().cloned().unwrap_or_default();
    Command::new("runner")
        .version(env!("CARGO_PKG_VERSION"))
        .about(about)
        .disable_help_subcommand(true)
        .subcommands(verbs)
}

/// Runs the verb.
pub(super) fn openapi(_: &Openapi) -> ExitCode {
    print(&openapi::text());
    ExitCode::SUCCESS
}

/// Runs the verb.
pub(super) fn man(args: &Man) -> Result<ExitCode, Failure> {
    let pages = pages();
    let written = write(&args.folder, &pages);
    written.map_err(|error| Failure::file(&args.folder, &error))?;
    note(&format!("{} pages are in {}", pages.len(), args.folder.display()));
    Ok(ExitCode::SUCCESS)
}

fn write(folder: &Path, pages: &[(String, Vec<u8>)]) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    pages.iter().try_for_each(|(name, page)| std::fs::write(folder.join(name), page))
}

/// Every page under the name of its file.
fn pages() -> Vec<(String, Vec<u8>)> {
    let mut command = settings::command().disable_help_subcommand(true);
    command.build();
    let mut pages = Vec::new();
    let mut open = vec![command];
    while let Some(command) = open.pop() {
        open.extend(command.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned());
        let name = command.get_display_name().unwrap_or(command.get_name()).replace(' ', "-");
        let mut page = Vec::new();
        let man = clap_mangen::Man::new(command.name(name.clone()));
        man.render(&mut page).expect("a vector takes everything");
        pages.push((format!("{name}.1"), page));
    }
    pages.sort();
    pages
}
