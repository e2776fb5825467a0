//! A server that speaks as much of S3 as is needed: it keeps objects in memory, refuses what is not signed with its key, and
//! remembers what it was asked.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};

/// The name of the key, and what requests are signed with it for.
const CREDENTIAL: &str = "AWS4-HMAC-SHA256 Credential=the-id/";

#[derive(Debug, Default)]
pub(super) struct Kept {
    pub(super) objects: BTreeMap<String, Vec<u8>>,
    /// Begun, and neither complete nor aborted: name and parts.
    pub(super) uploads: BTreeMap<String, (String, BTreeMap<u32, Vec<u8>>)>,
    /// Method, path and query.
    pub(super) asked: Vec<String>,
    /// Names in one page of a list at most.
    pub(super) page_max: usize,
}

/// A running server; its thread ends with the process.
pub(super) struct Bucket {
    pub(super) address: SocketAddr,
    kept: Arc<Mutex<Kept>>,
}

type Answer = Response<Full<Bytes>>;

impl Bucket {
    pub(super) fn start() -> Self {
        let kept = Arc::new(Mutex::new(Kept { page_max: 1_000, ..Kept::default() }));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port is free");
        listener.set_nonblocking(true).expect("it can be");
        let address = listener.local_addr().expect("it has one");
        let served = Arc::clone(&kept);
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("it starts");
            runtime.block_on(serve(listener, served));
        });
        Self { address, kept }
    }

    pub(super) fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().expect("no handler panicked")
    }
}

async fn serve(listener: std::net::TcpListener, kept: Arc<Mutex<Kept>>) {
    let listener = tokio::net::TcpListener::from_std(listener).expect("it listens");
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        let kept = Arc::clone(&kept);
        tokio::spawn(async move {
            let service = service_fn(|request| answer(Arc::clone(&kept), request));
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await
        });
    }
}

async fn answer(kept: Arc<Mutex<Kept>>, request: Request<Incoming>) -> Result<Answer, Infallible> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.expect("it is sent whole").to_bytes();
    let header = |name: &str| head.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let digest: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
    let signed = header("authorization");
    if !signed.starts_with(CREDENTIAL) || !signed.contains("Signature=") || header("x-amz-content-sha256") != digest {
        return Ok(status(StatusCode::FORBIDDEN));
    }
    let query: BTreeMap<String, String> =
        url::form_urlencoded::parse(head.uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let path = percent_decoded(head.uri.path());
    let mut kept = kept.lock().expect("no handler panicked");
    kept.asked.push(format!("{} {}", head.method, head.uri));
    // Path style: the bucket comes first.
    let Some(key) = path.strip_prefix("/the-bucket").map(|key| key.trim_start_matches('/').to_owned()) else {
        return Ok(status(StatusCode::NOT_FOUND));
    };
    Ok(match (head.method, query.get("uploadId")) {
        (Method::GET, None) if query.contains_key("list-type") => list(&kept, &query),
        (Method::GET | Method::HEAD, None) => read(&kept, &key, header("range")),
        (Method::PUT, None) => {
            kept.objects.insert(key, body.to_vec());
            etag()
        }
        (Method::DELETE, None) => {
            kept.objects.remove(&key);
            status(StatusCode::NO_CONTENT)
        }
        (Method::POST, None) => {
            let id = format!("upload-{}", kept.asked.len());
            kept.uploads.insert(id.clone(), (key, BTreeMap::new()));
            xml(format!("<InitiateMultipartUploadResult><UploadId>{id}</UploadId></InitiateMultipartUploadResult>"))
        }
        (Method::PUT, Some(id)) => {
            let part = query["partNumber"].parse().expect("it is a number");
            match kept.uploads.get_mut(id) {
                Some((_, parts)) => parts.insert(part, body.to_vec()).map_or_else(etag, |_| etag()),
                None => status(StatusCode::NOT_FOUND),
            }
        }
        (Method::POST, Some(id)) => match kept.uploads.remove(id) {
            Some((key, parts)) => {
                kept.objects.insert(key, parts.into_values().flatten().collect());
                let result = "<Bucket>the-bucket</Bucket><Key>k</Key><ETag>\"e\"</ETag>";
                xml(format!("<CompleteMultipartUploadResult>{result}</CompleteMultipartUploadResult>"))
            }
            None => status(StatusCode::NOT_FOUND),
        },
        (Method::DELETE, Some(id)) => {
            kept.uploads.remove(id);
            status(StatusCode::NO_CONTENT)
        }
        _ => status(StatusCode::NOT_IMPLEMENTED),
    })
}

fn read(kept: &Kept, key: &str, range: &str) -> Answer {
    let Some(data) = kept.objects.get(key) else { return status(StatusCode::NOT_FOUND) };
    let answer = Response::builder().header("last-modified", "Wed, 25 Nov 2026 10:00:00 GMT").header("etag", "\"e\"");
    let Some((from, to)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        // Of an empty one, too, which is not said otherwise to a HEAD.
        return answer.header("content-length", data.len()).body(Full::from(data.clone())).expect("it is right");
    };
    let (from, to): (usize, usize) = (from.parse().expect("a number"), to.parse().expect("a number"));
    if from >= data.len() {
        return status(StatusCode::RANGE_NOT_SATISFIABLE);
    }
    let to = to.min(data.len() - 1);
    let answer = answer.header("content-range", format!("bytes {from}-{to}/{}", data.len()));
    answer.status(StatusCode::PARTIAL_CONTENT).body(Full::from(data[from..=to].to_vec())).expect("it is right")
}

fn list(kept: &Kept, query: &BTreeMap<String, String>) -> Answer {
    let word = |key: &str| query.get(key).map(String::as_str);
    let after = word("continuation-token").or(word("start-after")).unwrap_or_default();
    let max = word("max-keys").map_or(1_000, |max| max.parse().expect("a number")).min(kept.page_max);
    let prefix = word("prefix").unwrap_or_default();
    let fits = |key: &&String| key.starts_with(prefix) && key.as_str() > after;
    let keys: Vec<_> = kept.objects.keys().filter(fits).collect();
    let time = "<LastModified>2026-11-25T10:00:00.000Z</LastModified>";
    let entry = |key: &str| format!("<Contents><Key>{key}</Key><Size>1</Size>{time}<ETag>e</ETag></Contents>");
    let entries: String = keys.iter().take(max).map(|key| entry(&key.replace('&', "&amp;"))).collect();
    let next = keys.get(max.wrapping_sub(1)).filter(|_| keys.len() > max);
    let next = next.map(|key| format!("<NextContinuationToken>{key}</NextContinuationToken>")).unwrap_or_default();
    xml(format!("<ListBucketResult>{entries}{next}</ListBucketResult>"))
}

fn percent_decoded(path: &str) -> String {
    // A form's plus is a space; a path's is not.
    let form = format!("k={}", path.replace('+', "%2B"));
    url::form_urlencoded::parse(form.as_bytes()).next().map(|(_, path)| path.into_owned()).unwrap_or_default()
}

fn status(status: StatusCode) -> Answer {
    Response::builder().status(status).body(Full::default()).expect("it is right")
}

fn etag() -> Answer {
    Response::builder().header("etag", "\"e\"").body(Full::default()).expect("it is right")
}

fn xml(body: String) -> Answer {
    Response::builder().header("content-type", "application/xml").body(Full::from(body)).expect("it is right")
}
