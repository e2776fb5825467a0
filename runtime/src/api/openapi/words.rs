//! Texts of the API that have a form, as schemas: states, times, durations, and so on.
//!
//! A field that is a text in the code, or a type of the store, says with `#[schemars(with = "…")]` which of these it is.

use std::borrow::Cow;

use runner_store::job::{EventName, OutcomeName, StateName, limits};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

macro_rules! words {
    ($($(#[doc = $doc:literal])* $name:ident, $title:literal, $schema:expr;)*) => {$(
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub struct $name;

        impl JsonSchema for $name {
            fn schema_name() -> Cow<'static, str> {
                Cow::Borrowed($title)
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        }
    )*};
}

words! {
    /// A state of a job.
    StateWord, "State", json_schema!({
        "type": "string",
        "description": "The state of a job; the last three are final.",
        "enum": StateName::ALL.map(StateName::as_str),
    });
    /// How a run ended.
    OutcomeWord, "Outcome", json_schema!({
        "type": "string",
        "description": "How a run ended.",
        "enum": OutcomeName::ALL.map(OutcomeName::as_str),
    });
    /// What happened to a job.
    EventWord, "EventName", json_schema!({
        "type": "string",
        "description": "What happened to a job.",
        "enum": EventName::ALL.map(EventName::as_str),
    });
    /// A time.
    TimeWord, "Time", json_schema!({
        "type": "string",
        "format": "date-time",
        "description": "A time in RFC 3339, shown in UTC with milliseconds.",
        "examples": ["2027-01-31T08:00:00.000Z"],
    });
    /// A duration.
    DurationWord, "Duration", json_schema!({
        "type": "string",
        "pattern": "^ *[0-9][0-9._]* *(ms|s|m|h|d)( *[0-9][0-9._]* *(ms|s|m|h|d))* *$",
        "description": "A duration with its unit: ms, s, m, h or d.",
        "examples": ["5m", "1h 30m"],
    });
    /// A rate.
    RateWord, "Rate", json_schema!({
        "type": "string",
        "description": "So many jobs that start in a time, and how many of them at once.",
        "examples": ["100/1m", "100/1m burst 10"],
    });
    /// A number of bytes.
    SizeWord, "Size", json_schema!({
        "type": ["integer", "string"],
        "minimum": 0,
        "description": "A number of bytes, or a text with a unit.",
        "examples": [1024, "10GiB"],
    });
    /// A priority.
    PriorityWord, "Priority", json_schema!({
        "description": "A number, of which lower ones run first, or a name of one.",
        "anyOf": [
            { "type": "integer", "minimum": i16::MIN, "maximum": i16::MAX },
            { "type": "string", "enum": ["highest", "high", "default", "low", "lowest"] },
        ],
    });
    /// The id of a job.
    IdWord, "Id", json_schema!({
        "type": "string",
        "pattern": "^[1-9][0-9]*$",
        "description": "The id of a job.",
        "examples": ["42"],
    });
    /// A name of a kind or a queue.
    NameWord, "Name", json_schema!({
        "type": "string",
        "pattern": "^[A-Za-z0-9](\\.?[A-Za-z0-9_-])*\\.?$",
        "maxLength": limits::NAME_BYTES_MAX,
        "description": "A name: letters, digits, dots, underlines and dashes; no two dots in a row.",
        "examples": ["image.resize"],
    });
    /// Attempts.
    AttemptsWord, "Attempts", json_schema!({
        "type": "integer",
        "minimum": 1,
        "maximum": limits::ATTEMPTS_MAX,
        "description": "How often a job is tried before it is given up.",
    });
    /// Tags.
    TagsWord, "Tags", json_schema!({
        "type": "object",
        "maxProperties": limits::TAGS_MAX,
        "additionalProperties": { "type": "string", "maxLength": limits::TAG_VALUE_BYTES_MAX },
        "description": "Texts by which a job is found.",
    });
    /// Bytes.
    Base64Word, "Base64Bytes", json_schema!({
        "type": "string",
        "contentEncoding": "base64",
        "pattern": "^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$",
        "description": "Bytes in base64, padded.",
    });
    /// A span of somebody else's.
    TraceparentWord, "Traceparent", json_schema!({
        "type": "string",
        "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}(-.*)?$",
        "description": "A span, as W3C Trace Context writes it.",
    });
    /// What follows if a dependency does not end well.
    OnFailureWord, "OnFailure", json_schema!({ "type": "string", "enum": ["cancel", "run"] });
    /// What a call does that finds its unique job there.
    OnConflictWord, "OnConflict", json_schema!({
        "type": "string",
        "enum": ["keep", "replace", "debounce", "merge", "reject"],
    });
    /// What a slot does whose predecessor's job has not ended.
    OverlapWord, "Overlap", json_schema!({ "type": "string", "enum": ["skip", "queue", "cancel-running"] });
    /// How an external worker's run ended.
    FinishWord, "FinishOutcome", json_schema!({
        "type": "string",
        "enum": ["completed", "failed", "discarded", "snoozed"],
    });
    /// How loud a line is.
    LevelWord, "Level", json_schema!({ "type": "string", "enum": ["trace", "debug", "info", "warn", "error"] });
    /// What follows a bad line of a stream.
    OnErrorWord, "OnError", json_schema!({ "type": "string", "enum": ["continue", "stop"] });
    /// A fingerprint.
    FingerprintWord, "Fingerprint", json_schema!({
        "type": "string",
        "pattern": "^[0-9a-f]{12}$",
        "description": "Which error it was, whatever numbers and names stand in it.",
        "examples": ["c64811ec9208"],
    });
    /// The order of a list.
    OrderWord, "Order", json_schema!({ "type": "string", "enum": ["newest", "oldest"] });
}
