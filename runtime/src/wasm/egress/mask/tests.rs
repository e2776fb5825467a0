//! Secrets are hidden however the answer is cut into pieces, and nothing else is.

use super::*;

const KEY: &str = "sk-live/0123+abc=";

fn secrets(all: &[&str]) -> Secrets {
    Secrets::new(all.iter().copied()).expect("few secrets fit")
}

/// Feeds a text in pieces of every small size and expects the same each time.
#[track_caller]
fn check(all: &[&str], text: &[u8], expected: &[u8]) {
    for size in [1, 2, 3, 7, text.len().max(1)] {
        let mut mask = Mask::new(secrets(all));
        let mut shown: Vec<u8> = text.chunks(size).flat_map(|piece| mask.push(Bytes::copy_from_slice(piece))).collect();
        shown.extend_from_slice(&mask.finish());
        let (shown, expected) = (String::from_utf8_lossy(&shown), String::from_utf8_lossy(expected));
        assert_eq!(shown, expected, "in pieces of {size}");
    }
}

#[track_caller]
fn check_gone(text: &str) {
    let shown = secrets(&[KEY]).hidden(text.as_bytes()).expect("is found");
    assert_eq!(shown.len(), text.len(), "the length stays");
    assert!(String::from_utf8_lossy(&shown).contains("[secret]"), "{text}");
}

#[test]
fn a_secret_is_overwritten_wherever_a_piece_ends() {
    check(&[KEY], format!("a{KEY}b").as_bytes(), b"a[secret]*********b");
    check(&[KEY], format!("{KEY}{KEY}").as_bytes(), b"[secret]*********[secret]*********");
    check(&[KEY], b"sk-live/0123+abc", b"sk-live/0123+abc");
    check(&[KEY], format!("sk-live/sk-l{KEY}").as_bytes(), b"sk-live/sk-l[secret]*********");
    check(&[KEY], b"", b"");
    check(&[], KEY.as_bytes(), KEY.as_bytes());
}

#[test]
fn secrets_within_each_other_are_all_hidden() {
    check(&["abcdefgh", "cdefghij"], b"-abcdefghij-", b"-[s[secret]-");
    check(&["abcdefgh", "xabcdefghx"], b"-xabcdefghx-", b"-[secret]**-");
    check(&["abababab"], b"abababababab-", b"[s[s[secret]-");
}

#[test]
fn short_secrets_are_left_alone() {
    assert!(secrets(&["1234567"]).is_empty());
    assert!(secrets(&["1234567"]).hidden(b"1234567").is_none());
    check(&["12345678"], b"12345678", b"[secret]");
}

#[test]
fn the_spellings_of_honest_software_are_found() {
    use base64::Engine as _;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE};
    for before in ["", "a", "ab", "abc", "Authorization: Bearer "] {
        let all = format!("{before}{KEY}; and so on");
        check_gone(&STANDARD.encode(&all));
        check_gone(&URL_SAFE.encode(&all));
    }
    check_gone("q=sk-live%2F0123%2Babc%3D");
    check_gone("q=sk-live%2f0123%2babc%3d&r");
    check_gone(r#"{"key": "sk-live\/0123+abc="}"#);
    check_gone(&KEY.bytes().map(|b| format!("{b:02x}")).collect::<String>());
    check_gone(&KEY.bytes().map(|b| format!("{b:02X}")).collect::<String>());
    let quoted = "a\"b<c>&'d ef";
    for text in [r#"a\"b<c>&'d ef"#, "a&quot;b&lt;c&gt;&amp;&#39;d ef", "a%22b%3Cc%3E%26%27d+ef"] {
        let shown = secrets(&[quoted]).hidden(text.as_bytes()).expect("is found");
        assert!(shown.starts_with(b"[secret]"), "{text}");
    }
}

#[test]
fn nothing_is_held_back_that_cannot_begin_a_secret() {
    let mut mask = Mask::new(secrets(&["abcdefgh"]));
    assert_eq!(mask.push(Bytes::from_static(b"one\n")), "one\n");
    assert_eq!(mask.push(Bytes::from_static(b"two abc")), "two ");
    assert_eq!(mask.push(Bytes::from_static(b"\n")), "abc\n");
}
