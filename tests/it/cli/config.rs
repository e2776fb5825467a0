//! The operator's configuration: where it is found, and what it does to commands; and the demo, which comes with one.

use std::path::{Path, PathBuf};

use super::Place;

/// One kind that may run for five seconds, whatever its manifest says.
const SHORT: &[u8] = b"[tenants.default.max]\ntimeout = \"5s\"";

#[test]
fn plugins_are_checked_against_the_configuration() {
    let place = Place::new();
    place.write(
        "plugins/ok.toml",
        b"[limits]\ntimeout = \"50s\"\n[allow.blobs]\nphotos = \"read\"\nthumbs = \"read-write\"",
    );
    let check = ["plugin", "check", "plugins/ok.wasm"];
    let missing =
        "add `blobs.photos = { url = \"file:…\", mode = \"read\" }` to [tenants.default] of the configuration";
    place.check(&check, 0, &["50s", "photos read  to read the container `photos` is not granted", missing]);
    let blobs = "[tenants.default.blobs]\nphotos = { url = \"file:p\", mode = \"read\" }\n\
                 thumbs = { url = \"memory:\", mode = \"write\" }";
    place.write("op.toml", format!("{}\n{blobs}", String::from_utf8_lossy(SHORT)).as_bytes());
    let with = [&check[..], &["--config", "op.toml"]].concat();
    let said =
        place.check(&with, 0, &["photos read  granted", "thumbs read  to read the container `thumbs` is not granted"]);
    assert!(said.out.contains(" 5s") && !said.out.contains("50s"), "{}", said.out);
    place.check(&["plugin", "invoke", "plugins/ok.wasm", "--config", "op.toml"], 0, &["completed in"]);
}

#[test]
fn a_wrong_configuration_stops_a_command_before_it_does_anything() {
    let place = Place::new();
    place.write("jobs.ndjson", b"{\"kind\": \"ok\"}\n");
    place.write("op.toml", b"[tenants.default]\nconcurency = 1");
    let verbs: [&[&str]; 4] = [
        &["run", "jobs.ndjson", "--plugins", "plugins"],
        &["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"],
        &["plugin", "check", "plugins/ok.wasm"],
        &["plugin", "invoke", "plugins/ok.wasm"],
    ];
    for verb in verbs {
        let with = |file: &'static str| [verb, &["--config", file]].concat();
        place.check(&with("op.toml"), 2, &["`op.toml`, line 2", "did you mean `concurrency`?"]);
        place.check(&with("gone.toml"), 2, &["the configuration `gone.toml` cannot be read"]);
    }
    assert!(!place.path("runner-data").exists());
}

#[test]
fn a_store_s_configuration_comes_before_a_list_s_and_a_named_one_before_both() {
    let place = Place::new();
    let run = ["run", "lists/jobs.ndjson", "--plugins", "plugins"];
    std::fs::create_dir(place.path("lists")).unwrap();
    place.write("lists/jobs.ndjson", b"{\"kind\": \"ok\"}\n");
    let said = place.check(&run, 0, &[]);
    assert!(!said.err.contains("configuration"), "{}", said.err);
    place.write("lists/runner.toml", SHORT);
    place.check(&run, 0, &["configuration: lists/runner.toml"]);
    let in_memory = [&run[..], &["--store", "memory"]].concat();
    place.check(&in_memory, 0, &["configuration: lists/runner.toml"]);
    place.write("runner-data/runner.toml", SHORT);
    place.check(&run, 0, &["configuration: runner-data/runner.toml"]);
    place.check(&in_memory, 0, &["configuration: lists/runner.toml"]);
    place.write("op.toml", SHORT);
    let said = place.check(&[&run[..], &["--config", "op.toml"]].concat(), 0, &[]);
    assert!(!said.err.contains("configuration"), "what was asked for is not said again: {}", said.err);
    place.write("runner-data/runner.toml", b"nonsense");
    place.check(&run, 2, &["`runner-data/runner.toml`, line 1"]);
}

/// The plugins of the demo's kinds. The README's command has all of `plugins/dist`, of which those in Python and the engine of scripts
/// take longer to compile in a build for tests than a plugin may.
const DEMO_PLUGINS: [&str; 4] = ["data", "flaky", "image", "text"];

/// What the first command of the README does, in a copy of the demo's folder.
#[test]
fn the_demo_makes_a_folder_of_thumbnails_of_a_folder_of_pictures() {
    let plugins = Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins");
    let dist = plugins.join("dist");
    assert!(dist.join("image.wasm").exists(), "the handlers are not built: run plugins/build first");
    let place = Place::new();
    copy(&plugins.join("demo"), &place.path("demo"));
    std::fs::create_dir(place.path("dist")).unwrap();
    for name in DEMO_PLUGINS.iter().flat_map(|name| [format!("{name}.wasm"), format!("{name}.toml")]) {
        std::fs::copy(dist.join(&name), place.path("dist").join(&name)).unwrap();
    }
    let run = ["run", "demo/jobs.ndjson", "--plugins", "dist"];
    // Not `check`, as one of the handlers panics, and is to.
    let said = place.runner(&run);
    assert_eq!(said.code, Some(0), "{}{}", said.out, said.err);
    assert!(said.err.contains("configuration: demo/runner.toml"), "{}", said.err);
    let made = files(&place.path("demo/thumbnails"));
    let expected = [
        "chart.png",
        "grey.png",
        "icon.jpg",
        "icon.png",
        "loading.gif",
        "mountains.jpg",
        "on-its-side.jpg",
        "panorama.jpg",
        "upside-down.jpg",
    ];
    assert_eq!(made, expected, "the truncated picture has none");
    for name in made {
        let data = std::fs::read(place.path("demo/thumbnails").join(&name)).unwrap();
        let magic: &[u8] = match name.rsplit('.').next() {
            Some("jpg") => b"\xff\xd8\xff",
            Some("png") => b"\x89PNG",
            _ => b"GIF8",
        };
        assert!(data.starts_with(magic), "{name}");
    }
    place.check(&["job", "output", "1"], 0, &["\"to\":\"thumbnails/mountains.jpg\"", "\"width\":320"]);
    place.check(&["job", "show", "10"], 0, &["discarded", "the picture is truncated"]);
}

/// Copies a folder with its folders, but for what a run of the demo made.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in files(from).iter().filter(|name| *name != "thumbnails") {
        let (from, to): (PathBuf, PathBuf) = (from.join(name), to.join(name));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            std::fs::copy(&from, &to).unwrap();
        }
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
