//! Named stores of large values, granted by the manifest's `[allow.blobs]`. Not staged: a finished write stays, whatever the
//! run's outcome; an unfinished one is abandoned with the run. A blob is smaller than 4 GiB.

use crate::{CallError, Context};

/// At most so much crosses in one call, in either direction.
pub const PART_BYTES_MAX: usize = 1 << 20;

/// The blob's size in bytes; `None` if there is no such blob.
///
/// # Errors
/// `denied`, `unavailable`.
pub fn size(cx: &Context, container: &str, name: &str) -> Result<Option<u32>, CallError> {
    cx.host.blob_size(container, name)
}

/// A part of a blob, at most 1 MiB; shorter than `len` only at the end.
///
/// # Errors
/// `denied`, `not_found`, `unavailable`.
pub fn read(cx: &Context, container: &str, name: &str, offset: u32, len: u32) -> Result<Vec<u8>, CallError> {
    cx.host.blob_read(container, name, offset, len)
}

/// The whole blob, read part by part into memory; `None` if there is no such blob.
///
/// # Errors
/// `limit` if it is larger than `bytes_max`; as [`read`].
pub fn read_all(cx: &Context, container: &str, name: &str, bytes_max: u32) -> Result<Option<Vec<u8>>, CallError> {
    let Some(size) = size(cx, container, name)? else { return Ok(None) };
    if size > bytes_max {
        return Err(CallError::new("limit", format_args!("{name} has {size} bytes, more than {bytes_max}")));
    }
    let mut data = Vec::with_capacity(size as usize);
    while data.len() < size as usize {
        // Both fit: `data` is shorter than `size`, which is a u32.
        let part = read(cx, container, name, data.len() as u32, PART_BYTES_MAX as u32)?;
        if part.is_empty() {
            break;
        }
        data.extend_from_slice(&part);
    }
    Ok(Some(data))
}

/// Writes a blob, part by part. It appears, or replaces the old one, as a whole.
///
/// # Errors
/// `denied`, `limit`, `unavailable`.
pub fn write(cx: &Context, container: &str, name: &str, data: &[u8]) -> Result<(), CallError> {
    let writer = begin(cx, container, name)?;
    for part in data.chunks(PART_BYTES_MAX) {
        writer.write(part)?;
    }
    writer.finish()
}

/// Opens a write, for data that is made bit by bit.
///
/// # Errors
/// As [`write()`].
pub fn begin<'cx>(cx: &'cx Context, container: &str, name: &str) -> Result<Writer<'cx>, CallError> {
    Ok(Writer { cx, number: cx.host.blob_begin(container, name)? })
}

/// An open write; dropped unfinished, nothing appears.
#[derive(Debug)]
pub struct Writer<'cx> {
    cx: &'cx Context,
    number: u32,
}

impl Writer<'_> {
    /// The next part, up to 1 MiB.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn write(&self, data: &[u8]) -> Result<(), CallError> {
        self.cx.host.blob_write_part(self.number, data)
    }

    /// The blob appears, or replaces the old one, as a whole.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn finish(self) -> Result<(), CallError> {
        self.cx.host.blob_finish(self.number)
    }
}

/// Removes a blob.
///
/// # Errors
/// `denied`, `unavailable`.
pub fn remove(cx: &Context, container: &str, name: &str) -> Result<(), CallError> {
    cx.host.blob_remove(container, name)
}

/// Names that begin with `prefix`, ascending, after `after`, at most `limit` and at most 1,000.
///
/// # Errors
/// `denied`, `unavailable`.
pub fn names(
    cx: &Context,
    container: &str,
    prefix: &str,
    after: Option<&str>,
    limit: u32,
) -> Result<Vec<String>, CallError> {
    cx.host.blob_names(container, prefix, after, limit)
}
