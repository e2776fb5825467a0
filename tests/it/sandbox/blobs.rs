//! Containers of blobs, as guests see them: the three kinds behave alike, nothing leads out of a folder, and a write that is
//! not finished leaves nothing.

mod bucket;
mod folder;
mod script;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use runner_runtime::operator::Operator;
use runner_runtime::wasm::{Grants, Plugin, RunReport, RunRequest};
use runner_store::job::outcome::{Outcome, OutcomeName};
use runner_store::job::time::Millis;

use self::bucket::Bucket;
use super::{compile_with, host, request, run};

const MANIFEST: &str = "[allow.blobs]\nc = \"read-write\"\nr = \"read\"\nw = \"write\"\nnowhere = \"read\"";
/// How long a test waits for what happens soon.
const SOON: Duration = Duration::from_secs(20);

/// What the tests' containers lie in, and what may be done with them.
struct Place {
    folder: tempfile::TempDir,
    operator: Operator,
}

impl Place {
    /// Containers by these lines of `[tenants.default.blobs]`.
    fn new(containers: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("id"), "the-id\n").unwrap();
        std::fs::write(folder.path().join("key"), "the-key\n").unwrap();
        let secrets = "secrets = { ID = { file = \"id\" }, KEY = { file = \"key\" } }";
        let text = format!("[tenants.default]\n{secrets}\n[tenants.default.blobs]\n{containers}");
        let operator = Operator::read(&text, folder.path()).unwrap();
        Self { folder, operator }
    }

    fn of_folder() -> Self {
        Self::new("c = { url = \"file:blobs\", mode = \"read-write\" }")
    }

    fn of_memory() -> Self {
        Self::new("c = { url = \"memory:\", mode = \"read-write\" }")
    }

    fn of_bucket(bucket: &Bucket) -> Self {
        let keys = "access_key = \"ID\", secret_key = \"KEY\"";
        let endpoint = format!("endpoint = \"http://{}\"", bucket.address);
        Self::new(&format!(
            "c = {{ url = \"s3://the-bucket/some/prefix\", mode = \"read-write\", {endpoint}, {keys} }}"
        ))
    }

    /// The folder of the container `c`.
    fn blobs(&self) -> std::path::PathBuf {
        self.folder.path().join("blobs")
    }

    fn request(&self, script: &str) -> (Arc<Plugin>, RunRequest) {
        let plugin = compile_with(&script::guest(script), MANIFEST);
        let grants = Grants::new(plugin.manifest().allow.clone(), self.operator.rules("default"));
        let mut request = request(&plugin);
        request.grants = Arc::new(grants);
        request.limits.timeout = Millis::secs(60);
        (plugin, request)
    }

    /// Runs a script that ends, and answers what its calls said.
    #[track_caller]
    fn answers(&self, script: &str) -> Vec<String> {
        let (plugin, request) = self.request(script);
        let report = run(&plugin, request);
        let Outcome::Completed { output } = &report.outcome else { panic!("{:?}", report.outcome) };
        script::answers(script, output)
    }

    /// Runs a script and compares: an expectation of an error is its code, or how its message begins.
    #[track_caller]
    fn check(&self, script: &str, expected: &[&str]) {
        let answers = self.answers(script);
        let fits = |(answer, expected): (&String, &&str)| {
            answer == expected || (expected.starts_with('!') && answer.starts_with(expected))
        };
        let all = answers.len() == expected.len() && answers.iter().zip(expected).all(fits);
        assert!(all, "{answers:#?}\ninstead of {expected:#?}");
    }

    /// Runs a script that spins at its end, until its time is over.
    #[track_caller]
    fn times_out(&self, script: &str) -> RunReport {
        let (plugin, mut request) = self.request(script);
        request.limits.timeout = Millis(1_500);
        let report = run(&plugin, request);
        assert_eq!(report.outcome.name(), OutcomeName::TimedOut, "{:?}", report.outcome);
        report
    }
}

/// The same script for each kind of container, one after the other.
#[track_caller]
fn check(script: &str, expected: &[&str]) {
    Place::of_folder().check(script, expected);
    Place::of_memory().check(script, expected);
    Place::of_bucket(&Bucket::start()).check(script, expected);
}

#[track_caller]
fn soon(what: &str, mut is: impl FnMut() -> bool) {
    let until = Instant::now() + SOON;
    while !is() {
        assert!(Instant::now() < until, "not so within {SOON:?}: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn what_is_written_is_read() {
    let script = "
        size c a
        begin c a
        write 1 hello
        write 1 ,
        write 1 world
        size c a
        finish 1
        size c a
        read c a 0 5
        read c a 6 100
        read c a 11 1
        read c a 4000000000 1
        read c a 0 0
        read c b 0 1
        begin c a
        write 2 anew
        read c a 0 100
        finish 2
        read c a 0 100
        remove c a
        remove c a
        size c a";
    let expected = [
        "none",
        "1",
        "ok",
        "ok",
        "ok",
        "none",
        "ok",
        "11",
        "hello",
        "world",
        "",
        "",
        "",
        "!not_found",
        "2",
        "ok",
        "hello,world",
        "ok",
        "anew",
        "ok",
        "ok",
        "none",
    ];
    check(script, &expected);
}

#[test]
fn blobs_may_be_empty_and_lie_side_by_side_with_folders_of_the_same_beginning() {
    let script = "
        begin c empty
        finish 1
        size c empty
        read c empty 0 10
        begin c x/y/ä+ö&%41.jpg
        write 2 deep
        finish 2
        read c x/y/ä+ö&%41.jpg 0 10
        names c _ _ 10";
    check(script, &["1", "ok", "0", "", "2", "ok", "ok", "deep", "empty x/y/ä+ö&%41.jpg"]);
}

#[test]
fn names_come_in_order_a_page_at_a_time() {
    let mut script = String::new();
    for (n, name) in ["b", "a/b/c", "a-b", "a/b-c", "a/a", "ab", "a/b/d", "c/c"].iter().enumerate() {
        script += &format!("begin c {name}\nfinish {}\n", n + 1);
    }
    let mut expected: Vec<String> = (1..=8).flat_map(|n| [n.to_string(), "ok".to_owned()]).collect();
    let all = "a-b a/a a/b-c a/b/c a/b/d ab b c/c";
    let pages = [
        ("_ _ 1000", all),
        ("_ _ 5000", all),
        ("_ _ 3", "a-b a/a a/b-c"),
        ("_ a/b-c 3", "a/b/c a/b/d ab"),
        ("_ a/b/ 1", "a/b/c"),
        ("_ c/c 9", ""),
        ("a/ _ 9", "a/a a/b-c a/b/c a/b/d"),
        ("a/b _ 9", "a/b-c a/b/c a/b/d"),
        ("a/b/ a/b/c 9", "a/b/d"),
        ("a/b/d _ 9", "a/b/d"),
        ("a _ 2", "a-b a/a"),
        ("b a 9", "b"),
        ("a b 9", ""),
        ("../ _ 9", ""),
        ("_ _ 0", ""),
    ];
    for (page, names) in pages {
        script += &format!("names c {page}\n");
        expected.push(names.to_owned());
    }
    check(&script, &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn large_blobs_go_in_parts_and_come_back_whole() {
    let mut script = "begin c large\n".to_owned();
    let mut expected = vec!["1".to_owned()];
    for letter in ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m"] {
        script += &format!("fill 1 {letter} 1048576\n");
        expected.push("ok".to_owned());
    }
    script += "write 1 end\nfinish 1\nsize c large\nsum c large 0 1048576\nsum c large 13107200 1048576\n";
    script += "sum c large 0 1048577\nread c large 13631488 9";
    let (first, last) = (97 << 20, (109 << 19) + u32::from(b'e') + u32::from(b'n') + u32::from(b'd'));
    expected.extend(["ok".into(), "ok".into(), "13631491".into(), format!("1048576 {first}")]);
    expected.extend([format!("524291 {last}"), "!limit".into(), "end".into()]);
    check(&script, &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn names_that_lead_elsewhere_are_refused() {
    let long = "x".repeat(1_025);
    let long_part = "x".repeat(256);
    let wrong = [
        "_",
        "/",
        "/etc/passwd",
        "a/",
        "a//b",
        ".",
        "..",
        "../x",
        "a/../../x",
        "a/./b",
        "a/..",
        "a\0b",
        "a\tb",
        "\u{7f}",
        &long,
        &long_part,
        ".runner-partial-0",
    ];
    let mut script = String::new();
    for name in wrong {
        script += &format!("size c {name}\nread c {name} 0 1\nbegin c {name}\nremove c {name}\n");
    }
    check(&script, &vec!["!invalid"; wrong.len() * 4]);
}

#[test]
fn writes_are_few_their_own_and_bounded() {
    let mut script = String::new();
    let mut expected = Vec::new();
    for n in 1..=16 {
        script += &format!("begin c {n}\n");
        expected.push(n.to_string());
    }
    script +=
        "begin c 17\nfinish 3\nbegin c 17\nfinish 3\nwrite 99 x\nwrite 1 x\nfill 1 x 1048577\nfinish 1\nread c 1 0 9";
    let rest = ["!limit", "ok", "17", "!invalid", "!invalid", "ok", "!limit", "ok", "x"];
    expected.extend(rest.map(str::to_owned));
    check(&script, &expected.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn whoever_may_not_is_told_what_to_add() {
    let place =
        Place::new("c = { url = \"memory:\", mode = \"read\" }\nw = { url = \"memory:\", mode = \"read-write\" }");
    let script = "
        begin c a
        remove c a
        size w a
        names w _ _ 9
        read unknown a 0 1
        size nowhere a
        begin w a
        finish 1";
    place.check(script, &["!denied", "!denied", "!denied", "!denied", "!denied", "!denied", "1", "ok"]);
    let answers = place.answers(script);
    assert!(answers[0].contains("blobs.c = { url = \"file:…\", mode = \"write\" }"), "{}", answers[0]);
    assert!(answers[2].contains("`[allow.blobs] w = \"read\"` to the manifest"), "{}", answers[2]);
}

#[test]
fn a_run_that_is_stopped_leaves_no_half_of_a_blob() {
    let script = "begin c sub/half\nfill 1 x 1048576\nbegin c other\nspin";
    let place = Place::of_folder();
    place.times_out(script);
    soon("the folder is empty", || files(&place.blobs()).is_empty());

    let memory = Place::of_memory();
    // What unfinished writes reserved comes back, or the last of these would find no room.
    for _ in 0..8 {
        memory.times_out(&format!("begin c half\n{}spin", "fill 1 x 1048576\n".repeat(12)));
    }
    memory.check("names c _ _ 9", &[""]);

    let bucket = Bucket::start();
    let place = Place::of_bucket(&bucket);
    place.times_out(&format!("begin c half\n{}spin", "fill 1 x 1048576\n".repeat(7)));
    let begun = |asked: &str| asked.starts_with("POST /the-bucket/some/prefix/half?uploads");
    assert!(bucket.kept().asked.iter().any(|asked| begun(asked)), "{:?}", bucket.kept().asked);
    soon("the upload is aborted", || bucket.kept().uploads.is_empty());
    assert!(bucket.kept().objects.is_empty());
}

#[test]
fn a_run_that_answers_without_finishing_leaves_no_half_of_a_blob() {
    let place = Place::of_folder();
    place.check("begin c half\nwrite 1 x", &["1", "ok"]);
    soon("the folder is empty", || files(&place.blobs()).is_empty());
}

#[test]
fn of_two_runs_that_write_the_same_name_one_is_seen_whole() {
    let bucket = Bucket::start();
    for place in [Place::of_folder(), Place::of_memory(), Place::of_bucket(&bucket)] {
        let script = |letter: char| format!("begin c same\n{}finish 1", format!("fill 1 {letter} 262144\n").repeat(4));
        let runs = ('a'..='h').map(|letter| {
            let (plugin, request) = place.request(&script(letter));
            host().spawn(plugin, request)
        });
        let runs: Vec<_> = runs.collect();
        for run in runs {
            let report = super::block_on(run).unwrap();
            assert_eq!(report.outcome.name(), OutcomeName::Completed, "{:?}", report.outcome);
        }
        let answers = place.answers("sum c same 0 1048576\nread c same 0 1\nnames c _ _ 9");
        let letter = u32::from(answers[1].as_bytes()[0]);
        assert_eq!((answers[0].clone(), answers[2].as_str()), (format!("1048576 {}", letter << 20), "same"));
    }
}

#[test]
fn a_container_in_memory_is_bounded() {
    let place = Place::of_memory();
    let mut script = "begin c large\n".to_owned() + &"fill 1 x 1048576\n".repeat(63) + "finish 1\n";
    script += "begin c more\nfill 2 x 1048576\nfill 2 x 1\nremove c large\nbegin c more\nfill 3 x 1048576\nfinish 3";
    let mut expected = vec!["1"];
    expected.extend(["ok"; 64]);
    expected.extend(["2", "!limit", "!invalid", "ok", "3", "ok", "ok"]);
    place.check(&script, &expected);
}

#[test]
fn a_bucket_is_asked_with_signatures_below_its_prefix_and_a_page_at_a_time() {
    let bucket = Bucket::start();
    let place = Place::of_bucket(&bucket);
    {
        let mut kept = bucket.kept();
        kept.page_max = 2;
        for name in ["some/prefix/a", "some/prefix/b", "some/prefix/c", "some/prefixed", "other"] {
            kept.objects.insert(name.to_owned(), b"x".to_vec());
        }
    }
    place.check("names c _ _ 3\nnames c _ a 1\nread c a 0 9", &["a b c", "b", "x"]);
    let asked = bucket.kept().asked.clone();
    // Only requests with a signature are remembered. For three names in pages of two: two pages; for one: one.
    assert_eq!(asked.len(), 4, "{asked:?}");
    assert!(asked[2].contains("max-keys=1"), "{asked:?}");
}

#[test]
fn a_bucket_that_refuses_the_keys_or_is_not_there_is_unavailable() {
    let bucket = Bucket::start();
    let unsigned =
        format!("c = {{ url = \"s3://the-bucket\", mode = \"read\", endpoint = \"http://{}\" }}", bucket.address);
    let refused = "!unavailable: the container cannot be used now: it refuses the runner's keys";
    Place::new(&unsigned).check("size c a\nnames c _ _ 1", &[refused, "!unavailable"]);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let gone = format!("c = {{ url = \"s3://the-bucket\", mode = \"read\", endpoint = \"http://{closed}\" }}");
    let place = Place::new(&gone);
    place.check("size c a", &["!unavailable"]);
    let message = &place.answers("size c a")[0];
    assert!(!message.contains("127.0.0.1"), "a guest learns no address: {message}");
}
