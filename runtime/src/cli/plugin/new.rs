//! `runner plugin new`: a project that builds, tests and runs as it stands.
//!
//! Everything is written into a folder that does not exist yet; nothing is fetched and nothing is built. Without `--sdk`
//! the project has a copy of the contract and makes its own bindings of it, so it needs nothing of ours.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::ValueEnum;
use runner_store::job::name_problem;

use super::{CONTRACT, project};
use crate::cli::exit::{Code, Failure};
use crate::cli::output::print;

/// The version of `wit-bindgen` whose macros the templates are written for.
const BINDINGS: &str = r#"
# The contract in Rust; only the guest needs it.
[target.'cfg(target_family = "wasm")'.dependencies]
wit-bindgen = { version = "0.61", default-features = false, features = ["macros", "realloc"] }

"#;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Args {
    /// The plugin's name: its folder's and its file's
    name: String,
    /// The language
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
    /// What it exports beside the handler; middleware stands alone
    #[arg(long, value_enum, value_delimiter = ',', value_name = "EXPORT,…")]
    with: Vec<Export>,
    /// The folder of the Rust SDK (plugin-sdk/rust); without it the project binds to the contract itself
    #[arg(long, value_name = "DIR", conflicts_with = "with")]
    sdk: Option<PathBuf>,
}

/// Languages that there is a template for. Any other that compiles to WebAssembly works as well, from `runner plugin wit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub(super) enum Lang {
    /// Rust, for wasm32-wasip2
    #[default]
    Rust,
    /// C, with clang
    C,
    /// Go
    Go,
    /// JavaScript, as a bare script
    Js,
    /// TypeScript, which becomes a bare script
    Ts,
    /// Python, with componentize-py
    Python,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Export {
    /// Several jobs in one call
    Batch,
    /// Time-outs and retries that the plugin decides
    Policy,
    /// Args of two unique jobs become those of one
    Merge,
    /// Around the handlers of other plugins
    Middleware,
}

/// One file of the project.
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

pub(super) fn main(args: &Args) -> Result<ExitCode, Failure> {
    let Args { name, lang, with, sdk } = args;
    if let Some(problem) = name_problem(name) {
        return Err(Failure::usage(format!("{name:?} is no right name of a plugin: {problem}")));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        || name.starts_with(|c: char| c.is_ascii_digit())
    {
        let why = "a project's name has letters, digits, - and _ only, and begins with a letter";
        return Err(Failure::usage(format!("{name:?}: {why}")));
    }
    if *lang != Lang::Rust && (!with.is_empty() || sdk.is_some()) {
        return Err(Failure::usage(
            "--with and --sdk are for Rust; other languages have the handler, and their SDK within",
        ));
    }
    if let Some(why) = project::taken(*lang, name) {
        return Err(Failure::usage(format!("{name:?} {why}; choose another name")));
    }
    if with.contains(&Export::Middleware) && with.len() > 1 {
        return Err(Failure::usage("--with middleware stands alone: it wraps handlers, and has none of its own"));
    }
    let files = match (lang, sdk) {
        (Lang::Rust, Some(sdk)) => with_sdk(name, sdk)?,
        (Lang::Rust, None) => with_contract(name, with),
        (Lang::C | Lang::Go | Lang::Js | Lang::Ts | Lang::Python, _) => {
            let mut files = project::files(*lang, name);
            files.extend([manifest(name, &[]), ignored()]);
            files
        }
    };
    write(Path::new(name), &files)?;
    print(&next_steps(*lang, name, with));
    Ok(ExitCode::SUCCESS)
}

fn with_sdk(name: &str, sdk: &Path) -> Result<Vec<File>, Failure> {
    let found = sdk.join("Cargo.toml").is_file().then(|| sdk.canonicalize().ok()).flatten();
    let Some(sdk) = found else {
        let why = "there is no Cargo.toml; name the folder plugin-sdk/rust of a checkout";
        return Err(Failure::usage(format!("--sdk {}: {why}", sdk.display())));
    };
    let dependency = format!(
        "# The handler's side of the contract.\nrunner-plugin = {{ path = {:?} }}\n\n",
        sdk.display().to_string()
    );
    Ok(vec![
        File { path: "Cargo.toml".into(), text: cargo(name, &dependency) },
        File { path: "src/lib.rs".into(), text: filled(include_str!("rust/sdk.rs.txt"), name) },
        manifest(name, &[]),
        ignored(),
    ])
}

fn with_contract(name: &str, with: &[Export]) -> Vec<File> {
    let middleware = with.contains(&Export::Middleware);
    let (what, work) = if middleware {
        ("looks at jobs before they run", include_str!("rust/middleware.rs.txt"))
    } else {
        ("greets", include_str!("rust/handler.rs.txt"))
    };
    let lib = format!("{}{work}", include_str!("rust/head.rs.txt").replace("@WHAT@", what));
    let mut guest = include_str!("rust/guest.rs.txt").to_owned();
    guest.push_str(if middleware {
        include_str!("rust/guest-middleware.rs.txt")
    } else {
        include_str!("rust/guest-handler.rs.txt")
    });
    for (export, text) in [
        (Export::Batch, include_str!("rust/guest-batch.rs.txt")),
        (Export::Policy, include_str!("rust/guest-policy.rs.txt")),
        (Export::Merge, include_str!("rust/guest-merge.rs.txt")),
    ] {
        guest.push_str(if with.contains(&export) { text } else { "" });
    }
    vec![
        File { path: "Cargo.toml".into(), text: cargo(name, BINDINGS) },
        File { path: "src/lib.rs".into(), text: filled(&lib, name) },
        File { path: "src/guest.rs".into(), text: guest },
        File { path: "wit/guest.wit".into(), text: world(with) },
        File { path: "wit/deps/runner-plugin/plugin.wit".into(), text: CONTRACT.to_owned() },
        manifest(name, with),
        ignored(),
    ]
}

fn world(with: &[Export]) -> String {
    let mut lines = vec!["  include runner:plugin/imports@0.1.0;".to_owned()];
    let middleware = with.contains(&Export::Middleware);
    let mut exports = vec![if middleware { "middleware" } else { "handler" }];
    for (export, word) in [(Export::Batch, "batch"), (Export::Policy, "policy"), (Export::Merge, "merge")] {
        exports.extend(with.contains(&export).then_some(word));
    }
    lines.extend(exports.into_iter().map(|word| format!("  export runner:plugin/{word}@0.1.0;")));
    format!(
        "/// What this plugin imports and exports.\npackage local:guest;\n\nworld guest {{\n{}\n}}\n",
        lines.join("\n")
    )
}

fn manifest(name: &str, with: &[Export]) -> File {
    let text = if with.contains(&Export::Middleware) {
        "# A middleware serves no kind of its own; the operator's configuration says around which handlers it stands.\n"
            .to_owned()
    } else {
        let batch = if with.contains(&Export::Batch) { "batch = { max = 100, linger = \"50ms\" }\n" } else { "" };
        let kind = kind(name);
        let each = if batch.is_empty() { String::new() } else { format!("\n[[kind]]\nname = \"{kind}\"\n{batch}") };
        format!("kinds = [\"{kind}\"]\n\n[limits]\ntimeout = \"30s\"\n{each}")
    };
    File { path: format!("{name}.toml").into(), text }
}

fn ignored() -> File {
    File { path: ".gitignore".into(), text: "/target\n/node_modules\n__pycache__/\n".to_owned() }
}

fn kind(name: &str) -> String {
    format!("{name}.greet")
}

fn cargo(name: &str, dependencies: &str) -> String {
    filled(include_str!("rust/Cargo.toml.txt"), name).replace("@DEPENDENCIES@\n", dependencies)
}

pub(super) fn filled(text: &str, name: &str) -> String {
    text.replace("@NAME@", name).replace("@KIND@", &kind(name))
}

/// Writes all files into a new folder; one that is there stays as it is.
fn write(folder: &Path, files: &[File]) -> Result<(), Failure> {
    let failed = |path: &Path, error: &io::Error| {
        Failure::new(Code::Failed, format!("`{}` cannot be written: {error}", path.display()))
    };
    fs::create_dir(folder).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => {
            let why = "is there already, and is left as it is; choose another name, or remove it";
            Failure::new(Code::Conflict, format!("`{}` {why}", folder.display()))
        }
        _ => failed(folder, &error),
    })?;
    for File { path, text } in files {
        let path = folder.join(path);
        let parent = path.parent().unwrap_or(folder);
        fs::create_dir_all(parent).and_then(|()| fs::write(&path, text)).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}

fn next_steps(lang: Lang, name: &str, with: &[Export]) -> String {
    let (test, file) = (project::test_command(lang, name), project::plugin_file(lang, name));
    let try_it = if with.contains(&Export::Middleware) {
        format!("runner plugin check target/{file}")
    } else {
        format!("runner plugin invoke target/{file} '{{\"name\": \"Ada\"}}'")
    };
    let engine = match lang {
        Lang::Js | Lang::Ts => {
            "\nA script runs in js-engine.wasm, which `plugins/build` makes: put it into both folders.\n"
        }
        Lang::Rust | Lang::C | Lang::Go | Lang::Python => "",
    };
    format!(
        "made {name}/; then:\n\n    cd {name}\n    {test}\n    runner plugin build\n    {try_it}\n\n\
         target/{file} and {name}.toml belong into the folder that --plugins names: `runner plugin build --to DIR`.\n{engine}"
    )
}
