//! Containers in memory, with the contract's rules: names, sizes of parts, open writes.

use super::{Answer, CALL_BYTES_MAX, Host, page, within};
use crate::CallError;

/// Open writes of a run.
const WRITERS_MAX: usize = 16;
/// A name, and a part of it between slashes, in bytes.
const NAME_BYTES_MAX: usize = 1_024;
const NAME_PART_BYTES_MAX: usize = 255;

/// Writes by their numbers, from 1; finished ones are `None`: container, name, what came so far.
pub(super) type Writers = Vec<Option<(String, String, Vec<u8>)>>;

impl Host {
    pub(crate) fn blob_size(&self, container: &str, name: &str) -> Answer<Option<u32>> {
        self.granted("blobs")?;
        let blobs = &self.recorded.borrow().blobs;
        Ok(blobs.get(&key(container, name)?).map(|data| data.len() as u32))
    }

    pub(crate) fn blob_read(&self, container: &str, name: &str, offset: u32, len: u32) -> Answer<Vec<u8>> {
        self.granted("blobs")?;
        within("a read", len as usize, CALL_BYTES_MAX)?;
        let blobs = &self.recorded.borrow().blobs;
        let no_such = || CallError::new("not_found", format_args!("there is no blob {name} in {container}"));
        let data = blobs.get(&key(container, name)?).ok_or_else(no_such)?;
        let from = data.len().min(offset as usize);
        let to = data.len().min(from + len as usize);
        Ok(data[from..to].to_vec())
    }

    pub(crate) fn blob_begin(&self, container: &str, name: &str) -> Answer<u32> {
        self.granted("blobs")?;
        let (container, name) = key(container, name)?;
        let mut writers = self.writers.borrow_mut();
        if writers.iter().flatten().count() >= WRITERS_MAX {
            return Err(CallError::new("limit", format_args!("more than {WRITERS_MAX} open writes in one run")));
        }
        writers.push(Some((container, name, vec![])));
        Ok(writers.len() as u32)
    }

    pub(crate) fn blob_write_part(&self, writer: u32, data: &[u8]) -> Answer<()> {
        within("a part", data.len(), CALL_BYTES_MAX)?;
        let mut writers = self.writers.borrow_mut();
        let open = writers.get_mut((writer as usize).wrapping_sub(1)).and_then(Option::as_mut);
        let (_, _, written) = open.ok_or_else(|| no_writer(writer))?;
        written.extend_from_slice(data);
        Ok(())
    }

    pub(crate) fn blob_finish(&self, writer: u32) -> Answer<()> {
        let mut writers = self.writers.borrow_mut();
        let open = writers.get_mut((writer as usize).wrapping_sub(1)).and_then(Option::take);
        let (container, name, data) = open.ok_or_else(|| no_writer(writer))?;
        self.recorded.borrow_mut().blobs.insert((container, name), data);
        Ok(())
    }

    pub(crate) fn blob_remove(&self, container: &str, name: &str) -> Answer<()> {
        self.granted("blobs")?;
        self.recorded.borrow_mut().blobs.remove(&key(container, name)?);
        Ok(())
    }

    pub(crate) fn blob_names(
        &self,
        container: &str,
        prefix: &str,
        after: Option<&str>,
        limit: u32,
    ) -> Answer<Vec<String>> {
        self.granted("blobs")?;
        let recorded = self.recorded.borrow();
        let names = recorded.blobs.keys().filter(|(of, _)| of == container).map(|(_, name)| name.as_str());
        Ok(page(names, prefix, after, limit))
    }
}

/// Where a blob is kept, if its name is one.
fn key(container: &str, name: &str) -> Answer<(String, String)> {
    let is_part = |part: &str| !matches!(part, "" | "." | "..") && part.len() <= NAME_PART_BYTES_MAX;
    let is_name = name.len() <= NAME_BYTES_MAX && !name.chars().any(char::is_control) && name.split('/').all(is_part);
    if !is_name {
        return Err(CallError::new("invalid", format_args!("{name:?} is no name of a blob")));
    }
    Ok((container.to_owned(), name.to_owned()))
}

fn no_writer(writer: u32) -> CallError {
    CallError::new("invalid", format_args!("{writer} is no open write"))
}
