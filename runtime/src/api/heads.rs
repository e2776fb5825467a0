//! Reads along what a client sends, for the one thing that HTTP does not tell: a request that has both `Content-Length` and
//! `Transfer-Encoding` loses the first of them before anybody sees it, and a proxy may have gone by that one.
//!
//! It follows the bytes from head to head, over bodies of the length that their heads say, and as far as one that comes in
//! chunks: behind that there is nothing on the same connection. It refuses nothing and holds up nothing, and where a head
//! cannot be read, the reader whose business that is refuses it.

/// What is kept of a line of a head that comes in pieces: enough for both headers as anybody sends them.
const LINE_KEPT_MAX: usize = 256;

/// Whoever reads the head takes no longer one.
const LENGTH_MAX: u64 = u64::MAX - 2;

/// Where in the requests of a connection the bytes are that come next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first line of a head, where empty lines may stand.
    Before,
    Head,
    /// So many bytes before the end of a body.
    Body(u64),
    /// Behind all that is looked at.
    Over,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Heads {
    place: Place,
    /// Heads that have ended.
    ended: u32,
    /// The beginning of a line of a head whose end has not come, and whether there was more of it.
    line: Vec<u8>,
    is_cut: bool,
    length: Length,
    chunks: bool,
}

/// What a head says of the length of its body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Length {
    Unsaid,
    Said(u64),
    /// It is said, and is none.
    Wrong,
}

impl Heads {
    /// Of a connection, or behind a whole request on it.
    pub(super) fn new() -> Self {
        Self { place: Place::Before, ended: 0, line: Vec::new(), is_cut: false, length: Length::Unsaid, chunks: false }
    }

    /// Whether what comes next is of the body of a request, or is not looked at.
    pub(super) fn is_within_body(&self) -> bool {
        matches!(self.place, Place::Body(_) | Place::Over)
    }

    /// The number of the request behind which nothing is looked at, once there is one.
    pub(super) fn last(&self) -> Option<u32> {
        (self.place == Place::Over).then_some(self.ended)
    }

    /// Whether the last head says a length that no body can have.
    pub(super) fn is_endless(&self) -> bool {
        let endless = match self.length {
            Length::Unsaid => false,
            Length::Said(length) => length > LENGTH_MAX,
            Length::Wrong => true,
        };
        endless && self.is_within_body()
    }

    /// Reads on: how many requests there were, once the last of them says its length in both ways.
    pub(super) fn read(&mut self, mut bytes: &[u8]) -> Option<u32> {
        while !bytes.is_empty() {
            match self.place {
                Place::Over => return None,
                Place::Body(left) => {
                    let some = usize::try_from(left).map_or(bytes.len(), |left| left.min(bytes.len()));
                    bytes = &bytes[some..];
                    let left = left - some as u64;
                    self.place = if left == 0 { Place::Before } else { Place::Body(left) };
                }
                Place::Before | Place::Head => {
                    let Some(end) = memchr::memchr(b'\n', bytes) else {
                        self.keep(bytes);
                        return None;
                    };
                    let is_both = if self.line.is_empty() {
                        self.end_line(&bytes[..end])
                    } else {
                        self.keep(&bytes[..end]);
                        let line = std::mem::take(&mut self.line);
                        self.end_line(&line)
                    };
                    self.is_cut = false;
                    bytes = &bytes[end + 1..];
                    if is_both {
                        return Some(self.ended);
                    }
                }
            }
        }
        None
    }

    fn keep(&mut self, some: &[u8]) {
        let kept = some.len().min(LINE_KEPT_MAX - self.line.len());
        self.line.extend_from_slice(&some[..kept]);
        self.is_cut |= kept < some.len();
    }

    /// A line of a head; whether with it one has ended that says both.
    fn end_line(&mut self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match (self.place, line) {
            (Place::Before, []) => false,
            (Place::Head, []) => self.end_head(),
            (Place::Before, _) => {
                self.place = Place::Head;
                (self.length, self.chunks) = (Length::Unsaid, false);
                false
            }
            _ => {
                self.header(line);
                false
            }
        }
    }

    fn header(&mut self, line: &[u8]) {
        // Most headers are neither.
        match line[0] {
            b't' | b'T' => self.chunks |= value(line, b"transfer-encoding").is_some(),
            b'c' | b'C' => {
                if let Some(value) = value(line, b"content-length") {
                    let number = number(value).filter(|_| !self.is_cut);
                    self.length = number.map_or(Length::Wrong, Length::Said);
                }
            }
            _ => {}
        }
    }

    fn end_head(&mut self) -> bool {
        self.ended += 1;
        self.place = match (self.chunks, self.length) {
            (true, _) | (false, Length::Wrong) => Place::Over,
            (false, Length::Unsaid | Length::Said(0)) => Place::Before,
            (false, Length::Said(length)) => Place::Body(length),
        };
        self.chunks && self.length != Length::Unsaid
    }
}

/// What a header of this name says; none: it has another one.
fn value<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (said, value) = line.split_at_checked(name.len())?;
    if !said.eq_ignore_ascii_case(name) {
        return None;
    }
    value.strip_prefix(b":").map(<[u8]>::trim_ascii)
}

fn number(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const LENGTH: &str = "Content-Length: 3\r\n";
    const CHUNKS: &str = "Transfer-Encoding: chunked\r\n";

    fn head(headers: &[&str]) -> String {
        format!("POST /v1/jobs HTTP/1.1\r\nHost: localhost\r\n{}Accept: */*\r\n\r\n", headers.concat())
    }

    /// Which request says both, however the bytes come.
    #[track_caller]
    fn check(bytes: &str, expected: Option<u32>) {
        for size in 1..=bytes.len() {
            let mut heads = Heads::new();
            let found: Vec<u32> = bytes.as_bytes().chunks(size).filter_map(|some| heads.read(some)).collect();
            assert_eq!(found, Vec::from_iter(expected), "{size} bytes at a time: {bytes:?}");
        }
    }

    #[test]
    fn who_says_both_is_found_wherever_it_stands() {
        check(&head(&[LENGTH, CHUNKS]), Some(1));
        check(&head(&[CHUNKS, LENGTH]), Some(1));
        check(&head(&["content-LENGTH:  many \r\n", "TRANSFER-encoding:x\r\n"]), Some(1));
        check(&head(&[LENGTH, CHUNKS]).replace("\r\n", "\n"), Some(1));
        check(&format!("\r\n\n{}", head(&[LENGTH, CHUNKS])), Some(1));
        let before = [head(&[]), head(&[LENGTH]), "a\nb".to_owned(), head(&["Content-Length: 0\r\n"])].concat();
        check(&format!("{before}{}", head(&[LENGTH, CHUNKS])), Some(4));
        check(&format!("{}1\r\n{}", head(&[LENGTH, CHUNKS]), head(&[LENGTH, CHUNKS])), Some(1));
    }

    #[test]
    fn who_says_one_is_not_taken_for_another() {
        check(&head(&[]), None);
        check(&head(&[CHUNKS]), None);
        check(&head(&[LENGTH, LENGTH]), None);
        check(&head(&["X-Content-Length: 3\r\n", "Content-Length-X: 3\r\n", "Content-Length : 3\r\n", CHUNKS]), None);
        // Another request has the other one, and a body says what it likes.
        check(&format!("{}abc{}", head(&[LENGTH]), head(&[CHUNKS])), None);
        let body = head(&[LENGTH, CHUNKS]);
        check(&format!("{}{body}", head(&[&format!("Content-Length: {}\r\n", body.len())])), None);
        check(&format!("{}{body}", head(&[CHUNKS])), None);
        check(&format!("{}{body}", head(&["Content-Length: -1\r\n"])), None);
        check(&head(&[LENGTH, CHUNKS])[..60], None);
    }

    /// Where a line comes in pieces, little of it is kept: of the two headers enough to know that it is one of them.
    #[test]
    fn a_long_line_is_no_way_around() {
        let spaces = " ".repeat(5_000);
        check(&head(&[&format!("X: {spaces}\r\n"), LENGTH, CHUNKS]), Some(1));
        check(&head(&[&format!("Content-Length:{spaces}3\r\n"), CHUNKS]), Some(1));
        check(&head(&[&format!("Transfer-Encoding:{spaces}chunked\r\n"), LENGTH]), Some(1));
        let mut heads = Heads::new();
        for byte in head(&[&format!("Content-Length:{spaces}3\r\n")]).bytes() {
            assert_eq!(heads.read(&[byte]), None);
            assert!(heads.line.capacity() <= 2 * LINE_KEPT_MAX);
        }
        assert_eq!(heads.last(), Some(1), "the connection is closed behind it");
    }
}
