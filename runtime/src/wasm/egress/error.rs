//! Why a request was not sent or has no answer: for the log, for the guest in either of its languages, never with a
//! secret in it.

use std::time::Duration;

use super::super::grants::Denied;
use super::{ANSWER_HEAD_BYTES_MAX, ANSWER_HEADERS_MAX, RUN_REQUESTS_MAX, TENANT_REQUESTS_MAX};

/// See the module. Texts are one sentence for a person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SendError {
    /// No grant for this method and URL.
    #[error("{0}")]
    NotGranted(Denied),
    /// The host has an address that no plugin reaches by itself.
    #[error("{0}")]
    Prohibited(Denied),
    /// The request is none.
    #[error("{0}")]
    Invalid(String),
    /// Its body is too large.
    #[error("the request's body has more than {bytes_max} bytes (`http_body`)")]
    RequestTooLarge { bytes_max: u64 },
    /// The answer's body is.
    #[error("the answer's body has more than {bytes_max} bytes (`http_body`)")]
    AnswerTooLarge { bytes_max: u64 },
    /// The answer's status line and headers are.
    #[error(
        "the answer has more than {ANSWER_HEADERS_MAX} headers, or more than {ANSWER_HEAD_BYTES_MAX} bytes of them"
    )]
    HeadTooLarge,
    /// Too many at once, for too long.
    #[error(
        "no place for one more request within {}; at once are sent {RUN_REQUESTS_MAX} of a run, \
         {TENANT_REQUESTS_MAX} of a tenant", humantime::format_duration(*.waited)
    )]
    Busy { waited: Duration },
    /// The name has no address.
    #[error("the name `{name}` has no address: {why}")]
    Unresolved { name: String, why: String },
    /// No connection.
    #[error("no connection to {authority}: {why}")]
    Unconnected { authority: String, why: String },
    /// No TLS.
    #[error("no TLS with {authority}: {why}")]
    Untrusted { authority: String, why: String },
    /// It took too long.
    #[error("{step} took longer than allowed")]
    TimedOut { step: Step },
    /// The answer ended before its end.
    #[error("the answer ended too early")]
    Ended,
    /// What came is not HTTP/1.1 as it should be.
    #[error("the answer is not HTTP: {why}")]
    Malformed { why: String },
    /// The guest left its own body unfinished.
    #[error("the request's body was left unfinished")]
    BodyUnfinished,
    /// The runner itself cannot.
    #[error("no request can be sent now: {why}")]
    Unavailable { why: String },
}

/// What took too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Resolving,
    Connecting,
    FirstByte,
    BetweenBytes,
    Whole,
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Resolving => "looking for the name's addresses",
            Self::Connecting => "connecting",
            Self::FirstByte => "waiting for the answer",
            Self::BetweenBytes => "waiting for more of the answer",
            Self::Whole => "the request",
        })
    }
}

impl SendError {
    /// The code of the contract's `call-error`.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::NotGranted(_) | Self::Prohibited(_) => "denied",
            Self::Invalid(_) | Self::BodyUnfinished => "invalid",
            Self::RequestTooLarge { .. } | Self::AnswerTooLarge { .. } | Self::HeadTooLarge | Self::Busy { .. } => {
                "limit"
            }
            Self::Unresolved { .. }
            | Self::Unconnected { .. }
            | Self::Untrusted { .. }
            | Self::TimedOut { .. }
            | Self::Ended
            | Self::Malformed { .. }
            | Self::Unavailable { .. } => "unavailable",
        }
    }
}

impl From<SendError> for wasmtime_wasi_http::Error {
    fn from(error: SendError) -> Self {
        match error {
            SendError::NotGranted(_) => Self::HttpRequestDenied,
            SendError::Prohibited(_) => Self::DestinationIpProhibited,
            SendError::Invalid(_) => Self::HttpRequestUriInvalid,
            SendError::RequestTooLarge { bytes_max } => Self::HttpRequestBodySize(Some(bytes_max)),
            SendError::AnswerTooLarge { bytes_max } => Self::HttpResponseBodySize(Some(bytes_max)),
            SendError::HeadTooLarge => Self::HttpResponseHeaderSectionSize(u32::try_from(ANSWER_HEAD_BYTES_MAX).ok()),
            SendError::Busy { .. } => Self::ConnectionLimitReached,
            SendError::Unresolved { .. } => Self::DnsError { rcode: None, info_code: None },
            SendError::Unconnected { .. } => Self::ConnectionRefused,
            SendError::Untrusted { .. } => Self::TlsProtocolError,
            SendError::TimedOut { step: Step::Resolving } => Self::DnsTimeout,
            SendError::TimedOut { step: Step::Connecting } => Self::ConnectionTimeout,
            SendError::TimedOut { step: Step::FirstByte | Step::BetweenBytes } => Self::ConnectionReadTimeout,
            SendError::TimedOut { step: Step::Whole } => Self::HttpResponseTimeout,
            SendError::Ended => Self::HttpResponseIncomplete,
            SendError::Malformed { .. } => Self::HttpProtocolError,
            SendError::BodyUnfinished => Self::InternalError(Some("the request's body was left unfinished".to_owned())),
            SendError::Unavailable { why } => Self::InternalError(Some(why)),
        }
    }
}
