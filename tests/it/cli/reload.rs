//! Plugins that come, change and go under a server, and what is kept of them from one start to the next.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::server::{Server, signal};
use super::{Place, Said, says, until};
use crate::sandbox::reload::drop_in;
use crate::soak::wire::{Ask, Wire};

impl Place {
    fn plugins(&self) -> PathBuf {
        self.path("plugins")
    }

    fn wire(&self) -> Wire {
        Wire::new(self.path("runner-data/runner.sock"))
    }

    /// The plugins of the server, with what is said of each.
    fn served(&self) -> Vec<Value> {
        let said = self.runner(&["plugin", "list", "-o", "json"]);
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn digests(&self) -> Vec<String> {
        self.served().iter().map(|plugin| plugin["digest"].as_str().unwrap().to_owned()).collect()
    }
}

fn stop(mut server: Server) -> Said {
    signal(server.child(), "TERM");
    let said = server.ended();
    said.check(0, &["stopped"]);
    said
}

/// G-24: a kind that no plugin provides waits, visibly, and runs once one is dropped in.
#[test]
fn a_job_waits_for_its_plugin_and_runs_once_that_is_dropped_in() {
    let place = Place::new();
    let server = place.serve(&[]);
    let id = place.check(&["enqueue", "late"], 0, &[]).out;
    let id = id.trim();
    place.check(&["job", "show", id], 0, &["no plugin provides kind late"]);
    place.check(&["job", "why", id], 0, &["no plugin provides kind late"]);
    drop_in(&place.plugins(), "late.wasm", &says(r#"{"ok": 1}"#, 0));
    place.check(&["job", "wait", id, "--timeout", "30s"], 0, &["completed"]);
    place.check(&["job", "show", id, "-o", "json"], 0, &[r#""attempts":1"#, r#""run":1,"#]);
    fs::remove_file(place.path("plugins/late.wasm")).unwrap();
    until("it is gone", || place.served().len() == 3);
    let id = place.check(&["enqueue", "late"], 0, &[]).out;
    place.check(&["job", "show", id.trim(), "-o", "json"], 0, &["no plugin provides kind late", r#""attempts":0"#]);
    stop(server);
}

#[test]
fn a_reload_is_asked_for_by_its_verb_or_by_sighup() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    place.check(&["plugin", "reload"], 4, &["no node follows a folder of plugins", "runner serve"]);
    let server = place.serve(&["--init"]);
    drop_in(&place.plugins(), "more.wasm", &says(r#"{"ok": 2}"#, 0));
    place.check(&["plugin", "reload"], 0, &["more", "PLUGIN"]);
    drop_in(&place.plugins(), "more.wasm", b"oops");
    place.check(&["plugin", "reload"], 1, &["more.wasm", "not WebAssembly but a text", "serves on"]);
    place.check(&["plugin", "list"], 1, &["more.wasm", "serves on"]);
    drop_in(&place.plugins(), "more.wasm", &says(r#"{"ok": 3}"#, 0));
    signal(server.child(), "HUP");
    until("it was mended", || place.runner(&["plugin", "list"]).code == Some(0));
    stop(server).check(0, &["the plugins were looked at"]);
}

#[test]
fn a_plugin_is_pushed_to_a_server_and_removed_from_it() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    fs::create_dir(place.path("dist")).unwrap();
    place.write("dist/late.wasm", &says(r#"{"ok": 1}"#, 0));
    let push = ["plugin", "push", "dist/late.wasm"];
    place.check(&push, 4, &["no node follows a folder of plugins", "runner serve"]);
    let server = place.serve(&[]);
    let id = place.check(&["enqueue", "late"], 0, &[]).out;
    place.check(&push, 0, &["late", "serves late"]);
    place.check(&["job", "wait", id.trim(), "--timeout", "30s"], 0, &["completed"]);
    // What is pushed replaces, and what is broken does not.
    place.write("dist/late.toml", b"kinds = [\"late\", \"later\"]\n");
    place.check(&[&push[..], &["-o", "json"]].concat(), 0, &[r#""kinds":["late","later"]"#]);
    place.write("dist/late.wasm", b"oops");
    place.check(&push, 2, &["plugin: the file is not WebAssembly but a text", "nothing was changed"]);
    place.check(&["enqueue", "later", "--wait"], 0, &["completed"]);
    place.write("dist/late.wasm", &says(r#"{"ok": 2}"#, 0));
    place.write("dist/late.toml", b"[allow]\nsecrets = [\"key\"]\n");
    place.check(&push, 2, &["manifest: it asks for what is not granted: secret key"]);
    place.check(&[&push[..], &["--no-manifest", "--name", "soon"]].concat(), 0, &["soon", "serves soon"]);
    place.check(&["plugin", "push", "dist/late.toml"], 2, &["a plugin is a .wasm or a .js file"]);
    place.check(&["plugin", "push", "dist/none.wasm"], 2, &["`dist/none.wasm` does not exist"]);
    place.check(&["plugin", "remove", "late"], 0, &["late removed"]);
    place.check(&["plugin", "remove", "soon", "-o", "json"], 0, &[r#"{"removed":"soon"}"#]);
    place.check(&["plugin", "remove", "late"], 3, &["no plugin of this name"]);
    let id = place.check(&["enqueue", "late"], 0, &[]).out;
    place.check(&["job", "why", id.trim()], 0, &["no plugin provides kind late"]);
    assert_eq!(place.served().len(), 3);
    stop(server);
}

/// What is not compiled again must be authentic: each way to put something else there is noticed, once.
#[test]
fn a_start_compiles_nothing_again_and_trusts_nothing_that_was_changed() {
    use std::os::unix::fs::PermissionsExt;
    let place = Place::new();
    let cached = || place.served().iter().filter(|plugin| plugin["from_cache"] == true).count();
    let entries = || {
        let mut all: Vec<_> =
            fs::read_dir(place.path("runner-data/cache")).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    let start = |expected: usize| {
        let server = place.serve(&[]);
        assert_eq!(cached(), expected, "{:?}", place.served());
        place.check(&["enqueue", "ok", "--wait"], 0, &["completed"]);
        assert_eq!(entries().len(), 3);
        stop(server)
    };
    start(0);
    let mode = |name: &str| fs::metadata(place.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("runner-data/cache"), mode("runner-data/cache.key")), (0o700, 0o600));
    start(3);
    let broken = |change: &dyn Fn(&[PathBuf])| {
        change(&entries());
        start(2);
        start(3);
    };
    // One bit, in the middle of the code.
    broken(&|entries| {
        let mut bytes = fs::read(&entries[0]).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&entries[0], bytes).unwrap();
    });
    // Cut, and empty.
    broken(&|entries| fs::File::options().write(true).open(&entries[1]).unwrap().set_len(5_000).unwrap());
    broken(&|entries| fs::write(&entries[1], b"").unwrap());
    // The code of another plugin, which is as authentic as can be.
    broken(&|entries| fs::write(&entries[0], fs::read(&entries[2]).unwrap()).unwrap());
    // Not even a file.
    broken(&|entries| {
        fs::remove_file(&entries[0]).unwrap();
        fs::create_dir(&entries[0]).unwrap();
    });
    // Another key, and one that others can read: nothing of it is trusted.
    fs::write(place.path("runner-data/cache.key"), [7; 32]).unwrap();
    start(0);
    fs::set_permissions(place.path("runner-data/cache.key"), fs::Permissions::from_mode(0o644)).unwrap();
    start(0);
    fs::write(place.path("runner-data/cache.key"), b"short").unwrap();
    start(0);
    fs::remove_file(place.path("runner-data/cache.key")).unwrap();
    start(0);
    start(3);
}

#[test]
fn jobs_flow_while_their_plugin_is_swapped() {
    const SWAPS: usize = 20;
    const JOBS_BETWEEN: usize = 40;
    let place = Place::new();
    let server = place.serve(&[]);
    let versions: Vec<Vec<u8>> = (0..2).map(|n| says(&format!("{{\"ok\": {n}}}"), 0)).collect();
    let digests: Vec<String> =
        versions.iter().map(|bytes| format!("sha256:{}", runner_runtime::wasm::plugin::digest(bytes))).collect();
    let mut wire = place.wire();
    let list = Value::from(vec![json!({"kind": "ok", "max_attempts": 1}); JOBS_BETWEEN]);
    let mut ids = Vec::new();
    let mut enqueue = |wire: &mut Wire| {
        let answer = wire.until_answered(&Ask { body: Some(&list), ..Ask::post("/v1/jobs") });
        let jobs = answer.body["jobs"].as_array().unwrap();
        ids.extend(jobs.iter().map(|job| job["id"].as_str().unwrap().to_owned()));
    };
    for swap in 0..SWAPS {
        drop_in(&place.plugins(), "ok.wasm", &versions[swap % 2]);
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            enqueue(&mut wire);
            let shown = wire.until_answered(&Ask::get("/v1/plugins")).body;
            if shown["plugins"].as_array().unwrap().iter().any(|plugin| plugin["digest"] == *digests[swap % 2]) {
                break;
            }
            assert!(Instant::now() < deadline, "it was not swapped: {shown}");
        }
    }
    enqueue(&mut wire);
    let mut by = [0, 0];
    let first = format!("sha256:{}", runner_runtime::wasm::plugin::digest(&says(r#"{"ok": {"done": true}}"#, 0)));
    for id in &ids {
        let job = wire.until_answered(&Ask::get(format!("/v1/jobs/{id}/wait?timeout=60s"))).body;
        assert_eq!(job["state"], "completed", "{job}");
        let job = wire.until_answered(&Ask::get(format!("/v1/jobs/{id}"))).body;
        let [run] = &job["runs"].as_array().unwrap()[..] else { panic!("one run each: {job}") };
        match digests.iter().position(|digest| run["plugin"] == **digest) {
            // What ran is what is said to have run.
            Some(n) => {
                assert_eq!(job["output"], n, "{job}");
                by[n] += 1;
            }
            None => assert_eq!(run["plugin"], *first, "{job}"),
        }
    }
    println!("{} jobs over {SWAPS} swaps, 0 failed; by version {by:?}, the rest by the first", ids.len());
    assert!(by.iter().all(|n| *n >= JOBS_BETWEEN), "{by:?}");
    assert_eq!(place.digests().len(), 3);
    stop(server);
}
