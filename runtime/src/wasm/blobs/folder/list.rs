//! Names of a folder's blobs in order, a page at a time: of each folder on the way only the entries that can still be in
//! the page are kept, and folders that lie wholly before or beside it are not opened.
//!
//! A folder counts as its name with a slash, so that `a-b`, `a/b` and `ab` come in the order in which S3 has them.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};

use cap_std::fs::{Dir, DirEntry};

use super::super::name;

/// A folder on the way, and what is left of it.
struct Level {
    dir: Dir,
    /// What its blobs' names begin with; empty or with a slash at its end.
    path: String,
    entries: std::vec::IntoIter<String>,
    /// The last of the entries that were kept; none: all were.
    cut_at: Option<String>,
}

pub(super) fn names(root: &Dir, prefix: &str, after: Option<&str>, limit: usize) -> io::Result<Vec<String>> {
    let wanted = Wanted { root, prefix, after, limit };
    let mut found = Vec::new();
    let mut levels = vec![Level::read(root.try_clone()?, String::new(), None, &wanted)?];
    while let Some(level) = levels.last_mut() {
        let Some(entry) = level.entries.next() else {
            let done = levels.pop().expect("it is the last one, which was looked at");
            // More are in it than a page has names, and the page is not full: most were folders without blobs.
            if let Some(last) = done.cut_at {
                levels.push(Level::read(done.dir, done.path, Some(&last), &wanted)?);
            }
            continue;
        };
        let full = format!("{}{entry}", level.path);
        match entry.strip_suffix('/') {
            None => found.push(full),
            Some(name) => match level.dir.open_dir(name) {
                Ok(dir) => levels.push(Level::read(dir, full, None, &wanted)?),
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error),
            },
        }
        if found.len() == limit {
            break;
        }
    }
    Ok(found)
}

struct Wanted<'a> {
    root: &'a Dir,
    prefix: &'a str,
    after: Option<&'a str>,
    limit: usize,
}

impl Wanted<'_> {
    /// Whether a blob of this name, or one below this folder (a slash at its end), can be in the page.
    fn has(&self, full: &str) -> bool {
        let is_folder = full.ends_with('/');
        let is_beside = !(full.starts_with(self.prefix) || is_folder && self.prefix.starts_with(full));
        let is_before = self.after.is_some_and(|after| full <= after && !(is_folder && after.starts_with(full)));
        !is_beside && !is_before
    }

    /// The name of a file, or of a folder with a slash behind it. A link to a file is one where it stays in the container; a
    /// link to a folder is not followed, as it may lead in a circle.
    fn entry_name(&self, path: &str, entry: &DirEntry) -> io::Result<Option<String>> {
        let Ok(name) = entry.file_name().into_string() else { return Ok(None) };
        let kind = entry.file_type()?;
        if kind.is_dir() {
            return Ok(Some(name + "/"));
        }
        let is_file = kind.is_file()
            || (kind.is_symlink() && self.root.metadata(format!("{path}{name}")).is_ok_and(|found| found.is_file()));
        Ok(is_file.then_some(name))
    }
}

impl Level {
    /// The least entries of a folder that come behind `from` and can be in the page.
    fn read(dir: Dir, path: String, from: Option<&str>, wanted: &Wanted<'_>) -> io::Result<Self> {
        let mut least: BTreeSet<String> = BTreeSet::new();
        let mut cut = false;
        for entry in dir.entries()? {
            let entry = entry?;
            let Some(name) = wanted.entry_name(&path, &entry)? else { continue };
            let full = format!("{path}{name}");
            if from.is_some_and(|from| *name <= *from) || !wanted.has(&full) {
                continue;
            }
            if !name::is_name(full.strip_suffix('/').unwrap_or(&full)) {
                continue;
            }
            least.insert(name);
            if least.len() > wanted.limit {
                least.pop_last();
                cut = true;
            }
        }
        let cut_at = if cut { least.last().cloned() } else { None };
        Ok(Self { dir, path, entries: least.into_iter().collect::<Vec<_>>().into_iter(), cut_at })
    }
}

/// It was removed, or became something else, since its folder was read.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}
