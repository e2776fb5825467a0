//! A folder that changes under a node.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_runtime::wasm::catalog::{Catalog, Serving};
use runner_runtime::wasm::folder::TENANT_DEFAULT;
use runner_runtime::wasm::loader::{Loader, NotReloaded};
use runner_runtime::wasm::{Host, HostSettings};

use super::guests::{command, says};

/// What a condition may take that a busy machine is late with.
const DEADLINE: Duration = Duration::from_secs(30);

/// A plugin takes its place whole, under its name at once: as a deployment does it.
pub(crate) fn drop_in(folder: &Path, name: &str, bytes: &[u8]) {
    let hidden = folder.join(format!(".{name}.new"));
    fs::write(&hidden, bytes).expect("writes");
    fs::rename(hidden, folder.join(name)).expect("renames");
}

/// Waits until the catalog is so.
async fn wait(catalog: &Arc<Catalog>, what: &str, holds: impl Fn(&Serving) -> bool) {
    let (mut changes, begun) = (catalog.watch(), Instant::now());
    while !holds(&catalog.now()) {
        let left = DEADLINE.saturating_sub(begun.elapsed());
        let changed = tokio::time::timeout(left, changes.changed()).await;
        assert!(changed.is_ok(), "{what} did not come: {:?}", catalog.now());
    }
}

fn serves(serving: &Serving, kind: &str, bytes: &[u8]) -> bool {
    let digest = runner_runtime::wasm::plugin::digest(bytes);
    serving.registry.get(TENANT_DEFAULT, kind).is_some_and(|plugin| plugin.digest() == digest)
}

async fn start(folder: &Path) -> Loader {
    let host = Arc::new(Host::new(&HostSettings::default()).expect("wasmtime runs here"));
    let loader = Loader::start(host, folder, Arc::new(|name: &str| name == "acme")).await.expect("it is a folder");
    loader.settled().await;
    loader
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_takes_the_place_of_the_old_one_and_a_broken_one_does_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let (one, two) = (says("1", "", 0), says("2", "", 0));
    drop_in(folder.path(), "a.wasm", &one);
    let loader = start(folder.path()).await;
    let catalog = loader.catalog();
    assert!(serves(&catalog.now(), "a", &one));
    drop_in(folder.path(), "a.wasm", &two);
    wait(&catalog, "the new version", |now| serves(now, "a", &two)).await;
    drop_in(folder.path(), "a.wasm", &one[..one.len() / 2]);
    wait(&catalog, "the report", |now| !now.reports.is_empty()).await;
    let now = catalog.now();
    let said = now.reports[0].problem.to_string();
    assert!(serves(&now, "a", &two) && said.contains("ends too early"), "{said}");
    let digest = runner_runtime::wasm::plugin::digest(&two);
    assert!(said.ends_with(&format!("its version {} serves on", &digest[..12])), "{said}");
    // Written in place, as an editor does it.
    fs::write(folder.path().join("a.wasm"), &one).expect("writes");
    wait(&catalog, "the mended version", |now| serves(now, "a", &one) && now.reports.is_empty()).await;
    fs::remove_file(folder.path().join("a.wasm")).expect("removes");
    wait(&catalog, "its end", |now| now.registry.get(TENANT_DEFAULT, "a").is_none()).await;
    loader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_alone_is_taken_and_nothing_is_compiled() {
    let folder = tempfile::tempdir().expect("a folder");
    drop_in(folder.path(), "a.wasm", &command(""));
    let loader = start(folder.path()).await;
    let catalog = loader.catalog();
    let compiled_in =
        |now: &Serving, kind: &str| now.registry.get(TENANT_DEFAULT, kind).map(|p| p.describe().compile_time);
    let before = compiled_in(&catalog.now(), "a");
    drop_in(folder.path(), "a.toml", b"kinds = [\"b\", \"c\"]");
    wait(&catalog, "the kinds", |now| compiled_in(now, "c") == before).await;
    assert!(!catalog.serves(TENANT_DEFAULT, "a"));
    drop_in(folder.path(), "a.toml", b"kinds = [\"b\", \"c\"]\nsha256 = \"00\"");
    wait(&catalog, "the report", |now| !now.reports.is_empty()).await;
    assert!(catalog.serves(TENANT_DEFAULT, "c"), "the version before serves on");
    fs::remove_file(folder.path().join("a.toml")).expect("removes");
    wait(&catalog, "the kind of its name", |now| compiled_in(now, "a") == before && now.reports.is_empty()).await;
    loader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_made_later_is_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let loader = start(folder.path()).await;
    let catalog = loader.catalog();
    let acme = folder.path().join("acme");
    fs::create_dir(&acme).expect("a folder");
    drop_in(&acme, "a.wasm", &command(""));
    wait(&catalog, "the tenant's plugin", |now| now.registry.get("acme", "a").is_some()).await;
    drop_in(&acme, "b.wasm", &command(""));
    wait(&catalog, "the next one", |now| now.registry.get("acme", "b").is_some()).await;
    assert!(!catalog.serves(TENANT_DEFAULT, "a"));
    loader.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_gone_takes_nothing_with_it() {
    let place = tempfile::tempdir().expect("a folder");
    let folder = place.path().join("plugins");
    fs::create_dir(&folder).expect("a folder");
    drop_in(&folder, "a.wasm", &command(""));
    let loader = start(&folder).await;
    let catalog = loader.catalog();
    // As a volume that is not mounted any more, and one that is again.
    fs::rename(&folder, place.path().join("away")).expect("renames");
    let error = loader.reload().now().await.expect_err("there is no folder");
    assert!(matches!(&error, NotReloaded::Folder(why) if why.contains("does not exist")), "{error}");
    assert!(catalog.serves(TENANT_DEFAULT, "a"));
    fs::create_dir(&folder).expect("a folder");
    drop_in(&folder, "b.wasm", &command(""));
    loader.reload().now().await.expect("there is a folder");
    wait(&catalog, "what is there now", |now| now.registry.get(TENANT_DEFAULT, "b").is_some()).await;
    assert!(!catalog.serves(TENANT_DEFAULT, "a"));
    // The new folder is followed as the old one was.
    drop_in(&folder, "c.wasm", &command(""));
    wait(&catalog, "the next one", |now| now.registry.get(TENANT_DEFAULT, "c").is_some()).await;
    loader.stop().await;
}
