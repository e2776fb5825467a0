//! A connection that is kept, as cheap as one can be: requests are sent as they are given, and of answers the status and the
//! body are looked at. It knows what this server sends, and no more of HTTP.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Server;

/// See the module.
pub(crate) struct Connection {
    pub(crate) stream: TcpStream,
    bytes: Vec<u8>,
}

/// A request with a body, as bytes.
pub(crate) fn post(path: &str, body: &str) -> Vec<u8> {
    let head = "Host: localhost\r\nContent-Type: application/json\r\nContent-Length:";
    format!("POST {path} HTTP/1.1\r\n{head} {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A request without one.
pub(crate) fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

impl Connection {
    pub(crate) async fn open(server: &Server) -> Self {
        let stream = TcpStream::connect(&server.address).await.expect("the server listens");
        stream.set_nodelay(true).expect("a socket of TCP");
        Self { stream, bytes: Vec::with_capacity(16 * 1024) }
    }

    /// Sends a request, and answers the status and the body of what comes back.
    pub(crate) async fn ask(&mut self, request: &[u8]) -> (u16, &[u8]) {
        self.stream.write_all(request).await.expect("the server reads");
        self.bytes.clear();
        let (status, from, len) = loop {
            if let Some(head) = head(&self.bytes) {
                break head;
            }
            self.more().await;
        };
        while self.bytes.len() < from + len {
            self.more().await;
        }
        (status, &self.bytes[from..from + len])
    }

    /// The same, where anything but this status is a mistake of the bench or of the server.
    pub(crate) async fn ask_for(&mut self, status: u16, request: &[u8]) -> &[u8] {
        let (is, body) = self.ask(request).await;
        assert_eq!(is, status, "{}", String::from_utf8_lossy(body));
        body
    }

    async fn more(&mut self) {
        let read = self.stream.read_buf(&mut self.bytes).await.expect("the server answers");
        assert!(read > 0, "the server ended: {}", String::from_utf8_lossy(&self.bytes));
    }
}

/// Status, where the body begins, and how long it is; none: the head has not arrived whole.
fn head(bytes: &[u8]) -> Option<(u16, usize, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&bytes[..end]).expect("a head is text");
    let status = head.get(9..12).and_then(|status| status.parse().ok()).expect("a status");
    let len = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    Some((status, end + 4, len.unwrap_or(0)))
}
