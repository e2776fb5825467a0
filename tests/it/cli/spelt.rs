//! What is written wrongly in a flag, a variable or the configuration is told in words of what would be right.

use super::Place;

const SERVE: [&str; 6] = ["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0", "--once"];

/// It said "invalid digit found in string", whatever the option was.
#[test]
fn what_is_no_whole_number_is_told_which_would_be() {
    let place = Place::new();
    let serve = |more: &[&'static str]| [&SERVE[..], more].concat();
    place.check(&serve(&["--connections", "many"]), 2, &["`many` is no whole number", "from 1 to 65536"]);
    place.check(&serve(&["--connections", "1e3"]), 2, &["`1e3` is no whole number"]);
    place.check(&serve(&["--connections", "0"]), 2, &["0 is not in 1..=65536"]);
    place.check(&serve(&["--connections", "99999999999999999999"]), 2, &["is not in 1..=65536"]);
    place.check(&serve(&["--slots", "some"]), 2, &["`some` is no whole number", "from 1 to 256"]);
    place.check(&["job", "list", "--limit", "all"], 2, &["`all` is no whole number"]);
    place.check(&["events", "--since", "noon"], 2, &["`noon` is no whole number"]);
    place.write("c.toml", b"[serve]\nconnections = 1e9\n");
    let words = ["`c.toml`, line 2", "`serve.connections`", "`1e9` is no whole number"];
    place.check(&["config", "check", "--config", "c.toml"], 2, &words);
}

/// `config check` said that an address without a port, or with one that there is not, can be used.
#[test]
fn an_address_needs_a_port_that_there_is() {
    let place = Place::new();
    for wrong in ["localhost", "127.0.0.1", "127.0.0.1:99999", "127.0.0.1:http", ":7070"] {
        place.write("c.toml", format!("[serve]\nlisten = \"{wrong}\"\n").as_bytes());
        let words = ["`c.toml`, line 2", "`serve.listen` is refused", "is no address with a port"];
        place.check(&["config", "check", "--config", "c.toml"], 2, &words);
        let serve = ["serve", "--plugins", "plugins", "--listen", wrong, "--once"];
        place.check(&serve, 2, &["is no address with a port", "127.0.0.1:7070"]);
        let metrics = [&SERVE[..], &["--metrics-listen", wrong]].concat();
        place.check(&metrics, 2, &["is no address with a port"]);
    }
    for right in ["localhost:7070", "[::1]:0", "0.0.0.0:65535"] {
        place.write("c.toml", format!("[serve]\nlisten = \"{right}\"\n").as_bytes());
        place.check(&["config", "check", "--config", "c.toml"], 0, &["can be used"]);
    }
}

/// A level that is none was taken for a part of the program: the server served, and logged nothing at all.
#[test]
fn a_level_of_the_log_that_is_none_is_refused() {
    let place = Place::new();
    let logs = |name: &str, level: &str| {
        let output = place.command(&SERVE).env(name, level).output().unwrap();
        super::Said::from(output)
    };
    for wrong in ["loud", "info,verbose", "warning"] {
        logs("RUNNER_LOG", wrong).check(2, &["is no level", "error, warn, info, debug, trace or off"]);
    }
    for right in ["INFO", "warn,runner_runtime=debug", "trace"] {
        logs("RUNNER_LOG", right).check(0, &["nothing is left to do"]);
    }
    // What is everybody's is not ours to be strict about.
    logs("RUST_LOG", "loud").check(0, &["nothing is left to do"]);
}
