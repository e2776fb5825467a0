//! Names of blobs: the same rules for every container, so that a plugin works with whichever it is given.

use std::fmt;

/// What S3 keeps.
pub(super) const NAME_BYTES_MAX: usize = 1_024;
/// What file systems keep of a part between slashes.
const PART_BYTES_MAX: usize = 255;
/// Parts between slashes: a list of names holds a folder open for each.
const PARTS_MAX: usize = 32;
/// How much of a wrong name is repeated to whoever gave it.
const SHOWN_CHARS_MAX: usize = 64;
/// What the files of unfinished writes in a folder are called, with something behind it.
pub(super) const PARTIAL: &str = ".runner-partial-";

/// A name that every container can keep: parts between slashes, none of which leads anywhere else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct BlobName(String);

impl BlobName {
    /// A name, or one sentence about what is wrong with it.
    pub(crate) fn new(name: String) -> Result<Self, String> {
        match problem(&name) {
            None => Ok(Self(name)),
            Some(problem) => {
                let shown: String = name.chars().take(SHOWN_CHARS_MAX).collect();
                Err(format!("`{}` is no name of a blob: {problem}", shown.escape_debug()))
            }
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder that it is in, if it is in one, and the rest.
    pub(super) fn split(&self) -> (Option<&str>, &str) {
        self.0.rsplit_once('/').map_or((None, self.as_str()), |(folder, last)| (Some(folder), last))
    }
}

impl fmt::Display for BlobName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether a container may have a blob of this name.
pub(super) fn is_name(name: &str) -> bool {
    problem(name).is_none()
}

fn problem(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("it is empty".to_owned());
    }
    if name.len() > NAME_BYTES_MAX {
        return Some(format!("it has {} bytes, at most {NAME_BYTES_MAX} are allowed", name.len()));
    }
    if name.split('/').nth(PARTS_MAX).is_some() {
        return Some(format!("it has more than {PARTS_MAX} parts"));
    }
    if name.chars().any(char::is_control) {
        return Some("it has a control character".to_owned());
    }
    if name.starts_with(PARTIAL) {
        return Some(format!("`{PARTIAL}` is what unfinished writes are called"));
    }
    name.split('/').find_map(|part| match part {
        "" => Some("it begins or ends with a slash, or has two of them in a row".to_owned()),
        "." | ".." => Some(format!("`{part}` leads elsewhere")),
        part if part.len() > PART_BYTES_MAX => {
            Some(format!("a part between slashes has {} bytes, at most {PART_BYTES_MAX} are allowed", part.len()))
        }
        _ => None,
    })
}
