//! The body of a request: its type, its size and its time are bounded before anything is parsed.

use std::collections::HashMap;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt;
use runner_store::job::TenantId;
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::LET_IN_WITHIN;
use super::error::Problem;
use super::read::Bad;

/// A JSON body.
pub const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// From the first byte of a body to its last.
const BODY_WITHIN: Duration = Duration::from_secs(30);
/// A body of up to so many bytes is always taken: on every connection at once they hold 64 MiB.
pub(super) const SMALL_BYTES_MAX: usize = 4 * 1024;
/// What all larger bodies hold together: sixteen of the largest. Without it, as many clients as there are connections
/// could make the process hold 128 GiB.
const ROOM_KIB: usize = 128 * 1024;
/// What those of one tenant hold of it: half, so that nobody shuts the others out.
const SHARE_KIB: usize = ROOM_KIB / 2;
/// Shares that are remembered; with more, those that nobody uses are forgotten.
const SHARES_MAX: usize = 1_000;

tokio::task_local! {
    /// Whose request is being answered.
    static WHOSE: TenantId;
}

/// Answers a request of a tenant, or of somebody who is of none.
pub(super) async fn of<F: Future>(tenant: Option<TenantId>, answer: F) -> F::Output {
    WHOSE.scope(tenant.unwrap_or(TenantId::NONE), answer).await
}

/// The room for large bodies, of all connections together. When it is full, or the tenant's share is, a body waits for a moment
/// and is then refused as overload.
#[derive(Debug, Clone)]
pub struct Room {
    kib: Arc<Semaphore>,
    shares: Arc<Mutex<HashMap<TenantId, Arc<Semaphore>>>>,
    /// From the first byte of a body to its last.
    within: Duration,
}

/// A body as text, and the room that it takes.
pub struct Text {
    text: String,
    _room: Option<Taken>,
}

/// The bytes of a body, and the room that they take.
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    _room: Option<Taken>,
}

/// Room that is taken.
#[derive(Debug)]
pub(super) struct Taken {
    of_all: OwnedSemaphorePermit,
    of_tenant: OwnedSemaphorePermit,
}

impl Taken {
    pub(super) fn kib(&self) -> usize {
        self.of_all.num_permits()
    }

    /// The same, and what was taken of the same room besides.
    pub(super) fn merge(&mut self, more: Self) {
        self.of_all.merge(more.of_all);
        self.of_tenant.merge(more.of_tenant);
    }
}

/// What a body may be.
pub(super) struct Bound {
    pub(super) bytes_max: usize,
    /// From its first byte to its last.
    pub(super) within: Duration,
    /// What to do about one that is larger.
    pub(super) mend: &'static str,
}

impl Default for Room {
    fn default() -> Self {
        Self { kib: Arc::new(Semaphore::new(ROOM_KIB)), shares: Arc::default(), within: BODY_WITHIN }
    }
}

impl Room {
    /// What is left to whoever asks.
    fn share(&self) -> Arc<Semaphore> {
        let whose = WHOSE.try_with(|whose| *whose).unwrap_or(TenantId::NONE);
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= SHARES_MAX {
            // Whoever holds some of it holds the share as well.
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        Arc::clone(shares.entry(whose).or_insert_with(|| Arc::new(Semaphore::new(SHARE_KIB))))
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        &self.text
    }
}

/// Reads a JSON body as text.
///
/// # Errors
/// 400, 408, 413, 415 or 503, each saying what would be right.
pub async fn json(room: &Room, headers: &HeaderMap, body: Body) -> Result<Text, Problem> {
    check_type(headers)?;
    json_or_nothing(room, headers, body).await
}

/// The same, where a body may be left out and then has no type.
///
/// # Errors
/// As [`json`].
pub async fn json_or_nothing(room: &Room, headers: &HeaderMap, body: Body) -> Result<Text, Problem> {
    let bound = Bound { bytes_max: BODY_BYTES_MAX, within: room.within, mend: "send the jobs in several lists" };
    let Whole { bytes, _room: room } = whole(room, headers, body, bound).await?;
    if !bytes.is_empty() {
        check_type(headers)?;
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Problem::new(StatusCode::BAD_REQUEST, "malformed", format!("the body is not UTF-8 at byte {at}"))
    })?;
    Ok(Text { text, _room: room })
}

/// Reads a body of any type.
///
/// # Errors
/// 400, 408, 413 or 503, each saying what would be right.
pub(super) async fn whole(room: &Room, headers: &HeaderMap, body: Body, bound: Bound) -> Result<Whole, Problem> {
    let declared = headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if declared.is_some_and(|bytes| bytes > bound.bytes_max as u64) {
        return Err(too_large(&bound));
    }
    let read = tokio::time::timeout(bound.within, read(room, body, &bound)).await;
    read.map_err(|_| {
        let detail = format!("the body took longer than {} s", bound.within.as_secs());
        Problem::new(StatusCode::REQUEST_TIMEOUT, "body_timeout", detail)
    })?
}

/// The value that a text of JSON holds.
///
/// # Errors
/// 400 with line and column.
pub fn parse(text: &str) -> Result<&RawValue, Problem> {
    let malformed = |why: &str| Problem::new(StatusCode::BAD_REQUEST, "malformed", why);
    if text.trim_ascii().is_empty() {
        return Err(malformed("the body is empty; send JSON"));
    }
    if text.starts_with('\u{feff}') {
        return Err(malformed("the body begins with a byte order mark; send JSON without one"));
    }
    serde_json::from_str(text).map_err(|error| {
        let detail = format!("line {}, column {}: {}", error.line(), error.column(), what(&error));
        Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
    })
}

/// What is wrong with a text of JSON, without the place.
#[must_use]
pub fn what(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.split(" at line ").next().unwrap_or(&text).to_owned()
}

impl From<Bad> for Problem {
    fn from(bad: Bad) -> Self {
        // What is wrong with a body as a whole has no name of its own.
        let field = if bad.field.is_empty() { "body".to_owned() } else { bad.field };
        Self::invalid(field, bad.why)
    }
}

/// The bytes of a body. Room is taken as they arrive, so that one that is only announced takes none.
async fn read(room: &Room, mut body: Body, bound: &Bound) -> Result<Whole, Problem> {
    let (mut bytes, mut taken) = (Vec::new(), None::<Taken>);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            let detail = format!("the body did not arrive whole: {error}");
            Problem::new(StatusCode::BAD_REQUEST, "malformed", detail)
        })?;
        // What is no data is a trailer, which says nothing here.
        let Ok(data) = frame.into_data() else { continue };
        let len = bytes.len() + data.len();
        if len > bound.bytes_max {
            return Err(too_large(bound));
        }
        if len > SMALL_BYTES_MAX {
            let more = len.div_ceil(1024) - taken.as_ref().map_or(0, Taken::kib);
            let more = take(room, more).await?;
            match &mut taken {
                Some(taken) => taken.merge(more),
                None => taken = Some(more),
            }
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Whole { bytes, _room: taken })
}

/// Takes room for so much.
pub(super) async fn take(room: &Room, kib: usize) -> Result<Taken, Problem> {
    let kib = u32::try_from(kib).expect("no body has more than SHARE_KIB");
    let (share, all) = (room.share(), Arc::clone(&room.kib));
    let taken = async {
        // First its own: who waits for that holds nothing of the others'.
        let of_tenant = share.acquire_many_owned(kib).await.ok()?;
        Some(Taken { of_tenant, of_all: all.acquire_many_owned(kib).await.ok()? })
    };
    tokio::time::timeout(LET_IN_WITHIN, taken).await.ok().flatten().ok_or_else(Problem::overloaded)
}

/// Whether a body is as it stands.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let encoding = headers.get(header::CONTENT_ENCODING).map_or(&b"identity"[..], HeaderValue::as_bytes);
    if encoding.eq_ignore_ascii_case(b"identity") {
        return Ok(());
    }
    let detail = "a body is taken as it stands; send it without Content-Encoding";
    let problem = Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail);
    Err(problem.at("Content-Encoding"))
}

/// Whether a body is JSON, as it stands.
fn check_type(headers: &HeaderMap) -> Result<(), Problem> {
    check_encoding(headers)?;
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || (essence.starts_with("application/") && essence.ends_with("+json")) {
        return Ok(());
    }
    let detail = format!("the body is {essence:?}; send JSON with `Content-Type: application/json`");
    Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", detail))
}

fn too_large(Bound { bytes_max, mend, .. }: &Bound) -> Problem {
    let detail = format!("the body has more than {bytes_max} bytes ({} MiB); {mend}", bytes_max >> 20);
    Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use bytes::Bytes;
    use hyper::body::Frame;

    use super::*;

    /// A body that begins, and never goes on.
    struct Stalls(Option<Bytes>);

    impl hyper::body::Body for Stalls {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            self.0.take().map_or(Poll::Pending, |bytes| Poll::Ready(Some(Ok(Frame::data(bytes)))))
        }
    }

    #[tokio::test]
    async fn a_body_has_its_time_and_gives_its_room_back() {
        let room = Room { within: Duration::from_millis(20), ..Room::default() };
        let body = Body::new(Stalls(Some(Bytes::from(vec![b' '; 1 << 20]))));
        let problem = json(&room, &HeaderMap::new(), body).await.err().expect("it never ends");
        assert_eq!((problem.status, problem.code.as_str()), (408, "body_timeout"));
        assert_eq!(room.kib.available_permits(), ROOM_KIB);
    }

    /// The story: one tenant's streams, each with a line that did not end, held all of the room, and nobody else could enqueue more
    /// than a small job.
    #[tokio::test]
    async fn who_takes_all_that_he_can_leaves_room_to_the_others() {
        let room = Room::default();
        let half = of(Some(TenantId(7)), take(&room, SHARE_KIB)).await.expect("it is free");
        let refused = of(Some(TenantId(7)), take(&room, 1)).await.expect_err("that was all");
        assert_eq!((refused.status, refused.code.as_str()), (503, "overloaded"));
        let other = of(Some(TenantId(8)), take(&room, SHARE_KIB)).await.expect("it is another's");
        drop((half, other));
        assert_eq!(room.kib.available_permits(), ROOM_KIB);
        of(Some(TenantId(7)), take(&room, SHARE_KIB)).await.expect("it was given back");
    }
}
