//! Errors as the API shows them: problem+json with a stable code. The only place where errors of the store and of the
//! rules become HTTP.

use super::refused;
use crate::merging::EnqueueError;
use crate::wasm::MergeError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use runner_store::error::{CallError, StoreError};
use runner_store::job::{Invalid, Rejection};
use serde::ser::SerializeStruct;
use serde::{Deserialize, Serialize, Serializer};

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// What a caller should wait when the node is busy.
const RETRY_AFTER_SECONDS: u32 = 1;
/// What a caller should wait when something is full: until jobs have ended, or are removed.
const FULL_RETRY_AFTER_SECONDS: u32 = 10;

/// One error, as RFC 9457 has it, with a stable `code` and, where there is one, the field. Its `type` and `title`
/// follow from code and status.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// Stable; for programs.
    pub code: String,
    /// What, where, and how to mend it; for people.
    pub detail: String,
    /// The field that it is about, as the request spells it.
    pub field: Option<String>,
    /// The job that is in the way.
    #[serde(default)]
    pub job: Option<String>,
    /// The first number of the log that can still be read.
    #[serde(default)]
    pub oldest: Option<u64>,
}

impl Problem {
    /// An error with this status, code and sentence.
    #[must_use]
    pub fn new(status: StatusCode, code: &str, detail: impl Into<String>) -> Self {
        Self {
            status: status.as_u16(),
            code: code.to_owned(),
            detail: detail.into(),
            field: None,
            job: None,
            oldest: None,
        }
    }

    /// The same, about a field.
    #[must_use]
    pub fn at(self, field: impl Into<String>) -> Self {
        Self { field: Some(field.into()), ..self }
    }

    /// 422: understood, and its meaning is wrong.
    #[must_use]
    pub fn invalid(field: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", why).at(field)
    }

    /// 404 for a job.
    #[must_use]
    pub fn no_job() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "there is no job with this id")
    }

    /// 503: nothing happened, try again.
    #[must_use]
    pub fn overloaded() -> Self {
        let detail = "more calls are waiting than are let in; nothing happened: try again in a second";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", detail)
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        Self::invalid(invalid.field, invalid.why)
    }
}

impl From<Rejection> for Problem {
    fn from(rejection: Rejection) -> Self {
        let code = match &rejection {
            Rejection::Unknown => return Self::no_job(),
            Rejection::Invalid(invalid) => return invalid.clone().into(),
            Rejection::KeyReused => "idempotency_key_reused",
            Rejection::Stale { .. } => "stale_run",
            Rejection::WaitedFor => "waited_for",
            Rejection::UniqueHeld(_) => "unique_held",
            Rejection::UniqueBusy => "unique_busy",
            Rejection::QueueNotEmpty { .. } => "queue_not_empty",
            Rejection::QueueDrains { .. } => "queue_drains",
            Rejection::Settling => "settling",
            Rejection::Full { .. } => {
                let detail =
                    format!("{rejection}; nothing happened: wait until jobs have ended, or raise its capacity");
                return Self::new(StatusCode::TOO_MANY_REQUESTS, "full", detail);
            }
            Rejection::TenantStorage { .. } => {
                let detail =
                    format!("{rejection}; nothing happened: delete jobs, keep them for less long, or raise the limit");
                return Self::new(StatusCode::TOO_MANY_REQUESTS, "tenant_storage", detail);
            }
            Rejection::NoSchedule => {
                return Self::new(StatusCode::NOT_FOUND, "not_found", rejection.to_string());
            }
            Rejection::ScheduleExists => "exists",
            Rejection::ScheduleChanged => "changed",
            Rejection::FromManifest { .. } => "from_manifest",
            Rejection::Overlapping(_) => "overlapping",
            Rejection::NoToken => return Self::new(StatusCode::NOT_FOUND, "not_found", rejection.to_string()),
            Rejection::NoTenant => return Self::new(StatusCode::NOT_FOUND, "no_tenant", rejection.to_string()),
            Rejection::TokenExists => "exists",
            Rejection::TenantNotEmpty { .. } => "tenant_not_empty",
            Rejection::TooManySchedules { .. } | Rejection::TooManyTokens { .. } | Rejection::TooManyNames { .. } => {
                return Self::new(StatusCode::TOO_MANY_REQUESTS, "full", rejection.to_string());
            }
            Rejection::DiskReserve => {
                return Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk_reserve", rejection.to_string());
            }
            Rejection::Exists
            | Rejection::Already(_)
            | Rejection::State(_)
            | Rejection::NotDue { .. }
            | Rejection::NotExpired
            | Rejection::NotWaiting(_) => "state",
        };
        let job = match &rejection {
            Rejection::UniqueHeld(job) | Rejection::NotWaiting(job) | Rejection::Overlapping(job) => {
                Some(job.to_string())
            }
            _ => None,
        };
        Self { job, ..Self::new(StatusCode::CONFLICT, code, rejection.to_string()) }
    }
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unknown(why) => {
                let detail = format!(
                    "the store failed while it recorded this ({why}): it may or may not have happened; \
                     repeat the call with the same Idempotency-Key once the server is back"
                );
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "outcome_unknown", detail)
            }
            CallError::Stopped => {
                let detail = "the store has stopped; nothing happened";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "stopped", detail)
            }
        }
    }
}

impl From<EnqueueError> for Problem {
    fn from(error: EnqueueError) -> Self {
        let merge = match error {
            EnqueueError::Call(error) => return error.into(),
            EnqueueError::Merge(merge) => merge,
        };
        let code = match &merge {
            MergeError::Busy => return Self::new(StatusCode::SERVICE_UNAVAILABLE, "overloaded", merge.to_string()),
            MergeError::Refused(_) => "merge_refused",
            // What broke once would break again: the args are what they are.
            MergeError::Broken { .. }
            | MergeError::TooLarge { .. }
            | MergeError::NoKey { .. }
            | MergeError::NoMerge(_) => "merge_failed",
        };
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, code, merge.to_string()).at("unique")
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store could not be read");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "store_failed", format!("the store could not be read: {error}"))
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut fields = serializer.serialize_struct("Problem", 8)?;
        fields.serialize_field("type", &format!("urn:runner:problem:{}", self.code))?;
        fields.serialize_field("title", status(self).canonical_reason().unwrap_or("Error"))?;
        fields.serialize_field("status", &self.status)?;
        fields.serialize_field("code", &self.code)?;
        fields.serialize_field("detail", &self.detail)?;
        match &self.field {
            Some(field) => fields.serialize_field("field", field)?,
            None => fields.skip_field("field")?,
        }
        match &self.job {
            Some(job) => fields.serialize_field("job", job)?,
            None => fields.skip_field("job")?,
        }
        match &self.oldest {
            Some(oldest) => fields.serialize_field("oldest", oldest)?,
            None => fields.skip_field("oldest")?,
        }
        fields.end()
    }
}

fn status(problem: &Problem) -> StatusCode {
    StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = status(&self);
        refused::count(status.as_u16(), &self.code);
        let body = serde_json::to_vec(&self).unwrap_or_default();
        let mut response = (status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        let retry_after = match status {
            StatusCode::SERVICE_UNAVAILABLE => Some(RETRY_AFTER_SECONDS),
            StatusCode::TOO_MANY_REQUESTS | StatusCode::INSUFFICIENT_STORAGE => Some(FULL_RETRY_AFTER_SECONDS),
            _ => None,
        };
        if let Some(seconds) = retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            let shown = self.code != "no_token";
            let how =
                if shown { r#"Bearer realm="runner", error="invalid_token""# } else { r#"Bearer realm="runner""# };
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static(how));
        }
        response
    }
}
