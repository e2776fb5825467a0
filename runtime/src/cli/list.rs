//! Lists of jobs: NDJSON files, read and checked whole before anything is sent.
//!
//! Only the text is kept in memory. A line's args, which may be a file beside the list, are read again when the line is
//! sent; if such a file has changed since it was checked, that is an error.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use runner_store::job::{DependsOn, EdgePolicy, JobId, On, StateName, limits};
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use super::exit::Failure;
use crate::api::body;
use crate::api::new_job::{Extras, KindDefaults, NewJob};
use crate::api::read::{Bad, Object};

/// A list: what one machine reads into memory without thinking about it.
const LIST_BYTES_MAX: u64 = 1 << 30;
/// Complaints that are shown of one list.
const COMPLAINTS_MAX: usize = 20;

/// A list that was checked.
#[derive(Debug)]
pub(super) struct List {
    path: PathBuf,
    text: String,
    lines: Vec<Line>,
    digest: [u8; 32],
}

/// One job of a list.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// Its number in the file, from 1.
    pub(super) number: usize,
    /// The kind, and its column.
    pub(super) kind: String,
    /// Where the kind stands in the line.
    pub(super) kind_column: usize,
    /// Where `hold` stands in the line, if it is asked for.
    pub(super) hold_column: Option<usize>,
    /// The state in which it is meant to end.
    pub(super) expect: StateName,
    /// How many bytes its args have.
    pub(super) args_bytes: usize,
    /// What it waits for; positions are places in the whole list.
    depends_on: Vec<DependsOn>,
    at: Range<usize>,
    args_file: Option<ArgsFile>,
}

#[derive(Debug, Clone)]
struct ArgsFile {
    path: PathBuf,
    name: String,
    digest: [u8; 32],
    beside_args: bool,
}

/// Something that is wrong with a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// The line, from 1.
    pub(super) line: usize,
    /// The character in it, from 1.
    pub(super) column: usize,
    /// What is wrong.
    pub(super) why: String,
}

impl List {
    /// Reads and checks a list.
    ///
    /// # Errors
    /// The file cannot be read, is empty, or has lines that are wrong: each is named with line and column.
    pub(super) fn read(path: &Path) -> Result<Self, Failure> {
        let bytes = read_file(path, LIST_BYTES_MAX).map_err(|error| Failure::file(path, &error))?;
        let mut digest = Sha256::new_with_prefix(&bytes);
        let text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => return Err(not_utf8(path, &error)),
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        let (mut lines, mut complaints, mut wrong) = (Vec::new(), Vec::new(), 0_usize);
        for (number, at) in lines_of(&text) {
            match check(folder, number, &text[at.clone()], at)
                .and_then(|(line, at)| later(&line, at, lines.len()).map_or(Ok(line), Err))
            {
                Ok(line) => lines.push(line),
                Err(complaint) => {
                    wrong += 1;
                    if complaints.len() < COMPLAINTS_MAX {
                        complaints.push(complaint);
                    }
                }
            }
        }
        if wrong > 0 {
            return Err(refused(path, &complaints, wrong));
        }
        if lines.is_empty() {
            let message =
                format!("`{}` has no jobs; write one JSON object a line: {{\"kind\": \"…\"}}", path.display());
            return Err(Failure::usage(message));
        }
        for file in lines.iter().filter_map(|line| line.args_file.as_ref()) {
            digest.update(file.digest);
        }
        Ok(Self { path: path.to_owned(), text, lines, digest: digest.finalize().into() })
    }

    /// Its lines.
    #[must_use]
    pub(super) fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// SHA-256 of the file and of every file that it names.
    #[must_use]
    pub(super) fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Where it is.
    #[must_use]
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Checks that each of its jobs can be accepted later than it is answered.
    ///
    /// # Errors
    /// Lines that are unique or wait for others.
    pub(super) fn check_buffered(&self) -> Result<(), Failure> {
        let complaint = |line: &Line| {
            let text = &self.text[line.at.clone()];
            let object = object(text).ok()?;
            let (name, value) = ["unique", "depends_on"].iter().find_map(|name| Some((name, object.peek(name)?)))?;
            let why =
                format!("{name}: is not possible with --ack buffered: such a job is accepted later, and gets no id");
            Some(Complaint { line: line.number, column: column(text, value.at()), why })
        };
        let complaints: Vec<Complaint> = self.lines.iter().filter_map(complaint).collect();
        if complaints.is_empty() { Ok(()) } else { Err(self.refused(&complaints)) }
    }

    /// The job of a line, with its args. `sent` has the ids of the lines before its part: what it waits for among them
    /// is named by id, what stands in its part by the place there.
    ///
    /// # Errors
    /// The file of its args has changed since it was checked.
    pub(super) fn job(&self, line: &Line, sent: &[JobId]) -> Result<NewJob, Failure> {
        let job = self.job_as_written(line)?;
        let depends_on = job.depends_on.iter().map(|edge| in_part(*edge, sent)).collect();
        Ok(NewJob { depends_on, ..job })
    }

    fn job_as_written(&self, line: &Line) -> Result<NewJob, Failure> {
        let text = &self.text[line.at.clone()];
        let read = || {
            let (mut job, _) = parse(text)?;
            if let Some(file) = &line.args_file {
                let bytes = read_file(&file.path, limits::PAYLOAD_BYTES_MAX as u64).ok();
                let bytes = bytes.filter(|bytes| runner_store::sha256(bytes) == file.digest);
                let bytes = bytes.ok_or_else(|| Complaint {
                    line: line.number,
                    column: 1,
                    why: format!(
                        "`{}` has changed while the list was read; run the command again",
                        file.path.display()
                    ),
                })?;
                job.args = if file.beside_args { merged(&job.args, &file.name, &bytes) } else { bytes };
            }
            Ok(job)
        };
        read().map_err(|complaint: Complaint| refused(&self.path, &[Complaint { line: line.number, ..complaint }], 1))
    }

    /// The job of a line as the API takes it: without what only lists have, and with its args; `sent` is as for
    /// [`List::job`].
    ///
    /// # Errors
    /// As [`List::job`].
    pub(super) fn body(&self, line: &Line, sent: &[JobId]) -> Result<String, Failure> {
        let args = match &line.args_file {
            Some(_) => Some(self.job_as_written(line)?.args),
            None => None,
        };
        let by_place = line.depends_on.iter().any(|edge| matches!(edge.on, On::Position(_)));
        let object = object(&self.text[line.at.clone()]).map_err(|complaint| self.refused(&[complaint]))?;
        let own = |name: &str| {
            name != "expect"
                && name != "args_file"
                && (args.is_none() || name != "args")
                && !(by_place && name == "depends_on")
        };
        let mut fields: Vec<String> = object
            .into_rest()
            .iter()
            .filter(|(name, _)| own(name))
            .map(|(name, value)| format!("{}:{}", json_text(name), value.raw()))
            .collect();
        if by_place {
            let edges: Vec<_> = line.depends_on.iter().map(|edge| spelt(in_part(*edge, sent))).collect();
            fields.push(format!("\"depends_on\":{}", json!(edges)));
        }
        if let Some(args) = args {
            // As JSON where it is, so that it is shown as such; bytes stay the same either way.
            fields.push(match std::str::from_utf8(&args) {
                Ok(text) if serde_json::from_str::<&RawValue>(text).is_ok_and(|raw| raw.get() == text) => {
                    format!("\"args\":{text}")
                }
                _ => format!("\"args_base64\":\"{}\"", STANDARD.encode(&args)),
            });
        }
        Ok(format!("{{{}}}", fields.join(",")))
    }

    /// The ranges of lines that are sent together: at most so many jobs, and so many bytes unless one alone has more.
    #[must_use]
    pub(super) fn parts(&self, jobs_max: usize, bytes_max: usize) -> Vec<Range<usize>> {
        let mut parts = Vec::new();
        let (mut begin, mut bytes) = (0, 0);
        for (i, line) in self.lines.iter().enumerate() {
            let more = line.args_bytes + line.at.len();
            if i > begin && (i - begin == jobs_max || bytes + more > bytes_max) {
                parts.push(begin..i);
                (begin, bytes) = (i, 0);
            }
            bytes += more;
        }
        parts.push(begin..self.lines.len());
        parts
    }

    /// One or more complaints about lines, as an error.
    #[must_use]
    pub(super) fn refused(&self, complaints: &[Complaint]) -> Failure {
        refused(&self.path, &complaints[..complaints.len().min(COMPLAINTS_MAX)], complaints.len())
    }
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.line, self.column, self.why)
    }
}

/// The lines that are not blank, with their numbers; without BOM and line ends.
fn lines_of(text: &str) -> impl Iterator<Item = (usize, Range<usize>)> {
    let mut begin = if text.starts_with('\u{feff}') { '\u{feff}'.len_utf8() } else { 0 };
    let lines = text[begin..].split_inclusive('\n').enumerate().map(move |(i, line)| {
        let at = begin..begin + line.trim_end().len();
        begin += line.len();
        (i + 1, at)
    });
    lines.filter(|(_, at)| !at.is_empty())
}

/// A line of a list, and the column of what it waits for.
fn check(folder: &Path, number: usize, text: &str, at: Range<usize>) -> Result<(Line, usize), Complaint> {
    let (mut job, extras) = parse(text).map_err(|complaint| Complaint { line: number, ..complaint })?;
    let complain = |at: usize, why: String| Complaint { line: number, column: column(text, at), why };
    let mut args_bytes = job.args.len();
    let args_file = match &extras.args_file {
        Some((name, at)) => {
            let complain = |why| complain(*at, format!("args_file: {why}"));
            let (file, bytes) = args_file(folder, name, extras.has_args).map_err(complain)?;
            job.args = if extras.has_args { merged(&job.args, &file.name, &bytes) } else { bytes };
            args_bytes = job.args.len();
            if args_bytes > limits::PAYLOAD_BYTES_MAX {
                let why =
                    format!("makes args of {args_bytes} bytes; the limit is {} (1 MiB)", limits::PAYLOAD_BYTES_MAX);
                return Err(complain(why));
            }
            Some(file)
        }
        None => None,
    };
    let (kind, depends_on) = (job.kind.clone(), job.depends_on.clone());
    job.into_spec(&KindDefaults::default()).and_then(|spec| spec.check()).map_err(|invalid| {
        let name = invalid.field.split(['.', '[']).next().unwrap_or_default();
        let at = object(text).ok().and_then(|object| Some(object.peek(name)?.at()));
        complain(at.unwrap_or(0), invalid.to_string())
    })?;
    let hold_column = extras.hold_at.map(|at| column(text, at));
    let kind_column = column(text, extras.kind_at);
    let depends_on_column = column(text, extras.depends_on_at.unwrap_or_default());
    let expect = extras.expect;
    let line = Line { number, kind, kind_column, hold_column, expect, args_bytes, depends_on, at, args_file };
    Ok((line, depends_on_column))
}

/// A complaint if a line, which has this place in its list, waits for itself or for a later one: long lists are sent in
/// parts, and what is not sent yet has no id.
fn later(line: &Line, column: usize, place: usize) -> Option<Complaint> {
    let position = line.depends_on.iter().find_map(|edge| match edge.on {
        On::Position(position) if position as usize >= place => Some(position),
        _ => None,
    })?;
    let why = format!(
        "depends_on: position {position} is not an earlier job of the list; this is the one at position {place}, from 0"
    );
    Some(Complaint { line: line.number, column, why })
}

/// The same edge, once the jobs with these ids are sent: by id where it leads to one of them.
fn in_part(edge: DependsOn, sent: &[JobId]) -> DependsOn {
    let on = match edge.on {
        On::Job(job) => On::Job(job),
        On::Position(position) => match sent.get(position as usize) {
            Some(job) => On::Job(*job),
            None => On::Position(position.saturating_sub(u32::try_from(sent.len()).unwrap_or(u32::MAX))),
        },
    };
    DependsOn { on, ..edge }
}

/// An edge as the API spells it.
fn spelt(edge: DependsOn) -> serde_json::Value {
    let on_failure = match edge.on_failure {
        EdgePolicy::Cancel => "cancel",
        EdgePolicy::Run => "run",
    };
    match edge.on {
        On::Job(job) => json!({ "job": job.to_string(), "on_failure": on_failure }),
        On::Position(position) => json!({ "position": position, "on_failure": on_failure }),
    }
}

/// The job of a line; a complaint's line is not known here.
fn parse(text: &str) -> Result<(NewJob, Extras), Complaint> {
    let bad = |bad: Bad| {
        let why = if bad.field.is_empty() { bad.why } else { format!("{}: {}", bad.field, bad.why) };
        Complaint { line: 0, column: column(text, bad.at), why }
    };
    NewJob::read_line(object(text)?).map_err(bad)
}

fn object(text: &str) -> Result<Object<'_>, Complaint> {
    let raw: &RawValue = serde_json::from_str(text).map_err(|error| {
        // The place of an error is that of the character behind what was read.
        let at = error.column().saturating_sub(1).min(text.len());
        Complaint { line: 0, column: column(text, at), why: body::what(&error) }
    })?;
    Object::read(text, raw).map_err(|bad| {
        let why = if bad.field.is_empty() { bad.why } else { format!("{}: {}", bad.field, bad.why) };
        Complaint { line: 0, column: column(text, bad.at), why }
    })
}

/// The number of the character at a byte, from 1.
fn column(text: &str, at: usize) -> usize {
    text.char_indices().take_while(|(i, _)| *i < at).count() + 1
}

fn args_file(folder: &Path, name: &str, beside_args: bool) -> Result<(ArgsFile, Vec<u8>), String> {
    let relative = Path::new(name);
    if relative.components().any(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) || name.is_empty() {
        return Err(format!("{name:?} must be the path of a file in the list's folder or below it"));
    }
    let path = folder.join(relative);
    let bytes = read_file(&path, limits::PAYLOAD_BYTES_MAX as u64).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => format!("`{}` does not exist", path.display()),
        _ => format!("`{}`: {error}", path.display()),
    })?;
    let name = relative.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let digest = runner_store::sha256(&bytes);
    Ok((ArgsFile { path, name, digest, beside_args }, bytes))
}

/// The object of args with the content of a file in it.
fn merged(args: &[u8], name: &str, bytes: &[u8]) -> Vec<u8> {
    let open = args.trim_ascii_end().strip_suffix(b"}").unwrap_or(args).trim_ascii_end();
    let name = json_text(name);
    let mut merged = open.to_vec();
    if open.trim_ascii() != b"{" {
        merged.extend_from_slice(b", ");
    }
    merged.extend_from_slice(
        format!("\"file_base64\": \"{}\", \"file_name\": {name}}}", STANDARD.encode(bytes)).as_bytes(),
    );
    merged
}

fn json_text(text: &str) -> String {
    serde_json::to_string(text).expect("a text is JSON")
}

/// Reads a regular file of at most so many bytes. Looks before it opens: opening a pipe would wait for its writer.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> std::io::Result<Vec<u8>> {
    let other = |why: String| std::io::Error::other(why);
    let found = std::fs::metadata(path)?;
    if !found.is_file() {
        return Err(other(if found.is_dir() { "it is a folder" } else { "it is a pipe, socket or device" }.to_owned()));
    }
    if found.len() > bytes_max {
        return Err(other(format!("it has {} bytes; the limit is {bytes_max}", found.len())));
    }
    let mut bytes = Vec::new();
    // It may grow while it is read; one byte more than allowed shows that it has.
    File::open(path)?.take(bytes_max + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > bytes_max {
        return Err(other(format!("it has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

fn not_utf8(path: &Path, error: &std::string::FromUtf8Error) -> Failure {
    let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
    let line = good.iter().filter(|byte| **byte == b'\n').count() + 1;
    let begin = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let column = String::from_utf8_lossy(&good[begin..]).chars().count() + 1;
    refused(path, &[Complaint { line, column, why: "is not UTF-8 text".to_owned() }], 1)
}

fn refused(path: &Path, complaints: &[Complaint], wrong: usize) -> Failure {
    let mut lines: Vec<String> = complaints.iter().map(|complaint| format!("{}:{complaint}", path.display())).collect();
    if wrong > complaints.len() {
        lines.push(format!("… and {} more lines that are wrong", wrong - complaints.len()));
    }
    lines.push("nothing was enqueued".to_owned());
    Failure::usage(lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&[usize], &str>) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.bin"), [255, 0]).unwrap();
        std::fs::write(dir.path().join("big"), vec![b' '; limits::PAYLOAD_BYTES_MAX + 1]).unwrap();
        let path = dir.path().join("jobs.ndjson");
        std::fs::write(&path, text).unwrap();
        match (List::read(&path), expected) {
            (Ok(list), Ok(expected)) => {
                assert_eq!(list.lines().iter().map(|line| line.number).collect::<Vec<_>>(), expected);
            }
            (Err(failure), Err(expected)) => assert!(failure.message.contains(expected), "{}", failure.message),
            (list, _) => panic!("{list:?}"),
        }
    }

    #[test]
    fn blank_lines_a_bom_and_crlf_are_tolerated() {
        check("\u{feff}{\"kind\":\"a\"}\r\n\r\n  \n{\"kind\":\"b\", \"expect\": \"discarded\"}", Ok(&[1, 4]));
        check("", Err("has no jobs"));
        check("\n\n", Err("has no jobs"));
    }

    #[test]
    fn what_is_wrong_is_named_with_line_and_column() {
        check("{\"kind\":\"a\"}\n\n{\"kind\":\"ä\" \"x\"}", Err("jobs.ndjson:3:13: expected `,` or `}`"));
        check("{\"kind\":\"a\"", Err("jobs.ndjson:1:11: EOF while parsing an object"));
        check(
            "{\"kind\":\"a\", \"expct\":1}",
            Err("jobs.ndjson:1:22: expct: is no known field; did you mean `expect`?"),
        );
        check("{\"kind\":\"a\", \"tags\":{\"é\":1}}", Err("jobs.ndjson:1:26: tags.é: must be a text; it is 1"));
        check("{\"kind\":\"a b\"}", Err("jobs.ndjson:1:9: kind: \"a b\" has ' ' in it"));
        check("{\"kind\":\"a\", \"expect\":\"complete\"}", Err("did you mean `completed`?"));
        check("[]", Err("jobs.ndjson:1:1: must be an object"));
        check("{\"kind\":\"a\"} {}", Err("jobs.ndjson:1:14: trailing characters"));
        check(&"x\n".repeat(25), Err("… and 5 more lines that are wrong\nnothing was enqueued"));
    }

    #[test]
    fn args_files_stay_below_the_list() {
        let line = |file: &str| format!("{{\"kind\":\"a\", \"args_file\":\"{file}\"}}");
        check(&line("a.bin"), Ok(&[1]));
        check(&line("../a.bin"), Err("jobs.ndjson:1:26: args_file: \"../a.bin\" must be the path of a file in"));
        check(&line("/etc/passwd"), Err("must be the path of a file in the list's folder"));
        check(&line("none"), Err("none` does not exist"));
        check(&line("."), Err("it is a folder"));
        check(&line("big"), Err("it has 1048577 bytes; the limit is 1048576"));
        check("{\"kind\":\"a\",\"args_file\":\"a.bin\",\"args\":[]}", Err("must be an object beside `args_file`"));
    }

    #[test]
    fn a_file_goes_into_an_object_of_args() {
        let text = |args: &[u8]| String::from_utf8(merged(args, "a.\"jpg", &[1])).unwrap();
        assert_eq!(text(b"{ }"), r#"{"file_base64": "AQ==", "file_name": "a.\"jpg"}"#);
        assert_eq!(text(b"{\"w\": 1}"), r#"{"w": 1, "file_base64": "AQ==", "file_name": "a.\"jpg"}"#);
    }
}
