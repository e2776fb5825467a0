//! `blobs`: named stores of large values. Nothing is staged: a finished write stays whatever the run's outcome, an unfinished
//! one is dropped with the run.
//!
//! What may be done is checked at every call but those of an open write, which was granted when it began. Containers may
//! wait for a disk or a network, so these calls are async: the guest's thread is somebody else's in the meantime.

use std::error::Error;
use std::sync::Arc;

use super::contract::runner::plugin::blobs::Host;
use super::{CallError, Job, call_error};
use crate::wasm::blobs::{BlobError, BlobName, Container};

impl Host for Job {
    async fn size(&mut self, container: String, name: String) -> Result<Option<u32>, CallError> {
        let (found, name) = (self.container(&container, false).await?, blob_name(name)?);
        found.size(&name).await.map_err(|error| self.blob_error(Some(&container), error))
    }

    async fn read(&mut self, container: String, name: String, offset: u32, len: u32) -> Result<Vec<u8>, CallError> {
        let (found, name) = (self.container(&container, false).await?, blob_name(name)?);
        found.read(&name, offset, len).await.map_err(|error| self.blob_error(Some(&container), error))
    }

    async fn begin(&mut self, container: String, name: String) -> Result<u32, CallError> {
        let (found, name) = (self.container(&container, true).await?, blob_name(name)?);
        self.writers.begin(&found, name).await.map_err(|error| self.blob_error(Some(&container), error))
    }

    async fn write_part(&mut self, writer: u32, data: Vec<u8>) -> Result<(), CallError> {
        self.writers.write_part(writer, data).await.map_err(|error| self.blob_error(None, error))
    }

    async fn finish(&mut self, writer: u32) -> Result<(), CallError> {
        self.writers.finish(writer).await.map_err(|error| self.blob_error(None, error))
    }

    async fn remove(&mut self, container: String, name: String) -> Result<(), CallError> {
        let (found, name) = (self.container(&container, true).await?, blob_name(name)?);
        found.remove(&name).await.map_err(|error| self.blob_error(Some(&container), error))
    }

    async fn names(
        &mut self,
        container: String,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> Result<Vec<String>, CallError> {
        let found = self.container(&container, false).await?;
        found.names(prefix, after, limit).await.map_err(|error| self.blob_error(Some(&container), error))
    }
}

impl Job {
    /// The container, if the run may do this with it.
    async fn container(&mut self, name: &str, write: bool) -> Result<Arc<Container>, CallError> {
        let grants = Arc::clone(&self.staged.grants);
        let place = match grants.blob(name, write) {
            Ok(place) => place,
            Err(denied) => return Err(self.denied(&denied)),
        };
        place.open().await.map_err(|error| self.blob_error(Some(name), error))
    }

    /// What the guest may know of it; the operator reads the rest, once a run, as guests try again.
    fn blob_error(&mut self, container: Option<&str>, error: BlobError) -> CallError {
        if let BlobError::Unavailable { source, .. } = &error
            && !std::mem::replace(&mut self.writers.complained, true)
        {
            let tenant = &self.staged.grants.tenant().name;
            tracing::warn!(tenant, container, %error, source = %chain(source.as_ref()), "a container of blobs failed");
        }
        call_error(error.code(), error.to_string())
    }
}

/// An error with its causes, in one line.
fn chain<'a>(error: &'a (dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source());
    causes.map(|cause| cause.to_string().replace('\n', " ")).collect::<Vec<_>>().join(": ")
}

fn blob_name(name: String) -> Result<BlobName, CallError> {
    BlobName::new(name).map_err(|why| call_error("invalid", why))
}
