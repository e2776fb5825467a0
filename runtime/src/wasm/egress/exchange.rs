//! One request and its answer, over a connection of their own: a task that owns all of it.
//!
//! Places, look-up, connection, timers and both bodies live in one future on the egress threads. Whoever waits for the
//! answer holds an [`AbortOnDrop`]: dropped with its run, it takes the connection along. The answer comes back over two
//! channels, its head and then its body piece by piece, already without secrets; the body's channel is short, so that a
//! guest that does not read holds the server back and not our memory. Nothing here follows a redirect, decompresses,
//! uses a proxy or keeps a connection.

use std::error::Error as _;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderValue};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout, timeout_at};

use super::connect::{self, Stream};
use super::error::{SendError, Step};
use super::mask::{Mask, Secrets};
use super::request::Prepared;
use super::{ANSWER_HEAD_BYTES_MAX, ANSWER_HEADERS_MAX, Egress, PLACE_WAIT_MAX, Tenant};
use crate::wasm::grants::Grants;

/// Pieces of an answer that wait for the guest.
const PIECES_WAITING_MAX: usize = 2;

/// A body that a guest sends.
pub(crate) type OwnBody = UnsyncBoxBody<Bytes, SendError>;

/// How long each step may take; the whole ends with `deadline`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) deadline: Instant,
    pub(crate) connect: Duration,
    pub(crate) first_byte: Duration,
    pub(crate) between_bytes: Duration,
}

/// Everything that the task needs.
pub(super) struct Exchange {
    pub(super) egress: Arc<Egress>,
    pub(super) grants: Arc<Grants>,
    pub(super) tenant: Arc<Tenant>,
    pub(super) run_places: Arc<Semaphore>,
    pub(super) prepared: Prepared,
    pub(super) body: OwnBody,
    pub(super) body_bytes_max: u64,
    pub(super) timeouts: Timeouts,
}

/// What a server answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: AnswerBody,
}

/// The body of an answer, as it comes.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    pieces: mpsc::Receiver<Piece>,
    /// Why the channel ended without [`Piece::End`].
    why: Arc<OnceLock<SendError>>,
    over: bool,
    _task: AbortOnDrop,
}

/// Ends the task that it belongs to.
#[derive(Debug)]
pub(super) struct AbortOnDrop(pub(super) tokio::task::AbortHandle);

#[derive(Debug)]
enum Piece {
    Data(Bytes),
    /// All of it came. A channel that ends without this was cut.
    End,
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts the exchange and waits for the head of its answer.
pub(super) async fn send(exchange: Exchange) -> Result<Answer, SendError> {
    let (head_to, head) = oneshot::channel();
    let (pieces_to, pieces) = mpsc::channel(PIECES_WAITING_MAX);
    let why = Arc::new(OnceLock::new());
    let threads = exchange.egress.threads()?;
    let task = AbortOnDrop(threads.spawn(run(exchange, head_to, pieces_to, Arc::clone(&why))).abort_handle());
    let (status, headers) =
        head.await.map_err(|_| SendError::Unavailable { why: "the runner is ending".to_owned() })??;
    Ok(Answer { status, headers, body: AnswerBody { pieces, why, over: false, _task: task } })
}

type Head = Result<(StatusCode, HeaderMap), SendError>;

async fn run(
    exchange: Exchange,
    head_to: oneshot::Sender<Head>,
    pieces_to: mpsc::Sender<Piece>,
    why: Arc<OnceLock<SendError>>,
) {
    let mut head_to = Some(head_to);
    let deadline = exchange.timeouts.deadline;
    let ended = timeout_at(deadline, talk(exchange, &mut head_to, &pieces_to)).await;
    let ended = ended.unwrap_or(Err(SendError::TimedOut { step: Step::Whole }));
    match (ended, head_to) {
        (Ok(()), _) => {}
        // Nobody waits for it any more, if that fails.
        (Err(error), Some(head_to)) => drop(head_to.send(Err(error))),
        // Said before the channel ends, which may be full of pieces to be read first; nobody else says it.
        (Err(error), None) => drop(why.set(error)),
    }
}

async fn talk(
    exchange: Exchange,
    head_to: &mut Option<oneshot::Sender<Head>>,
    pieces_to: &mpsc::Sender<Piece>,
) -> Result<(), SendError> {
    let Exchange { egress, grants, tenant, run_places, prepared, body, body_bytes_max, timeouts } = exchange;
    let _places = places(&run_places, &tenant.requests, PLACE_WAIT_MAX).await?;
    let stream = connect::connect(&egress, &tenant, grants.tenant(), &prepared.target, timeouts.connect).await?;
    let secrets = prepared.secrets.clone();
    let request = request(prepared, body, body_bytes_max)?;
    let answer = Receiving { secrets, body_bytes_max, timeouts, head_to, pieces_to };
    match stream {
        Stream::Plain(stream) => over(stream, request, answer).await,
        Stream::Tls(stream) => over(*stream, request, answer).await,
    }
}

/// The run's own place first: a run that waits for itself holds none of its tenant's.
async fn places(
    run: &Arc<Semaphore>,
    tenant: &Arc<Semaphore>,
    wait: Duration,
) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), SendError> {
    let both = async {
        let run = Arc::clone(run).acquire_owned().await;
        let tenant = Arc::clone(tenant).acquire_owned().await;
        run.and_then(|run| tenant.map(|tenant| (run, tenant)))
    };
    let got = timeout(wait, both).await.map_err(|_| SendError::Busy { waited: wait })?;
    got.map_err(|_| SendError::Unavailable { why: "the runner is ending".to_owned() })
}

fn request(prepared: Prepared, body: OwnBody, bytes_max: u64) -> Result<Request<Capped>, SendError> {
    let Prepared { method, uri, mut headers, content_length, .. } = prepared;
    if content_length.unwrap_or(0).max(body.size_hint().lower()) > bytes_max {
        return Err(SendError::RequestTooLarge { bytes_max });
    }
    if let Some(bytes) = content_length {
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(bytes));
    }
    let mut request = Request::new(Capped { body, left: bytes_max, bytes_max });
    (*request.method_mut(), *request.uri_mut(), *request.headers_mut()) = (method, uri, headers);
    Ok(request)
}

/// The guest's body, up to the limit.
struct Capped {
    body: OwnBody,
    left: u64,
    bytes_max: u64,
}

impl Body for Capped {
    type Data = Bytes;
    type Error = SendError;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, SendError>>> {
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => return Poll::Ready(None),
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => frame,
            };
            // Trailers are headers that nobody looked at.
            let Ok(data) = frame.into_data() else { continue };
            return Poll::Ready(Some(match self.left.checked_sub(data.len() as u64) {
                None => Err(SendError::RequestTooLarge { bytes_max: self.bytes_max }),
                Some(left) => {
                    self.left = left;
                    Ok(Frame::data(data))
                }
            }));
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Where the answer goes, and within which bounds.
struct Receiving<'a> {
    secrets: Secrets,
    body_bytes_max: u64,
    timeouts: Timeouts,
    head_to: &'a mut Option<oneshot::Sender<Head>>,
    pieces_to: &'a mpsc::Sender<Piece>,
}

/// Sends the request and takes the answer, while the connection is driven beside.
async fn over<S>(stream: S, request: Request<Capped>, answer: Receiving<'_>) -> Result<(), SendError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (mut to, connection) = hyper::client::conn::http1::Builder::new()
        .max_headers(ANSWER_HEADERS_MAX)
        .max_header_size(ANSWER_HEAD_BYTES_MAX)
        .max_buf_size(ANSWER_HEAD_BYTES_MAX)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| failed(&error))?;
    let mut connection = Some(pin!(connection));
    let first_byte = answer.timeouts.first_byte;
    let mut exchange = pin!(async move {
        let sent = timeout(first_byte, to.send_request(request)).await;
        let response =
            sent.map_err(|_| SendError::TimedOut { step: Step::FirstByte })?.map_err(|error| failed(&error))?;
        receive(response, answer).await
    });
    poll_fn(|cx| {
        // How it ends is what the exchange sees, too.
        if connection.as_mut().is_some_and(|driven| driven.as_mut().poll(cx).is_ready()) {
            connection = None;
        }
        exchange.as_mut().poll(cx)
    })
    .await
}

async fn receive(response: Response<Incoming>, answer: Receiving<'_>) -> Result<(), SendError> {
    let Receiving { secrets, body_bytes_max: bytes_max, timeouts, head_to, pieces_to } = answer;
    let (head, mut body) = response.into_parts();
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(SendError::Malformed { why: "it switches to another protocol".to_owned() });
    }
    if let Some(head_to) = head_to.take() {
        // Nobody waits any more, if it fails; then the task is at its end.
        drop(head_to.send(Ok((head.status, hidden(head.headers, &secrets)))));
    }
    if body.size_hint().lower() > bytes_max {
        return Err(SendError::AnswerTooLarge { bytes_max });
    }
    let mut mask = Mask::new(secrets);
    let mut left = bytes_max;
    loop {
        let next = timeout(timeouts.between_bytes, body.frame()).await;
        let frame = match next.map_err(|_| SendError::TimedOut { step: Step::BetweenBytes })? {
            None => break,
            Some(frame) => frame.map_err(|error| failed(&error))?,
        };
        // Trailers are left out: they are headers that come when nobody looks for secrets any more.
        let Ok(data) = frame.into_data() else { continue };
        left = left.checked_sub(data.len() as u64).ok_or(SendError::AnswerTooLarge { bytes_max })?;
        hand_over(pieces_to, mask.push(data)).await?;
    }
    hand_over(pieces_to, mask.finish()).await?;
    pieces_to.send(Piece::End).await.map_err(|_| SendError::Ended)
}

async fn hand_over(pieces_to: &mpsc::Sender<Piece>, data: Bytes) -> Result<(), SendError> {
    if data.is_empty() {
        return Ok(());
    }
    pieces_to.send(Piece::Data(data)).await.map_err(|_| SendError::Ended)
}

/// Without secrets, and without what is about this connection only.
fn hidden(headers: HeaderMap, secrets: &Secrets) -> HeaderMap {
    let mut shown = HeaderMap::with_capacity(headers.keys_len());
    let mut last = None;
    for (name, value) in headers {
        // A name comes with its first value only.
        last = name.or(last);
        let Some(name) = &last else { continue };
        if [header::CONNECTION, header::TRANSFER_ENCODING].contains(name) {
            continue;
        }
        if secrets.hidden(name.as_str().as_bytes()).is_some() {
            continue;
        }
        let value = match secrets.hidden(value.as_bytes()) {
            None => Some(value),
            // Stars in place of allowed characters are allowed.
            Some(text) => HeaderValue::from_bytes(&text).ok(),
        };
        if let Some(value) = value {
            shown.append(name.clone(), value);
        }
    }
    shown
}

/// hyper's words for what went wrong; they repeat nothing of what was sent or received.
fn failed(error: &hyper::Error) -> SendError {
    if let Some(own) = error.source().and_then(|source| source.downcast_ref::<SendError>()) {
        return own.clone();
    }
    if error.is_parse_too_large() {
        return SendError::HeadTooLarge;
    }
    if error.is_parse() {
        return SendError::Malformed { why: error.to_string() };
    }
    SendError::Ended
}

impl AnswerBody {
    /// The next piece; none: that was all of it.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, SendError>>> {
        if self.over {
            return Poll::Ready(None);
        }
        let piece = ready!(self.pieces.poll_recv(cx));
        self.over = !matches!(piece, Some(Piece::Data(_)));
        Poll::Ready(match piece {
            Some(Piece::Data(data)) => Some(Ok(data)),
            Some(Piece::End) => None,
            None => Some(Err(self.why.get().cloned().unwrap_or(SendError::Ended))),
        })
    }

    /// All of it.
    pub(crate) async fn collect(mut self) -> Result<Vec<u8>, SendError> {
        let mut all = Vec::new();
        while let Some(piece) = poll_fn(|cx| self.poll_next(cx)).await {
            all.extend_from_slice(&piece?);
        }
        Ok(all)
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = wasmtime_wasi_http::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let piece = ready!(self.get_mut().poll_next(cx));
        Poll::Ready(piece.map(|piece| piece.map(Frame::data).map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_without_a_place_waits_so_long_and_leaves_none_taken() {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime starts");
        let wait = Duration::from_millis(10);
        let (some, none) = (Arc::new(Semaphore::new(1)), Arc::new(Semaphore::new(0)));
        runtime.block_on(async {
            assert_eq!(places(&some, &none, wait).await.map(drop), Err(SendError::Busy { waited: wait }));
            assert_eq!(places(&none, &some, wait).await.map(drop), Err(SendError::Busy { waited: wait }));
            assert_eq!(some.available_permits(), 1);
            let many = Arc::new(Semaphore::new(8));
            let both = places(&some, &many, wait).await.expect("there is one of each");
            assert_eq!(some.available_permits(), 0);
            // Whoever waits goes on when another one is done.
            let waiting = places(&some, &many, Duration::from_secs(20));
            let done = async { drop(both) };
            assert!(tokio::join!(waiting, done).0.is_ok());
        });
    }
}
