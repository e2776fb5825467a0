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
    folder: tempfile::TempDir,
}

/// A handler under test.
pub(super) struct Subject {
    plugin: Arc<Plugin>,
    pub(super) is_command: bool,
}

impl Place {
    pub(super) fn new() -> Self {
        Self::with_room_for_scripts(HostSettings::default().scripts_kib)
    }

    /// One that keeps so much of evaluated scripts.
    pub(super) fn with_room_for_scripts(scripts_kib: u32) -> Self {
        let (folder, server) = (tempfile::tempdir().unwrap(), Server::start());
        std::fs::write(folder.path().join("password"), "pass-word-1\n").unwrap();
        let text = format!(
            "[tenants.default]\nconfig = {{ GREETING = \"moin\" }}\nsecrets = {{ PASSWORD = {{ file = \"password\" }} }}\n\
             [tenants.default.max]\nprivate = [\"{}\"]\n\
             [tenants.default.blobs]\nbox = {{ url = \"memory:\", mode = \"read-write\" }}\n",
            server.address
        );
        let operator = Arc::new(Operator::read(&text, folder.path()).unwrap());
        let (compiler, cache) = (super::mixed::compiler(), Some(super::mixed::cache()));
        let settings =
            HostSettings { slots: 2, threads: 1, operator, compiler, cache, scripts_kib, ..HostSettings::default() };
        Self { host: Host::new(&settings).expect("wasmtime runs here"), server, folder }
    }

    /// Loads a test handler with the manifest of all.
    pub(super) fn load(&self, file: &Path) -> Subject {
        self.load_with(file, "")
    }

    fn load_with(&self, file: &Path, more: &str) -> Subject {
        let text = std::fs::read_to_string(super::sdk().join("conformance.toml")).unwrap();
        let http = format!("\n[[allow.http]]\nurl = \"http://{}/hook\"\nmethods = [\"POST\"]\n", self.server.address);
        let manifest = Manifest::parse(&(text + &http + more)).expect("the manifest is right");
        let plugin = super::mixed::load(&self.host, file, manifest);
        let is_command = plugin.describe().flavour == Flavour::Command;
        Subject { plugin: Arc::new(plugin), is_command }
    }

    /// Loads a script that a test has written.
    pub(super) fn script(&self, text: &str) -> Subject {
        self.script_with(text, "")
    }

    /// The same with more in its manifest.
    pub(super) fn script_with(&self, text: &str, more: &str) -> Subject {
        let file = self.folder.path().join("script.js");
        std::fs::write(&file, text).unwrap();
        self.load_with(&file, more)
    }

    pub(super) fn run(&self, subject: &Subject, behaviour: &Behaviour) -> RunReport {
        let timeout = (behaviour.name == "time-out").then_some(LOOP);
        self.run_job(subject, job(behaviour, &self.server.address), timeout)
    }

    pub(super) fn run_job(&self, subject: &Subject, job: JobView, timeout: Option<Millis>) -> RunReport {
        let plugin = &subject.plugin;
        let usual = plugin.limits("conformance");
        let timeout = timeout.unwrap_or(usual.timeout);
        let next = AtomicU64::new(100);
        let request = RunRequest {
            job,
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

/// The args of a behaviour, padded and nested as it says.
pub(super) fn args(behaviour: &Behaviour, address: &str) -> Vec<u8> {
    let mut text = behaviour.args.replace("{server}", &format!("http://{address}"));
    if let Some(deep) = behaviour.deep {
        text = text.replace("{deep}", &("[".repeat(deep) + &"]".repeat(deep)));
    }
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
