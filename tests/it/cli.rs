//! The command line, as its users have it: a spawned binary, its output, and its exit code.

mod access;
mod bench;
mod bombs;
mod config;
mod connections;
mod copies;
mod doctor;
mod enqueue;
mod failed;
mod guests;
mod killed;
mod languages;
mod listening;
mod lists;
mod made;
mod malformed;
mod managed;
mod metrics;
mod new;
mod node;
mod once;
mod plugins;
mod reload;
mod schedules;
mod server;
mod settings;
mod spelt;
mod stores;
mod traces;
mod unread;
mod verbs;
mod workers;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A folder with plugins, lists and data of its own.
struct Place(tempfile::TempDir);

/// What a process said, and how it ended.
struct Said {
    code: Option<i32>,
    out: String,
    err: String,
}

impl Place {
    /// Plugins `ok` (completes), `no` (fails) and `spin` (never ends).
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        std::fs::create_dir(place.path("plugins")).unwrap();
        place.write("plugins/ok.wasm", &says(r#"{"ok": {"done": true}}"#, 0));
        place.write("plugins/no.wasm", &says("not today", 1));
        let spin =
            wat::parse_str(r#"(module (memory (export "memory") 1) (func (export "_start") (loop $l (br $l))))"#);
        place.write("plugins/spin.wasm", &spin.unwrap());
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    /// The binary, in this folder, with nothing from outside.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command.args(args).current_dir(self.0.path()).stdin(Stdio::null());
        for name in [
            "RUNNER_CONFIG",
            "RUNNER_DATA",
            "RUNNER_URL",
            "RUNNER_LISTEN",
            "RUNNER_LOG",
            "RUST_LOG",
            "NOTIFY_SOCKET",
            "RUNNER_TOKEN",
            "RUNNER_TOKEN_FILE",
            "RUNNER_ADMIN_TOKEN",
            "RUNNER_ADMIN_TOKEN_FILE",
        ] {
            command.env_remove(name);
        }
        command
    }

    fn runner(&self, args: &[&str]) -> Said {
        Said::from(self.command(args).output().unwrap())
    }

    /// Ends with this code, having said each of these words somewhere.
    #[track_caller]
    fn check(&self, args: &[&str], code: i32, words: &[&str]) -> Said {
        let said = self.runner(args);
        said.check(code, words);
        said
    }
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }
}

impl Said {
    #[track_caller]
    fn check(&self, code: i32, words: &[&str]) {
        let both = format!("{}{}", self.out, self.err);
        assert_eq!(self.code, Some(code), "{both}");
        for word in words {
            assert!(both.contains(word), "{word:?} is not in:\n{both}");
        }
        assert!(!both.contains("panicked"), "{both}");
    }
}

/// A WASI command that writes this line and exits so.
fn says(line: &str, exit: i32) -> Vec<u8> {
    let data: String = line.bytes().map(|byte| format!("\\{byte:02x}")).collect();
    let text = format!(
        r#"(module
          (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
          (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
          (memory (export "memory") 1)
          (data (i32.const 16) "{data}")
          (func (export "_start")
            (i32.store (i32.const 0) (i32.const 16))
            (i32.store (i32.const 4) (i32.const {len}))
            (drop (call $write (i32.const {fd}) (i32.const 0) (i32.const 1) (i32.const 8)))
            (call $exit (i32.const {exit}))))"#,
        len = line.len(),
        fd = if exit == 0 { 1 } else { 2 },
    );
    wat::parse_str(text).unwrap()
}

/// Looks until it is so, for a minute at most.
#[track_caller]
fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "in vain: {what}");
        std::thread::yield_now();
    }
}

fn utf8(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn every_verb_has_help_with_an_example() {
    let place = Place::new();
    let verbs: Vec<String> = made::verbs().into_iter().map(|(name, _)| name).collect();
    for verb in verbs {
        let args: Vec<&str> = verb.split(' ').chain(["--help"]).collect();
        place.check(&args, 0, &["Usage: runner", "Example", &format!("runner {verb}")]);
    }
    place.check(&["--help"], 0, &["Exit codes: 0 done, 1 failed, 2 usage", "12 timed out waiting"]);
    place.check(&["jobs"], 2, &["a similar subcommand exists: 'job'"]);
}
