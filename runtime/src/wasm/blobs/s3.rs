//! A container that is a bucket of S3, or of whoever speaks like it, through the crate `object_store`: it signs, tries again
//! and pages. What is small goes in one request, what is larger in parts; an upload that is dropped unfinished is aborted.
//!
//! If the process is killed, parts stay on the server, unseen: buckets have a rule for that (`AbortIncompleteMultipartUpload`).

mod connect;

use std::sync::Arc;
use std::time::Duration;

use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use object_store::{BackoffConfig, Error, MultipartUpload, ObjectStoreExt as _, PutPayload, RetryConfig};
use tokio::time::timeout;

use self::connect::Connector;
use super::{BlobError, BlobName, name, unavailable};
use crate::wasm::grants::Bucket;

/// Parts of an upload, but for the last: more than the 5 MiB that S3 demands, and all of one size, as others demand.
const PART_BYTES: usize = 6 << 20;
/// Where a bucket lies of which nothing is said.
const REGION_DEFAULT: &str = "us-east-1";
/// One call, all its attempts together.
const CALL_WITHIN: Duration = Duration::from_secs(60);
/// How long a call may go on trying.
const RETRY_WITHIN: Duration = Duration::from_secs(20);
const RETRIES_MAX: usize = 4;
const BACKOFF_MAX: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug, Clone)]
pub(crate) struct S3 {
    store: Arc<AmazonS3>,
    /// Empty, or with a slash at its end.
    prefix: String,
}

/// A blob that is being written.
#[derive(Debug)]
pub(crate) struct S3Writer {
    s3: S3,
    name: BlobName,
    data: Vec<u8>,
    upload: Option<Upload>,
}

/// An upload that the server knows of; dropped, it is aborted.
#[derive(Debug)]
struct Upload(Option<Box<dyn MultipartUpload>>);

impl S3 {
    /// Asks nobody yet. Reads the certificates that the machine trusts: not for async code.
    pub(super) fn open(bucket: &Bucket) -> Result<Self, BlobError> {
        let endpoint = bucket.endpoint.as_deref();
        let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
        let backoff = BackoffConfig { max_backoff: BACKOFF_MAX, ..BackoffConfig::default() };
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(bucket.region.as_deref().unwrap_or(REGION_DEFAULT))
            // What speaks like S3 seldom has names of hosts for buckets.
            .with_virtual_hosted_style_request(false)
            .with_allow_http(is_plain)
            .with_disable_bulk_delete(true)
            .with_retry(RetryConfig { backoff, max_retries: RETRIES_MAX, retry_timeout: RETRY_WITHIN })
            .with_http_connector(Connector { is_plain });
        if let Some(endpoint) = endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
        }
        builder = match &bucket.keys {
            Some((id, key)) => builder.with_access_key_id(id.reveal()).with_secret_access_key(key.reveal()),
            None => builder.with_skip_signature(true),
        };
        let store = builder.build().map_err(|error| unavailable("its settings are wrong", error))?;
        let prefix = if bucket.prefix.is_empty() { String::new() } else { format!("{}/", bucket.prefix) };
        Ok(Self { store: Arc::new(store), prefix })
    }

    pub(super) async fn size(&self, name: &BlobName) -> Result<Option<u64>, BlobError> {
        let path = self.path(name)?;
        match call(name, self.store.head(&path)).await {
            Ok(found) => Ok(Some(found.size)),
            Err(BlobError::NotFound(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(super) async fn read(&self, name: &BlobName, offset: u32, len: u32) -> Result<Vec<u8>, BlobError> {
        let (from, to) = (u64::from(offset), u64::from(offset) + u64::from(len));
        let path = self.path(name)?;
        if len > 0 {
            match call(name, self.store.get_range(&path, from..to)).await {
                Ok(data) => return Ok(data.into()),
                Err(BlobError::Unavailable { said, source }) => {
                    // To read behind the end is an error there, and has no name of its own.
                    return match self.size(name).await? {
                        Some(size) if from >= size => Ok(Vec::new()),
                        _ => Err(BlobError::Unavailable { said, source }),
                    };
                }
                Err(error) => return Err(error),
            }
        }
        match self.size(name).await? {
            Some(_) => Ok(Vec::new()),
            None => Err(BlobError::NotFound(name.clone())),
        }
    }

    pub(super) fn begin(&self, name: BlobName) -> S3Writer {
        S3Writer { s3: self.clone(), name, data: Vec::new(), upload: None }
    }

    pub(super) async fn remove(&self, name: &BlobName) -> Result<(), BlobError> {
        let path = self.path(name)?;
        match call(name, self.store.delete(&path)).await {
            Err(BlobError::NotFound(_)) => Ok(()),
            done => done,
        }
    }

    pub(super) async fn names(
        &self,
        prefix: &str,
        after: Option<String>,
        limit: usize,
    ) -> Result<Vec<String>, BlobError> {
        let whole = format!("{}{prefix}", self.prefix);
        let asked = (!whole.is_empty()).then_some(whole.as_str());
        let mut found: Vec<String> = Vec::new();
        let mut last = after;
        let mut page_token = None;
        loop {
            let options = PaginatedListOptions {
                offset: last.as_ref().map(|last| format!("{}{last}", self.prefix)),
                max_keys: Some(limit - found.len()),
                page_token,
                ..PaginatedListOptions::default()
            };
            let page = timeout(CALL_WITHIN, self.store.list_paginated(asked, options)).await;
            let page = page.map_err(|late| unavailable("it does not answer", late))?.map_err(failed)?;
            for object in page.result.objects {
                let Some(name) = object.location.as_ref().strip_prefix(&self.prefix) else { continue };
                // Others may keep what is no name here; `x/`, which some take for a folder, comes without its slash.
                if name::is_name(name) && last.as_deref().is_none_or(|last| name > last) {
                    last = Some(name.to_owned());
                    found.push(name.to_owned());
                }
            }
            page_token = page.page_token;
            if page_token.is_none() || found.len() >= limit {
                return Ok(found);
            }
        }
    }

    fn path(&self, name: &BlobName) -> Result<Path, BlobError> {
        // As it stands: the other way of making one would encode what some tools find hard to read.
        Path::parse(format!("{}{name}", self.prefix)).map_err(|error| BlobError::Invalid(error.to_string()))
    }
}

impl S3Writer {
    pub(super) fn held_bytes(&self) -> usize {
        self.data.len()
    }

    pub(super) async fn write(mut self, data: &[u8]) -> Result<Self, BlobError> {
        self.data.extend_from_slice(data);
        while self.data.len() >= PART_BYTES {
            let rest = self.data.split_off(PART_BYTES);
            let part = std::mem::replace(&mut self.data, rest);
            self.put_part(part).await?;
        }
        Ok(self)
    }

    pub(super) async fn finish(mut self) -> Result<(), BlobError> {
        let rest = std::mem::take(&mut self.data);
        if self.upload.is_none() {
            let path = self.s3.path(&self.name)?;
            return call(&self.name, self.s3.store.put(&path, rest.into())).await.map(drop);
        }
        if !rest.is_empty() {
            self.put_part(rest).await?;
        }
        let Some(Upload(Some(upload))) = &mut self.upload else { return Ok(()) };
        call(&self.name, upload.complete()).await?;
        // Nothing to abort any more.
        self.upload = self.upload.take().and_then(Upload::done);
        Ok(())
    }

    async fn put_part(&mut self, part: Vec<u8>) -> Result<(), BlobError> {
        if self.upload.is_none() {
            self.upload = Some(Upload::begin(&self.s3, &self.name).await?);
        }
        let Some(Upload(Some(upload))) = &mut self.upload else { return Ok(()) };
        call(&self.name, upload.put_part(PutPayload::from(part))).await
    }
}

impl Upload {
    /// Begun by a task of its own: if nobody waits for it any more when the server answers, it is aborted.
    async fn begin(s3: &S3, name: &BlobName) -> Result<Self, BlobError> {
        let (store, path, named) = (Arc::clone(&s3.store), s3.path(name)?, name.clone());
        let begun = tokio::spawn(async move {
            let begun = call(&named, store.put_multipart(&path)).await;
            begun.map(|upload| Self(Some(upload)))
        });
        begun.await.unwrap_or_else(|error| Err(unavailable("it was given up", error)))
    }

    /// It is complete.
    fn done(mut self) -> Option<Self> {
        self.0 = None;
        None
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let Some(mut upload) = self.0.take() else { return };
        // Without a runtime the process ends; see the module.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        runtime.spawn(async move {
            match timeout(CALL_WITHIN, upload.abort()).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!(%error, "an unfinished upload was not aborted; its parts stay"),
                Err(error) => tracing::warn!(%error, "an unfinished upload was not aborted; its parts stay"),
            }
        });
    }
}

/// One call about one blob.
async fn call<T>(name: &BlobName, asked: impl Future<Output = Result<T, Error>>) -> Result<T, BlobError> {
    match timeout(CALL_WITHIN, asked).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(Error::NotFound { .. })) => Err(BlobError::NotFound(name.clone())),
        Ok(Err(error)) => Err(failed(error)),
        Err(late) => Err(unavailable("it does not answer", late)),
    }
}

/// What went wrong with the bucket.
fn failed(error: Error) -> BlobError {
    let said = match &error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => "it refuses the runner's keys",
        _ => "it answers with an error",
    };
    unavailable(said, error)
}
