//! The server that is measured: this program's `serve`, on a new store.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A server that listens, and its folder. It is killed when it is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    _folder: tempfile::TempDir,
}

impl Server {
    /// Waits until it listens.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir_in(".").expect("a folder on the disk that is measured");
        std::fs::create_dir(folder.path().join("plugins")).expect("a folder without plugins");
        let mut command = Command::new(env!("CARGO_BIN_EXE_runner"));
        command.args(["serve", "--plugins", "plugins", "--data", "data", "--listen", "127.0.0.1:0"]);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("RUNNER_")) {
            command.env_remove(name);
        }
        let command = command.current_dir(folder.path()).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the program was built with the bench");
        let mut log = BufReader::new(child.stderr.take().expect("it is a pipe")).lines();
        let address = log.by_ref().find_map(|line| {
            let entry: serde_json::Value = serde_json::from_str(&line.ok()?).ok()?;
            Some(entry["url"].as_str()?.split_once("://")?.1.to_owned())
        });
        // What goes wrong is shown; and where nobody read on, it would stop when the pipe is full.
        std::thread::spawn(move || {
            let wrong = |line: &String| line.contains(r#""level":"ERROR""#);
            log.map_while(Result::ok).filter(wrong).for_each(|line| println!("  server: {line}"));
        });
        Self { child, address: address.expect("it says where it listens"), _folder: folder }
    }

    /// The memory that it has in hand.
    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1_024
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Its folder goes with it, so it has nothing to put in order.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Every connection is an open file of this process, too.
pub(crate) fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
}
