//! `runner plugin new`: what it makes is a project as it stands.

use super::Place;

/// The contract's exports, as `--with` takes them, and the world that comes of each.
const PROJECTS: [(&str, &[&str]); 4] = [
    ("", &["handler"]),
    ("batch", &["handler", "batch"]),
    ("batch,policy,merge", &["handler", "batch", "policy", "merge"]),
    ("middleware", &["middleware"]),
];

/// The world was once called `own`, which is a keyword, so that no project built; its package was once called after the
/// project, so that none called `list` would have.
#[test]
fn the_world_of_a_new_project_is_right_whatever_the_project_is_called() {
    let place = Place::new();
    for (n, (with, exports)) in PROJECTS.into_iter().enumerate() {
        for name in ["list", "own", "Shouted_Name--x"] {
            let name = format!("{name}{}", if n == 0 { String::new() } else { n.to_string() });
            let mut command = vec!["plugin", "new", name.as_str()];
            if !with.is_empty() {
                command.extend(["--with", with]);
            }
            place.check(&command, 0, &["cargo test", &format!("{name}.toml belong")]);
            let mut resolve = wit_parser::Resolve::default();
            let read = resolve.push_dir(place.path(&name).join("wit"));
            let (package, _) = read.unwrap_or_else(|error| panic!("{name}, --with {with:?}: {error:#}"));
            let bound = std::fs::read_to_string(place.path(&name).join("src/guest.rs")).unwrap();
            let (world, _) = resolve.packages[package].worlds.first().expect("a world");
            assert!(bound.contains(&format!("world: \"{world}\"")), "{world}: {bound}");
            let world = resolve.select_world(&[package], Some(world)).expect("the world is there");
            let made: Vec<String> =
                resolve.worlds[world].exports.keys().map(|key| resolve.name_world_key(key)).collect();
            let wanted: Vec<String> = exports.iter().map(|name| format!("runner:plugin/{name}@0.1.0")).collect();
            assert!(wanted.iter().all(|name| made.contains(name)), "{name}: {made:?}");
        }
    }
}

#[test]
fn a_new_project_takes_nobodys_place() {
    let place = Place::new();
    place.write("hello", b"mine");
    place.check(&["plugin", "new", "hello"], 4, &["is there already"]);
    assert_eq!(std::fs::read(place.path("hello")).unwrap(), b"mine");
    for (name, why) in [("../up", "no right name"), ("9lives", "begins with a letter"), ("a b", "no right name")] {
        place.check(&["plugin", "new", name], 2, &[why]);
    }
    place.check(&["plugin", "new", "mid", "--with", "middleware,batch"], 2, &["stands alone"]);
}

/// A project called `Cargo` had its manifest written over its Cargo.toml; one called `json` in Python had a module that stood in
/// the place of the library's own, `class` one that nothing can import; and one called `js-engine` would have replaced the engine
/// of all scripts. In Go, `main` and `fmt` were the paths of packages that Go has.
#[test]
fn a_name_that_a_language_has_for_itself_is_refused_or_does_no_harm() {
    let place = Place::new();
    for (name, lang, why) in [
        ("Cargo", "rust", "in the place of Cargo.toml"),
        ("cargo", "rust", "in the place of Cargo.toml"),
        ("class", "python", "a keyword or a module of Python"),
        ("json", "python", "a keyword or a module of Python"),
        ("wit-world", "python", "a keyword or a module of Python"),
        ("js-engine", "js", "what the engine of scripts is called"),
        ("js-engine", "c", "what the engine of scripts is called"),
        ("runner", "ts", "what the SDK's folder is called"),
    ] {
        place.check(&["plugin", "new", name, "--lang", lang], 2, &[why, "choose another name"]);
        assert!(!place.path(name).exists(), "{name}");
    }
    for (name, lang) in [("Cargo", "python"), ("json", "c"), ("class", "js"), ("main", "go"), ("jsonlint", "python")] {
        place.check(&["plugin", "new", name, "--lang", lang], 0, &[]);
    }
    let module = std::fs::read_to_string(place.path("main").join("go.mod")).unwrap();
    assert!(module.starts_with("module plugins/main\n"), "{module}");
}
