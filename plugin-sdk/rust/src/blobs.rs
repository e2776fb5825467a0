//! Named stores of large values ("containers"), granted by the manifest's `[allow.blobs]`; where they lie is the operator's to
//! say. Not staged: a finished write stays, whatever the run's outcome, so a repeated run should write the same name; an
//! unfinished one is abandoned with the run. A blob is smaller than 4 GiB.
//!
//! What fits into memory goes with [`read_all`] and [`write()`]. What does not is read with a [`Reader`] and written with a
//! [`Writer`], which are `std::io`'s, so that decoders and encoders take them:
//!
//! ```
//! use runner_plugin::{CallError, Context, Failure, blobs};
//! use std::io::{BufRead, BufReader};
//!
//! fn count(name: String, cx: &Context) -> Result<usize, Failure> {
//!     let Some(log) = blobs::open(cx, "logs", &name).map_err(CallError::failure)? else {
//!         return Err(Failure::discard(format!("there is no log {name}")));
//!     };
//!     Ok(BufReader::new(log).lines().count())
//! }
//!
//! # use runner_plugin::test;
//! let cx = test::job("logs.count").blob("logs", "monday", b"one\ntwo\n").context();
//! assert_eq!(test::run(count, br#""monday""#, &cx), Ok(b"2".to_vec()));
//! ```
//!
//! Names have 1 to 1,024 bytes: parts between slashes, none of them empty, `.` or `..`, and none longer than 255 bytes.

use crate::{CallError, Context};
use std::io::{self, Read, Seek, SeekFrom, Write};

/// At most so much crosses in one call, in either direction.
pub const PART_BYTES_MAX: usize = 1 << 20;

/// What small writes are collected into.
const BUFFER_BYTES: usize = 64 << 10;

/// The blob's size in bytes; `None` if there is no such blob.
///
/// # Errors
/// `denied`, `invalid` (the name), `limit` (4 GiB or more), `unavailable`.
pub fn size(cx: &Context, container: &str, name: &str) -> Result<Option<u32>, CallError> {
    cx.host.blob_size(container, name)
}

/// A part of a blob, at most 1 MiB; shorter than `len` only at the end.
///
/// # Errors
/// `denied`, `invalid` (the name), `limit` (more than 1 MiB), `not_found`, `unavailable`.
pub fn read(cx: &Context, container: &str, name: &str, offset: u32, len: u32) -> Result<Vec<u8>, CallError> {
    cx.host.blob_read(container, name, offset, len)
}

/// The whole blob, read part by part into memory; `None` if there is no such blob.
///
/// # Errors
/// `limit` if it is larger than `bytes_max`; as [`read`].
pub fn read_all(cx: &Context, container: &str, name: &str, bytes_max: u32) -> Result<Option<Vec<u8>>, CallError> {
    let Some(mut reader) = open(cx, container, name)? else { return Ok(None) };
    if reader.size > bytes_max {
        return Err(CallError::new("limit", format_args!("{name} has {} bytes, more than {bytes_max}", reader.size)));
    }
    let mut data = Vec::with_capacity(reader.size as usize);
    loop {
        let part = reader.next(PART_BYTES_MAX)?;
        if part.is_empty() {
            return Ok(Some(data));
        }
        data.extend_from_slice(&part);
    }
}

/// Opens a blob to be read bit by bit; `None` if there is no such blob.
///
/// # Errors
/// As [`size`].
pub fn open<'cx>(cx: &'cx Context, container: &str, name: &str) -> Result<Option<Reader<'cx>>, CallError> {
    let reader = |size| Reader { cx, container: container.to_owned(), name: name.to_owned(), size, at: 0 };
    Ok(size(cx, container, name)?.map(reader))
}

/// A blob that is read from where it stands. Every read is a call of the runner: put it into a [`std::io::BufReader`] for
/// small ones. A blob that is replaced in the meantime is read on as the new one.
#[derive(Debug)]
pub struct Reader<'cx> {
    cx: &'cx Context,
    container: String,
    name: String,
    size: u32,
    at: u64,
}

impl Reader<'_> {
    /// In bytes, when it was opened.
    pub fn size(&self) -> u32 {
        self.size
    }

    fn next(&mut self, len: usize) -> Result<Vec<u8>, CallError> {
        let Ok(offset) = u32::try_from(self.at) else { return Ok(Vec::new()) };
        // The lesser of the two is a u32.
        let len = (len.min(PART_BYTES_MAX) as u32).min(self.size.saturating_sub(offset));
        if len == 0 {
            return Ok(Vec::new());
        }
        let part = read(self.cx, &self.container, &self.name, offset, len)?;
        self.at += part.len() as u64;
        Ok(part)
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = self.next(buffer.len()).map_err(io::Error::other)?;
        buffer[..part.len()].copy_from_slice(&part);
        Ok(part.len())
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => u64::from(self.size).checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "before the blob's beginning"))?;
        Ok(self.at)
    }
}

/// Writes a blob, part by part. It appears, or replaces the old one, as a whole.
///
/// # Errors
/// `denied`, `invalid` (the name), `limit`, `unavailable`.
pub fn write(cx: &Context, container: &str, name: &str, data: &[u8]) -> Result<(), CallError> {
    let mut writer = begin(cx, container, name)?;
    writer.write(data)?;
    writer.finish()
}

/// Opens a write, for data that is made bit by bit. A run has 16 open writes at most.
///
/// # Errors
/// As [`write()`].
pub fn begin<'cx>(cx: &'cx Context, container: &str, name: &str) -> Result<Writer<'cx>, CallError> {
    Ok(Writer { cx, number: cx.host.blob_begin(container, name)?, buffer: Vec::new() })
}

/// An open write; dropped unfinished, nothing appears. Small writes are collected, so it needs no [`std::io::BufWriter`].
#[derive(Debug)]
pub struct Writer<'cx> {
    cx: &'cx Context,
    number: u32,
    buffer: Vec<u8>,
}

impl Writer<'_> {
    /// The next bytes, as many as there are.
    ///
    /// # Errors
    /// As [`write()`]. If it is `unavailable`, the write is over.
    pub fn write(&mut self, data: &[u8]) -> Result<(), CallError> {
        if self.buffer.len() + data.len() > BUFFER_BYTES {
            self.send_buffer()?;
        }
        if data.len() > BUFFER_BYTES {
            return data.chunks(PART_BYTES_MAX).try_for_each(|part| self.cx.host.blob_write_part(self.number, part));
        }
        self.buffer.extend_from_slice(data);
        Ok(())
    }

    /// The blob appears, or replaces the old one, as a whole.
    ///
    /// # Errors
    /// As [`write()`].
    pub fn finish(mut self) -> Result<(), CallError> {
        self.send_buffer()?;
        self.cx.host.blob_finish(self.number)
    }

    fn send_buffer(&mut self) -> Result<(), CallError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let sent = self.cx.host.blob_write_part(self.number, &self.buffer);
        self.buffer.clear();
        sent
    }
}

impl Write for Writer<'_> {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Writer::write(self, data).map_err(io::Error::other)?;
        Ok(data.len())
    }

    /// Hands on what was collected; it is `finish` that lets the blob appear.
    fn flush(&mut self) -> io::Result<()> {
        self.send_buffer().map_err(io::Error::other)
    }
}

/// Removes a blob, if there is one.
///
/// # Errors
/// `denied`, `invalid` (the name), `unavailable`.
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
