//! Runs one behaviour against one handler, with everything granted that the manifest of the test handlers asks for.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use runner_runtime::operator::Operator;
use runner_runtime::wasm::{
    Alone, CancelSignal, Flavour, Host, HostSettings, JobView, Limits, Manifest, Plugin, RunReport, RunRequest, Streams,
};
use runner_store::job::Millis;

use super::behaviours::Behaviour;
use super::server::Server;

/// How long a loop may go on.
const LOOP: Millis = Millis(1_000);

/// A host, what its operator grants, and a server that may be asked.
pub(super) struct Place {
    host: Host,
    server: Server,
    _folder: tempfile::TempDir,
}

/// A handler under test.
pub(super) struct Subject {
    plugin: Arc<Plugin>,
    pub(super) is_command: bool,
}

impl Place {
    pub(super) fn new() -> Self {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
        std::fs::write(folder.path().join("password"), "pass-word-1\n").unwrap();
        let text = format!(
            "[tenants.default]\nconfig = {{ GREETING = \"moin\" }}\nsecrets = {{ PASSWORD = {{ file = \"password\" }} }}\n\
             [tenants.default.max]\nprivate = [\"{}\"]\n\
             [tenants.default.blobs]\nbox = {{ url = \"memory:\", mode = \"read-write\" }}\n",
            server.address
        );
        let operator = Arc::new(Operator::read(&text, folder.path()).unwrap());
        let settings = HostSettings { slots: 2, threads: 1, operator, ..HostSettings::default() };
        Self { host: Host::new(&settings).expect("wasmtime runs here"), server, _folder: folder }
    }

    /// Loads a test handler with the manifest of all.
    pub(super) fn load(&self, file: &Path) -> Subject {
        let text = std::fs::read_to_string(super::sdk().join("conformance.toml")).unwrap();
        let http = format!("\n[[allow.http]]\nurl = \"http://{}/hook\"\nmethods = [\"POST\"]\n", self.server.address);
        let manifest = Manifest::parse(&(text + &http)).expect("the manifest is right");
        let bytes = std::fs::read(file).unwrap();
        let plugin = if file.extension().is_some_and(|ending| ending == "js") {
            let engine = std::fs::read(super::engine()).unwrap();
            self.host.compile_script("conformance.js", bytes, &engine, manifest)
        } else {
            self.host.compile("conformance", &bytes, manifest)
        };
        let plugin = plugin.unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        let is_command = plugin.describe().flavour == Flavour::Command;
        Subject { plugin: Arc::new(plugin), is_command }
    }

    pub(super) fn run(&self, subject: &Subject, behaviour: &Behaviour) -> RunReport {
        let plugin = &subject.plugin;
        let usual = plugin.limits("conformance");
        let timeout = if behaviour.name == "time-out" { LOOP } else { usual.timeout };
        let next = AtomicU64::new(100);
        let request = RunRequest {
            job: job(behaviour, &self.server.address),
            others: Vec::new(),
            limits: Limits { timeout, ..usual },
            middleware: Vec::new(),
            grants: plugin.grants(),
            ids: Some(Arc::new(move || Some(next.fetch_add(1, Ordering::Relaxed)))),
            read_job: runner_runtime::api::new_job::reader(&Arc::default()),
            backing: Arc::new(Alone),
            streams: Streams::default(),
            cancel: CancelSignal::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
        runtime.block_on(self.host.spawn(Arc::clone(plugin), request)).expect("the host never panics")
    }
}

/// The args of a behaviour, padded as it says.
pub(super) fn args(behaviour: &Behaviour, address: &str) -> Vec<u8> {
    let text = behaviour.args.replace("{server}", &format!("http://{address}"));
    let Some(bytes) = behaviour.args_bytes else { return text.into_bytes() };
    let bare = text.replace("{pad}", "");
    text.replace("{pad}", &"x".repeat(bytes - bare.len())).into_bytes()
}

fn job(behaviour: &Behaviour, address: &str) -> JobView {
    JobView {
        id: 7,
        kind: "conformance".to_owned(),
        tenant: "default".to_owned(),
        queue: "default".to_owned(),
        args: args(behaviour, address),
        run: 2,
        attempt: 1,
        max_attempts: 25,
        tags: vec![("customer".to_owned(), "ümlaut".to_owned())],
        checkpoint: behaviour.given.as_ref().map(|text| text.clone().into_bytes()),
        ..JobView::default()
    }
}
