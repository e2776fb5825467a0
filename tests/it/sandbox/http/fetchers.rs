//! Guests that send requests: one through `runner:plugin/http`, one through `wasi:http`, and the little of WASI's
//! interfaces that the second needs.

use super::super::guests::{CONTRACT, REALLOC, component_in, handler_with};

/// Where data lies, above all that `cabi_realloc` gives out; above it, from `0xA0000`, answers are put together.
const DATA: usize = 0x8_0000;

/// A request by `runner:plugin/http`; its URL is the job's args.
pub(super) struct Fetch<'a> {
    pub(super) method: &'a str,
    pub(super) headers: &'a [(&'a str, &'a str)],
    pub(super) body: &'a str,
    pub(super) timeout_ms: Option<u32>,
}

impl Default for Fetch<'_> {
    fn default() -> Self {
        Self { method: "GET", headers: &[], body: "", timeout_ms: None }
    }
}

/// Sends it and answers `STATUS`, headers and body as HTTP has them, or `error CODE: MESSAGE`.
pub(super) fn fetcher(fetch: &Fetch<'_>) -> Vec<u8> {
    let mut data = Data::default();
    let method = data.put(fetch.method);
    let body = data.put(fetch.body);
    let pairs: Vec<_> = fetch.headers.iter().map(|(name, value)| (data.put(name), data.put(value))).collect();
    let words = pairs.iter().flat_map(|(name, value)| [name.0, name.1, value.0, value.1]);
    let list = data.put_words(&words.collect::<Vec<_>>());
    let (timeout, ms) = fetch.timeout_ms.map_or((0, 0), |ms| (1, ms));
    let fields = format!(
        r#"(import "runner:plugin/http@0.1.0" "send" (func $send
             (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)))
           {} {OUTPUT}"#,
        data.segments
    );
    let send = format!(
        "(call $send (i32.const {}) (i32.const {}) (i32.load offset=32 (local.get $job)) (i32.load offset=36 (local.get $job))
           (i32.const {}) (i32.const {}) (i32.const {}) (i32.const {}) (i32.const {timeout}) (i32.const {ms}) (i32.const 512))",
        method.0,
        method.1,
        list.0,
        pairs.len(),
        body.0,
        body.1
    );
    handler_with(
        &fields,
        &format!(
            r#"(local $at i32) (local $left i32)
            {send}
            (if (i32.load8_u (i32.const 512))
              (then
                (call $text (i32.const 0x6f727265) (i32.const 4)) (call $text (i32.const 0x2072) (i32.const 2))
                (call $put (i32.load (i32.const 516)) (i32.load (i32.const 520)))
                (call $text (i32.const 0x203a) (i32.const 2))
                (call $put (i32.load (i32.const 524)) (i32.load (i32.const 528))))
              (else
                (call $number (i32.load16_u (i32.const 516))) (call $text (i32.const 10) (i32.const 1))
                (local.set $at (i32.load (i32.const 520)))
                (local.set $left (i32.load (i32.const 524)))
                (block $done (loop $more
                  (br_if $done (i32.eqz (local.get $left)))
                  (call $put (i32.load (local.get $at)) (i32.load offset=4 (local.get $at)))
                  (call $text (i32.const 0x203a) (i32.const 2))
                  (call $put (i32.load offset=8 (local.get $at)) (i32.load offset=12 (local.get $at)))
                  (call $text (i32.const 10) (i32.const 1))
                  (local.set $at (i32.add (local.get $at) (i32.const 16)))
                  (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                  (br $more)))
                (call $text (i32.const 10) (i32.const 1))
                (call $put (i32.load (i32.const 528)) (i32.load (i32.const 532)))))
            (call $answer)"#
        ),
    )
}

/// Starts so many GETs at once by `wasi:http`, waits for one after the other and answers `STATUS BODY` or `error CODE` (as a
/// number of the `error-code`) of each, a line each.
pub(super) fn wasi_fetcher(https: bool, authority: &str, path: &str, count: u32) -> Vec<u8> {
    let mut data = Data::default();
    let (authority, path) = (data.put(authority), data.put(path));
    let scheme = u32::from(https);
    let module = format!(
        r#"(module {WASI_IMPORTS} {} {OUTPUT}
          (memory (export "memory") 16)
          {REALLOC}
          (func $start (result i32) (local $request i32)
            (local.set $request (call $outgoing-request (call $fields)))
            (drop (call $set-scheme (local.get $request) (i32.const 1) (i32.const {scheme}) (i32.const 0) (i32.const 0)))
            (drop (call $set-authority (local.get $request) (i32.const 1) (i32.const {}) (i32.const {})))
            (drop (call $set-path (local.get $request) (i32.const 1) (i32.const {}) (i32.const {})))
            (call $handle (local.get $request) (i32.const 0) (i32.const 0) (i32.const 512))
            (if (i32.load8_u (i32.const 512)) (then unreachable))
            (i32.load (i32.const 520)))
          (func $error (param $code i32)
            (call $text (i32.const 0x6f727265) (i32.const 4)) (call $text (i32.const 0x2072) (i32.const 2))
            (call $number (local.get $code)))
          (func $finish (param $future i32) (local $response i32) (local $stream i32)
            (call $block (call $subscribe (local.get $future)))
            (call $get (local.get $future) (i32.const 512))
            (if (i32.or (i32.eqz (i32.load8_u (i32.const 512))) (i32.load8_u (i32.const 520))) (then unreachable))
            (if (i32.load8_u (i32.const 528)) (then (call $error (i32.load8_u (i32.const 536))) (return)))
            (local.set $response (i32.load (i32.const 536)))
            (call $number (call $status (local.get $response))) (call $text (i32.const 32) (i32.const 1))
            (call $consume (local.get $response) (i32.const 512))
            (call $stream (i32.load (i32.const 516)) (i32.const 512))
            (local.set $stream (i32.load (i32.const 516)))
            (block $done (loop $more
              (call $read (local.get $stream) (i64.const 4096) (i32.const 512))
              (if (i32.load8_u (i32.const 512)) (then
                ;; Closed is the end; else the operation failed.
                (br_if $done (i32.load8_u (i32.const 516)))
                (call $text (i32.const 0x21) (i32.const 1)) (br $done)))
              (call $put (i32.load (i32.const 516)) (i32.load (i32.const 520)))
              (br $more))))
          (func (export "runner:plugin/handler@0.1.0#handle") (param $job i32) (result i32) (local $at i32)
            (loop $more
              (i32.store (i32.add (i32.const 1024) (i32.shl (local.get $at) (i32.const 2))) (call $start))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br_if $more (i32.lt_u (local.get $at) (i32.const {count}))))
            (local.set $at (i32.const 0))
            (loop $more
              (call $finish (i32.load (i32.add (i32.const 1024) (i32.shl (local.get $at) (i32.const 2)))))
              (call $text (i32.const 10) (i32.const 1))
              (local.set $at (i32.add (local.get $at) (i32.const 1)))
              (br_if $more (i32.lt_u (local.get $at) (i32.const {count}))))
            (call $answer)))"#,
        data.segments, authority.0, authority.1, path.0, path.1
    );
    component_in(CONTRACT, &[WASI_IO, WASI_HTTP, GUEST], &module)
}

/// Imports all of `wasi:http` that a fetch needs and never fetches.
pub(super) fn wasi_idler() -> Vec<u8> {
    let module = format!(
        r#"(module {WASI_IMPORTS} {OUTPUT} (memory (export "memory") 16) {REALLOC}
          (func (export "runner:plugin/handler@0.1.0#handle") (param $job i32) (result i32) (call $answer)))"#
    );
    component_in(CONTRACT, &[WASI_IO, WASI_HTTP, GUEST], &module)
}

/// Texts of a guest, one behind the other.
#[derive(Default)]
struct Data {
    used: usize,
    segments: String,
}

impl Data {
    fn put(&mut self, text: &str) -> (usize, usize) {
        self.put_bytes(text.as_bytes())
    }

    fn put_words(&mut self, words: &[usize]) -> (usize, usize) {
        self.used = self.used.next_multiple_of(4);
        let bytes: Vec<u8> =
            words.iter().flat_map(|word| u32::try_from(*word).expect("is an address").to_le_bytes()).collect();
        self.put_bytes(&bytes)
    }

    fn put_bytes(&mut self, bytes: &[u8]) -> (usize, usize) {
        let at = DATA + self.used;
        let escaped: String = bytes.iter().map(|b| format!("\\{b:02x}")).collect();
        self.segments.push_str(&format!("(data (i32.const {at}) \"{escaped}\")"));
        self.used += bytes.len();
        (at, bytes.len())
    }
}

/// Puts an answer together: bytes that lie somewhere, up to four that are a number, a number of three digits.
const OUTPUT: &str = r#"
  (global $out (mut i32) (i32.const 0xA0000))
  (func $put (param $at i32) (param $len i32)
    (memory.copy (global.get $out) (local.get $at) (local.get $len))
    (global.set $out (i32.add (global.get $out) (local.get $len))))
  (func $text (param $bytes i32) (param $len i32)
    (i32.store (global.get $out) (local.get $bytes))
    (global.set $out (i32.add (global.get $out) (local.get $len))))
  (func $number (param $n i32)
    (call $text (i32.add (i32.const 48) (i32.div_u (local.get $n) (i32.const 100))) (i32.const 1))
    (call $text (i32.add (i32.const 48) (i32.rem_u (i32.div_u (local.get $n) (i32.const 10)) (i32.const 10))) (i32.const 1))
    (call $text (i32.add (i32.const 48) (i32.rem_u (local.get $n) (i32.const 10))) (i32.const 1)))
  (func $answer (result i32)
    (i32.store (i32.const 64) (i32.const 0))
    (i32.store (i32.const 68) (i32.const 0xA0000))
    (i32.store (i32.const 72) (i32.sub (global.get $out) (i32.const 0xA0000)))
    (i32.const 64))"#;

const WASI_IMPORTS: &str = r#"
  (import "wasi:http/types@0.2.0" "[constructor]fields" (func $fields (result i32)))
  (import "wasi:http/types@0.2.0" "[constructor]outgoing-request" (func $outgoing-request (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-scheme"
    (func $set-scheme (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-authority"
    (func $set-authority (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]outgoing-request.set-path-with-query"
    (func $set-path (param i32 i32 i32 i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]future-incoming-response.subscribe" (func $subscribe (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]future-incoming-response.get" (func $get (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-response.status" (func $status (param i32) (result i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-response.consume" (func $consume (param i32 i32)))
  (import "wasi:http/types@0.2.0" "[method]incoming-body.stream" (func $stream (param i32 i32)))
  (import "wasi:http/outgoing-handler@0.2.0" "handle" (func $handle (param i32 i32 i32 i32)))
  (import "wasi:io/poll@0.2.0" "[method]pollable.block" (func $block (param i32)))
  (import "wasi:io/streams@0.2.0" "[method]input-stream.blocking-read" (func $read (param i32 i64 i32)))"#;

const WASI_IO: &str = "
package wasi:io@0.2.0;
interface poll { resource pollable { block: func(); } }
interface error { resource error; }
interface streams {
  use error.{error};
  variant stream-error { last-operation-failed(error), closed }
  resource input-stream { blocking-read: func(len: u64) -> result<list<u8>, stream-error>; }
}";

const WASI_HTTP: &str = "
package wasi:http@0.2.0;
interface types {
  use wasi:io/streams@0.2.0.{input-stream};
  use wasi:io/poll@0.2.0.{pollable};
  variant scheme { HTTP, HTTPS, other(string) }
  record DNS-error-payload { rcode: option<string>, info-code: option<u16> }
  record TLS-alert-received-payload { alert-id: option<u8>, alert-message: option<string> }
  record field-size-payload { field-name: option<string>, field-size: option<u32> }
  variant error-code {
    DNS-timeout, DNS-error(DNS-error-payload), destination-not-found, destination-unavailable,
    destination-IP-prohibited, destination-IP-unroutable, connection-refused, connection-terminated,
    connection-timeout, connection-read-timeout, connection-write-timeout, connection-limit-reached,
    TLS-protocol-error, TLS-certificate-error, TLS-alert-received(TLS-alert-received-payload),
    HTTP-request-denied, HTTP-request-length-required, HTTP-request-body-size(option<u64>),
    HTTP-request-method-invalid, HTTP-request-URI-invalid, HTTP-request-URI-too-long,
    HTTP-request-header-section-size(option<u32>), HTTP-request-header-size(option<field-size-payload>),
    HTTP-request-trailer-section-size(option<u32>), HTTP-request-trailer-size(field-size-payload),
    HTTP-response-incomplete, HTTP-response-header-section-size(option<u32>),
    HTTP-response-header-size(field-size-payload), HTTP-response-body-size(option<u64>),
    HTTP-response-trailer-section-size(option<u32>), HTTP-response-trailer-size(field-size-payload),
    HTTP-response-transfer-coding(option<string>), HTTP-response-content-coding(option<string>),
    HTTP-response-timeout, HTTP-upgrade-failed, HTTP-protocol-error, loop-detected, configuration-error,
    internal-error(option<string>),
  }
  resource fields { constructor(); }
  resource outgoing-request {
    constructor(headers: fields);
    set-scheme: func(scheme: option<scheme>) -> result;
    set-authority: func(authority: option<string>) -> result;
    set-path-with-query: func(path-with-query: option<string>) -> result;
  }
  resource request-options { constructor(); }
  resource future-incoming-response {
    subscribe: func() -> pollable;
    get: func() -> option<result<result<incoming-response, error-code>>>;
  }
  resource incoming-response {
    status: func() -> u16;
    consume: func() -> result<incoming-body>;
  }
  resource incoming-body { %stream: func() -> result<input-stream>; }
}
interface outgoing-handler {
  use types.{outgoing-request, request-options, future-incoming-response, error-code};
  handle: func(request: outgoing-request, options: option<request-options>)
    -> result<future-incoming-response, error-code>;
}";

const GUEST: &str = "
package test:guest;
world guest {
  include runner:plugin/plugin@0.1.0;
  import wasi:http/types@0.2.0;
  import wasi:http/outgoing-handler@0.2.0;
  import wasi:io/streams@0.2.0;
}";
