//! Folders of plugins: whose they are, and what in them is not read.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use runner_runtime::wasm::folder::{self, Registry, TENANT_DEFAULT};

use super::guests::command;
use super::host;

/// Names and what is said of them; the tenant `acme` is known.
fn load(folder: &Path) -> (Registry, Vec<(String, String)>) {
    let (registry, reports) = folder::load(host(), folder, &|name| name == "acme").expect("the folder is usable");
    let name = |path: &Path| path.strip_prefix(folder).expect("is in it").display().to_string();
    let reports = reports.iter().map(|report| (name(&report.path), report.problem.to_string()));
    (registry, reports.collect())
}

#[track_caller]
fn check_reports(folder: &Path, expected: &[(&str, &str)]) -> Registry {
    let (registry, reports) = load(folder);
    assert_eq!(reports.len(), expected.len(), "{reports:#?}");
    for ((name, problem), (expected_name, words)) in reports.iter().zip(expected) {
        assert!(name == expected_name && problem.contains(words), "{name}: {problem}");
    }
    registry
}

fn write(path: &Path, bytes: &[u8]) {
    fs::create_dir_all(path.parent().expect("has a folder")).expect("makes it");
    fs::write(path, bytes).expect("writes");
}

#[test]
fn a_folder_in_the_folder_belongs_to_the_tenant_of_its_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    write(&path("a.wasm"), &command(""));
    write(&path("default/b.wasm"), &command(""));
    write(&path("default/a.wasm"), &command("(nop)"));
    write(&path("acme/a.wasm"), &command("(nop) (nop)"));
    write(&path("acme/c.wasm"), b"oops");
    write(&path("globex/d.wasm"), &command(""));
    write(&path(".hidden/e.wasm"), &command(""));
    write(&path(".f.wasm"), b"half of a copy");
    let registry = check_reports(
        folder.path(),
        &[
            ("acme/c.wasm", "not WebAssembly but a text"),
            ("default/a.wasm", "the tenant has a plugin of this name already"),
            ("globex", "the tenant `globex` is unknown; its plugins are not loaded. Create the tenant"),
        ],
    );
    let kinds = |tenant| registry.kinds(tenant).map(|(kind, _)| kind.to_owned()).collect::<Vec<_>>();
    assert_eq!(
        (kinds(TENANT_DEFAULT), kinds("acme"), kinds("globex")),
        (vec!["a".to_owned(), "b".to_owned()], vec!["a".to_owned()], vec![])
    );
    let digest = |tenant| registry.get(tenant, "a").expect("is served").digest().to_owned();
    assert_ne!(digest(TENANT_DEFAULT), digest("acme"));
}

#[test]
fn a_link_never_leads_out_of_its_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join("plugins").join(name);
    write(&path("own.wasm"), &command(""));
    write(&path("acme/own.wasm"), &command(""));
    write(&folder.path().join("outside.wasm"), &command(""));
    write(&folder.path().join("outside/x.wasm"), &command(""));
    let link = |to: &str, name: &str| symlink(to, path(name)).expect("a link");
    link("own.wasm", "within.wasm");
    link("../outside.wasm", "up.wasm");
    link(path("own.wasm").to_str().expect("text"), "absolute.wasm");
    link("/proc/self/exe", "magic.wasm");
    link("/dev/zero", "zero.wasm");
    link("round.wasm", "round.wasm");
    link("nothing.wasm", "dangling.wasm");
    // Another tenant's plugins are nobody's to load.
    link("../own.wasm", "acme/theirs.wasm");
    link("../outside", "default");
    // A manifest that may have limited something is not the same as none.
    write(&path("m.wasm"), &command(""));
    link("nothing.toml", "m.toml");
    write(&path("n.wasm"), &command(""));
    link("../outside.toml", "n.toml");
    write(&folder.path().join("outside.toml"), b"");
    let leaves = "link that leaves the plugin folder";
    let registry = check_reports(
        &folder.path().join("plugins"),
        &[
            ("absolute.wasm", leaves),
            ("acme/theirs.wasm", leaves),
            ("dangling.wasm", "a link to nothing"),
            ("default", leaves),
            ("m.wasm", "a link to nothing"),
            ("magic.wasm", leaves),
            ("n.wasm", leaves),
            ("round.wasm", "round in circles"),
            ("up.wasm", leaves),
            ("zero.wasm", leaves),
        ],
    );
    let kinds: Vec<_> = registry.kinds(TENANT_DEFAULT).map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["own", "within"]);
}

#[test]
fn what_is_no_file_is_reported_and_never_waited_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    let pipe = |name: &str| assert!(Command::new("mkfifo").arg(path(name)).status().expect("starts").success());
    pipe("a.wasm");
    write(&path("b.wasm"), &command(""));
    pipe("b.toml");
    fs::create_dir(path("c.wasm")).expect("a folder");
    let _socket = std::os::unix::net::UnixListener::bind(path("d.wasm")).expect("binds");
    let pipe = "pipe, socket or device";
    check_reports(folder.path(), &[("a.wasm", pipe), ("b.wasm", pipe), ("c.wasm", "it is a folder"), ("d.wasm", pipe)]);
}

#[test]
fn names_that_are_not_allowed_are_reported() {
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().expect("a folder");
    write(&folder.path().join("a b.wasm"), &command(""));
    write(&folder.path().join("a..b.wasm"), &command(""));
    write(&folder.path().join(std::ffi::OsStr::from_bytes(b"\xff.wasm")), &command(""));
    let (registry, reports) = load(folder.path());
    assert_eq!(registry.plugins().count(), 0);
    assert_eq!(reports.len(), 3, "{reports:?}");
    assert!(reports.iter().all(|(_, problem)| problem.contains("name is not allowed")), "{reports:?}");
}

#[test]
fn a_file_that_changes_while_it_is_read_is_not_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.wasm");
    // Large, so that reading it takes a while; valid at any length, as all of it is one custom section's.
    write(&path, &[command(""), vec![0; 8 << 20]].concat());
    let stop = Arc::new(AtomicBool::new(false));
    let (stopped, touched) = (Arc::clone(&stop), path.clone());
    let writer = std::thread::spawn(move || {
        use std::io::Write;
        let mut file = fs::File::options().append(true).open(touched).expect("opens");
        while !stopped.load(Ordering::SeqCst) {
            file.write_all(&[0]).expect("writes");
        }
    });
    let seen = (0..200).any(|_| load(folder.path()).1.iter().any(|(_, problem)| problem.contains("changes while")));
    stop.store(true, Ordering::SeqCst);
    writer.join().expect("it wrote");
    assert!(seen, "a file that is written all the time was never seen to be");
}
