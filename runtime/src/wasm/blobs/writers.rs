//! The unfinished writes of one run: numbered, few, and bounded in what they hold in memory.

use std::collections::BTreeMap;

use super::{BLOB_BYTES_MAX, BlobError, BlobName, CALL_BYTES_MAX, Container, Writer};

/// Unfinished writes of one run.
const WRITERS_MAX: usize = 16;
/// What they hold in the process's memory together, if their container takes large parts only.
const HELD_BYTES_MAX: usize = 16 << 20;

/// Dropped with its run, and all of them with it.
#[derive(Debug, Default)]
pub(crate) struct Writers {
    open: BTreeMap<u32, Open>,
    last: u32,
    /// The operator was told that a container failed.
    pub(crate) complained: bool,
}

#[derive(Debug)]
struct Open {
    writer: Writer,
    written: u64,
}

impl Writers {
    /// Opens a write and answers its number, which no other of the run has had.
    pub(crate) async fn begin(&mut self, container: &Container, name: BlobName) -> Result<u32, BlobError> {
        if self.open.len() >= WRITERS_MAX {
            return Err(BlobError::Limit(format!("more than {WRITERS_MAX} open writes in one run; finish one")));
        }
        let writer = container.begin(name).await?;
        // A run has fewer host calls than there are numbers.
        self.last += 1;
        self.open.insert(self.last, Open { writer, written: 0 });
        Ok(self.last)
    }

    /// Takes the next part. Where the container fails, the write is over and nothing is left of it.
    pub(crate) async fn write_part(&mut self, number: u32, data: Vec<u8>) -> Result<(), BlobError> {
        let bytes = data.len();
        if bytes > CALL_BYTES_MAX {
            return Err(BlobError::Limit(format!("a part of {bytes} bytes; at most {CALL_BYTES_MAX}")));
        }
        let held: usize = self.open.values().map(|open| open.writer.held_bytes()).sum();
        let written = self.open.get(&number).ok_or_else(|| none(number))?.written.saturating_add(bytes as u64);
        if written > BLOB_BYTES_MAX {
            return Err(BlobError::Limit("a blob of 4 GiB or more".to_owned()));
        }
        if held.saturating_add(bytes) > HELD_BYTES_MAX {
            let why = format!("more than {HELD_BYTES_MAX} bytes wait in the open writes of this run; finish one");
            return Err(BlobError::Limit(why));
        }
        let Some(Open { writer, .. }) = self.open.remove(&number) else { return Err(none(number)) };
        let writer = writer.write(data).await?;
        self.open.insert(number, Open { writer, written });
        Ok(())
    }

    /// The blob appears as a whole, or an error says why not and nothing is left of it.
    pub(crate) async fn finish(&mut self, number: u32) -> Result<(), BlobError> {
        let Some(Open { writer, .. }) = self.open.remove(&number) else { return Err(none(number)) };
        writer.finish().await
    }
}

fn none(number: u32) -> BlobError {
    BlobError::Invalid(format!("{number} is no open write of this run"))
}

#[cfg(test)]
mod tests {
    use super::super::memory::Memory;
    use super::*;

    #[tokio::test]
    async fn a_blob_ends_below_4_gib_and_can_still_be_finished() {
        let container = Container::Memory(Memory::default());
        let mut writers = Writers::default();
        let name = BlobName::new("a".to_owned()).expect("is a name");
        let number = writers.begin(&container, name).await.expect("begins");
        writers.open.get_mut(&number).expect("is open").written = BLOB_BYTES_MAX - 1;
        let refused = writers.write_part(number, b"xy".to_vec()).await.expect_err("is one too many");
        assert_eq!(refused.code(), "limit");
        writers.write_part(number, b"x".to_vec()).await.expect("is the last that fits");
        writers.finish(number).await.expect("is finished");
    }
}
