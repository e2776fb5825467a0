//! `runner serve --once`: it ends by itself when nothing is left to do, and says what it leaves.

use super::server::signal;
use super::{Place, Said, until};

impl Place {
    #[track_caller]
    fn once(&self, more: &[&str], words: &[&str]) -> Said {
        let args = [&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0", "--once"], more].concat();
        let said = self.check(&args, 0, words);
        assert!(said.err.contains("stopped"), "{}", said.err);
        said
    }

    /// Enqueues without a server; answers the id.
    #[track_caller]
    fn enqueued(&self, args: &[&str]) -> String {
        self.check(&[&["enqueue"], args].concat(), 0, &[]).out.trim().to_owned()
    }
}

#[test]
fn it_runs_what_there_is_and_what_becomes_due_in_time() {
    let place = Place::new();
    place.once(&[], &["nothing is left to do"]);
    let ok = place.enqueued(&["ok"]);
    let soon = place.enqueued(&["ok", "--delay", "1s"]);
    let no = place.enqueued(&["no", "--max-attempts", "2"]);
    let after = place.enqueued(&["ok", "--depends-on", &ok]);
    place.once(&[], &["nothing is left to do"]);
    for id in [ok, soon, after] {
        place.check(&["job", "show", &id], 0, &["completed"]);
    }
    place.check(&["job", "show", &no, "-o", "json"], 0, &[r#""state":"discarded""#, r#""attempts":2"#]);
}

#[test]
fn it_says_what_it_leaves_and_why() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    let held = place.enqueued(&["ok", "--hold"]);
    place.enqueued(&["ok", "--depends-on", &held]);
    place.enqueued(&["later", "--delay", "2h"]);
    place.enqueued(&["nobody"]);
    place.enqueued(&["nobody"]);
    let said = place.once(&[], &["5 jobs are left"]);
    for (words, lines) in [
        (["ok", "held", "1", "on hold until it is released"], 1),
        (["ok", "blocked", "1", "waits for other jobs"], 1),
        (["later", "scheduled", "1", "due at "], 1),
        (["nobody", "available", "2", "no plugin provides kind nobody"], 1),
    ] {
        let fits = said.out.lines().filter(|line| words.iter().all(|word| line.contains(word)));
        assert_eq!(fits.count(), lines, "{words:?} in:\n{}", said.out);
    }
    // Within a longer horizon it would wait for what is due in two hours: it is there until somebody ends it.
    let mut server = place.serve(&["--once", "--once-horizon", "3h"]);
    place.check(&["enqueue", "ok", "--wait"], 0, &["completed"]);
    assert!(server.child.try_wait().unwrap().is_none());
    signal(&server.child, "TERM");
    server.ended().check(0, &["stopped"]);
}

#[test]
fn the_horizon_is_a_time_and_belongs_to_once() {
    let place = Place::new();
    let serve = |more: &[&str], words: &[&str]| {
        let args = [&["serve", "--plugins", "plugins", "--listen", "127.0.0.1:0"], more].concat();
        place.check(&args, 2, words);
    };
    serve(&["--once-horizon", "1h"], &["--once"]);
    serve(&["--once", "--once-horizon", "60"], &["--once-horizon"]);
    serve(&["--once", "--once-horizon=-1s"], &["--once-horizon"]);
    place.check(&["store", "init"], 0, &[]);
    place.enqueued(&["ok", "--delay", "1h"]);
    place.once(&["--once-horizon", "0s"], &["1 jobs are left", "scheduled"]);
}

/// Work that comes while it runs is work that is there; a run that goes on is waited for, until a signal comes.
#[test]
fn it_serves_while_it_runs_and_ends_by_a_signal_as_ever() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    let spin = place.enqueued(&["spin", "--timeout", "1h"]);
    let mut server = place.serve(&["--once", "--grace", "10ms"]);
    until("it runs", || place.runner(&["job", "show", &spin]).out.contains("running"));
    place.check(&["enqueue", "ok", "--wait"], 0, &["completed"]);
    assert!(server.child.try_wait().unwrap().is_none());
    signal(&server.child, "TERM");
    server.ended().check(0, &["stopped"]);
    place.check(&["job", "show", &spin, "-o", "json"], 0, &[r#""state":"available""#, r#""attempts":0"#]);
    let server = place.serve(&["--once"]);
    until("it runs", || place.runner(&["job", "show", &spin]).out.contains("running"));
    place.check(&["job", "cancel", &spin], 0, &[]);
    let mut server = server;
    server.ended().check(0, &["stopped"]);
}

/// The story: a job that waited an hour for its token kept a node that was to look ahead for three seconds. And one whose
/// queue was paused for a moment was left.
#[test]
fn it_waits_for_what_passes_within_the_horizon_and_for_nothing_else() {
    let place = Place::new();
    place.check(&["store", "init"], 0, &[]);
    place.check(&["kind", "set", "ok", "--rate", "1/1h"], 0, &[]);
    place.enqueued(&["ok"]);
    place.enqueued(&["ok"]);
    place.once(&["--once-horizon", "3s"], &["1 jobs are left", "kind ok may start 1/1h"]);
    let soon = std::time::SystemTime::now() + std::time::Duration::from_secs(4);
    let until = humantime::format_rfc3339_millis(soon).to_string();
    place.check(&["queue", "pause", "soon", "--until", &until], 0, &[]);
    let id = place.enqueued(&["no", "--queue", "soon", "--max-attempts", "1"]);
    // A bucket is full when a node starts.
    place.once(&["--once-horizon", "1m"], &["nothing is left to do"]);
    place.check(&["job", "show", &id], 0, &["discarded"]);
}
