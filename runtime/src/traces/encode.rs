//! Spans as OTLP has them, in the wire format of protobuf: a few fields of a few messages, which take fewer lines than what
//! would generate them. The numbers are those of `opentelemetry/proto/trace/v1/trace.proto`; a test decodes them with the
//! types that are generated from it.

use super::{Span, Value};

/// A span that takes something from a queue.
const KIND_CONSUMER: u64 = 5;
const STATUS_ERROR: u64 = 2;

/// An `ExportTraceServiceRequest` of this service's spans.
pub(super) fn request(service: &str, spans: &[Span]) -> Vec<u8> {
    let resource = message(|resource| {
        put(resource, 1, &attribute("service.name", &Value::Text(service.to_owned())));
    });
    let scope = message(|scope| {
        put(scope, 1, env!("CARGO_PKG_NAME").as_bytes());
        put(scope, 2, env!("CARGO_PKG_VERSION").as_bytes());
    });
    let of_scope = message(|of_scope| {
        put(of_scope, 1, &scope);
        spans.iter().for_each(|one| put(of_scope, 2, &span(one)));
    });
    let of_resource = message(|of_resource| {
        put(of_resource, 1, &resource);
        put(of_resource, 2, &of_scope);
    });
    message(|request| put(request, 1, &of_resource))
}

fn span(span: &Span) -> Vec<u8> {
    message(|bytes| {
        put(bytes, 1, &span.own.trace);
        put(bytes, 2, &span.own.span);
        if let Some(parent) = span.parent {
            put(bytes, 4, &parent.span);
        }
        put(bytes, 5, span.name.as_bytes());
        number(bytes, 6, KIND_CONSUMER);
        fixed(bytes, 7, span.began);
        fixed(bytes, 8, span.ended);
        for (key, value) in &span.attributes {
            put(bytes, 9, &attribute(key, value));
        }
        if let Some(error) = &span.error {
            let status = message(|status| {
                put(status, 2, error.as_bytes());
                number(status, 3, STATUS_ERROR);
            });
            put(bytes, 15, &status);
        }
    })
}

fn attribute(key: &str, value: &Value) -> Vec<u8> {
    let value = message(|any| match value {
        Value::Text(text) => put(any, 1, text.as_bytes()),
        Value::Number(n) => number(any, 3, n.cast_unsigned()),
    });
    message(|attribute| {
        put(attribute, 1, key.as_bytes());
        put(attribute, 2, &value);
    })
}

fn message(fill: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    fill(&mut bytes);
    bytes
}

/// A field of bytes, a text, or a message.
fn put(into: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    varint(into, field << 3 | 2);
    varint(into, bytes.len() as u64);
    into.extend_from_slice(bytes);
}

fn number(into: &mut Vec<u8>, field: u64, value: u64) {
    varint(into, field << 3);
    varint(into, value);
}

fn fixed(into: &mut Vec<u8>, field: u64, value: u64) {
    varint(into, field << 3 | 1);
    into.extend_from_slice(&value.to_le_bytes());
}

#[expect(clippy::cast_possible_truncation, reason = "seven bits at a time")]
fn varint(into: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        into.push(value as u8 | 0x80);
        value >>= 7;
    }
    into.push(value as u8);
}
