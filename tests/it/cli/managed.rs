//! What a service manager is told, over its socket.

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use super::Place;
use super::server::{Server, signal};

fn next(manager: &UnixDatagram) -> String {
    let mut words = [0; 256];
    let length = manager.recv(&mut words).expect("a word within a minute");
    String::from_utf8_lossy(&words[..length]).into_owned()
}

#[test]
fn the_manager_is_told_that_a_server_is_ready_lives_and_stops() {
    let place = Place::new();
    let manager = UnixDatagram::bind(place.path("manager")).unwrap();
    manager.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let mut command = place.command(&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"]);
    command.env("NOTIFY_SOCKET", place.path("manager")).env("WATCHDOG_USEC", "20000");
    let mut server = Server::new(command);
    assert_eq!(next(&manager), "READY=1\nSTATUS=running");
    assert_eq!([next(&manager), next(&manager)], ["WATCHDOG=1", "WATCHDOG=1"]);
    signal(server.child(), "TERM");
    let mut word = next(&manager);
    while word == "WATCHDOG=1" {
        word = next(&manager);
    }
    assert_eq!(word, "STOPPING=1\nSTATUS=draining");
    server.ended().check(0, &["stopped"]);
}

/// The units that are shown as examples name flags and codes that there are.
#[test]
fn the_examples_for_managers_are_of_this_program() {
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    let unit = std::fs::read_to_string(deploy.join("runner.service")).unwrap();
    let start = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/runner ")).unwrap();
    let args: Vec<&str> = std::iter::once("runner").chain(start.split(' ')).collect();
    runner_runtime::cli::settings::command().try_get_matches_from(args).unwrap();
    let of = |key: &str| unit.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned)).unwrap();
    assert_eq!(of("Type="), "notify");
    assert_eq!(of("RestartPreventExitStatus="), "2 6 7 9");
    let container = std::fs::read_to_string(deploy.join("Containerfile")).unwrap();
    let place = Place::new();
    for variable in ["RUNNER_DATA", "RUNNER_PLUGINS"] {
        assert!(container.contains(&format!("{variable}=")));
        place.check(&["serve", "--help"], 0, &[&format!("[env: {variable}=")]);
    }
}
