//! Where a request goes, what it says, and what of that is not the guest's to say.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::wasm::Manifest;
use crate::wasm::grants::{Secret, TenantRules};

const ANY: &str = r#"
    [[allow.http]]
    url = "https://api.test"
    methods = ["GET", "POST"]
    header = { Authorization = "Bearer ${KEY}", X-Plain = "plain" }
    [[allow.http]]
    url = "http://127.0.0.1:9000"
"#;
const KEY: &str = "0123456789abcdef";

fn grants(key: Option<&str>) -> Grants {
    let manifest = Manifest::parse(ANY).expect("the manifest is right");
    let secrets: BTreeMap<_, _> = key.map(|key| ("KEY".to_owned(), Secret::new(key))).into_iter().collect();
    Grants::new(manifest.allow, Arc::new(TenantRules { secrets, ..TenantRules::of("default") }))
}

fn asked(method: &str, url: &str, headers: &[(&str, &str)]) -> Asked {
    let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
    Asked { method: method.to_owned(), url: url.to_owned(), headers, body_bytes: Some(3) }
}

fn sent(method: &str, url: &str, headers: &[(&str, &str)]) -> Result<Prepared, SendError> {
    prepare(&grants(Some(KEY)), asked(method, url, headers))
}

#[track_caller]
fn check_refused(url: &str, headers: &[(&str, &str)], words: &str) {
    match sent("GET", url, headers) {
        Ok(_) => panic!("{url} {headers:?} is sent"),
        Err(error) => assert!(error.to_string().contains(words), "{url}: {error}"),
    }
}

#[track_caller]
fn check_target(url: &str, authority: &str, line: &str) {
    let sent = sent("GET", url, &[]).expect("is sent");
    assert_eq!((sent.target.authority.as_str(), sent.uri.to_string().as_str()), (authority, line), "{url}");
    assert_eq!(sent.headers.get(header::HOST).expect("is set"), authority);
}

#[test]
fn one_parsed_url_says_where_to() {
    check_target("https://api.test", "api.test", "/");
    check_target("https://API.test.:443/a/../b?q=1#f", "api.test", "/b?q=1");
    check_target("https://api.test\\a b", "api.test", "/a%20b");
    check_target("http://0x7f.1:9000/", "127.0.0.1:9000", "/");
    check_target("http://2130706433:9000/?", "127.0.0.1:9000", "/?");
    check_refused("https://api.test@evil.test/", &[], "a user or a password");
    check_refused("https://evil.test\\@api.test/", &[], "is not granted");
    check_refused("https://u:p@api.test/", &[], "a user or a password");
    check_refused("https://api.test#@evil.test/", &[("host", "evil.test")], "is the runner's own");
    check_refused("https://api.test:8443/", &[], "is not granted");
    check_refused("https://api.test\r\nx: y/", &[], "control characters");
    check_refused("https://\tapi.test/", &[], "control characters");
    check_refused("ftp://api.test/", &[], "only https and http");
    check_refused("//api.test/", &[], "cannot be used");
    check_refused("https:///", &[], "cannot be used");
    check_refused(&format!("https://api.test/{}", "a".repeat(8 << 10)), &[], "more than 8192 bytes");
}

#[test]
fn how_a_message_is_framed_is_not_the_guests_to_say() {
    let url = "https://api.test";
    for name in
        ["Transfer-Encoding", "connection", "TE", "trailer", "upgrade", "expect", "keep-alive", "proxy-connection"]
    {
        check_refused(url, &[(name, "chunked")], "is the runner's own");
    }
    check_refused(url, &[("host", "evil.test")], "is the runner's own");
    check_refused(url, &[("content-length", "4")], "is not the length of the body");
    check_refused(url, &[("content-length", "+3")], "is no number");
    check_refused(url, &[("content-length", "3, 3")], "is no number");
    check_refused(url, &[("content-length", "")], "is no number");
    check_refused(url, &[("content-length", "3"), ("Content-Length", "3")], "is the runner's own");
    check_refused(url, &[("a\r\nb", "c")], "a name that HTTP does not allow");
    check_refused(url, &[("a b", "c")], "a name that HTTP does not allow");
    check_refused(url, &[("a:", "c")], "a name that HTTP does not allow");
    check_refused(url, &[("", "c")], "a name that HTTP does not allow");
    check_refused(url, &[("a", "b\r\nc: d")], "characters that HTTP does not allow");
    check_refused(url, &[("a", "b\r\n c")], "characters that HTTP does not allow");
    check_refused(url, &[("a", "b\0")], "characters that HTTP does not allow");
    let many: Vec<_> = (0..300).map(|_| ("a", "b")).collect();
    check_refused(url, &many, "more than 256 headers");
    check_refused(url, &[("a", &"b".repeat(70_000))], "more than 65536 bytes");
    // What repeats what is true is left out or kept.
    let repeated = sent("GET", url, &[("Content-Length", "3"), ("Host", "API.test")]).expect("is sent");
    assert_eq!(repeated.content_length, Some(3));
    assert_eq!(repeated.headers.get_all(header::HOST).iter().count(), 1);
}

#[test]
fn methods_are_words_and_as_granted() {
    assert!(sent("POST", "https://api.test", &[]).is_ok());
    for method in ["get", "PUT", "CONNECT", "TRACE"] {
        assert!(matches!(sent(method, "https://api.test", &[]), Err(SendError::NotGranted(_))), "{method}");
    }
    for method in ["", "GET /", "G\r\nET"] {
        assert!(matches!(sent(method, "https://api.test", &[]), Err(SendError::Invalid(_))), "{method}");
    }
}

#[test]
fn the_manifests_headers_replace_the_guests_and_are_never_shown() {
    let own =
        [("authorization", "mine"), ("AUTHORIZATION", "mine, too"), ("x-plain", "p"), ("accept-encoding", "gzip")];
    let sent = sent("GET", "https://api.test", &own).expect("is sent");
    let values: Vec<_> = sent.headers.get_all("authorization").iter().collect();
    assert_eq!(values, [&format!("Bearer {KEY}")]);
    assert_eq!(sent.headers.get("x-plain").expect("is set"), "plain");
    assert_eq!(sent.headers.get("accept-encoding").expect("is set"), "identity");
    assert!(!format!("{:?}", sent.headers).contains(KEY), "{:?}", sent.headers);
    assert!(sent.secrets.hidden(KEY.as_bytes()).is_some());
    // Where a rule names no secret, nothing is looked for.
    let plain = prepare(&grants(None), asked("GET", "http://127.0.0.1:9000", &[("accept-encoding", "gzip")]));
    let plain = plain.expect("is sent");
    assert!(plain.secrets.is_empty() && plain.headers.get("accept-encoding").expect("is kept") == "gzip");
}

#[test]
fn a_secret_that_is_missing_or_cannot_be_sent_is_said_without_it() {
    let missing = prepare(&grants(None), asked("GET", "https://api.test", &[]));
    let Err(SendError::NotGranted(denied)) = missing else { panic!("is sent") };
    assert!(denied.to_string().contains("secrets = { KEY = { file = \"…\" } }"), "{denied}");
    let broken = prepare(&grants(Some("line one\nline two")), asked("GET", "https://api.test", &[]));
    let Err(error) = broken else { panic!("is sent") };
    assert!(!error.to_string().contains("line"), "{error}");
    assert_eq!(error.code(), "invalid");
}
