//! A server that answers every request with what it was: method, path and body.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

/// More than any request here.
const BODY_BYTES_MAX: usize = 1 << 10;

pub(super) struct Server {
    pub(super) address: String,
}

impl Server {
    /// Starts it for as long as the process lives.
    pub(super) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                // A guest that hangs up in the middle is its own test's failure.
                _ = answer(stream);
            }
        });
        Self { address }
    }
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut first = String::new();
    reader.read_line(&mut first)?;
    let mut bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim_end().to_ascii_lowercase();
        if line.is_empty() {
            break;
        }
        if let Some(length) = line.strip_prefix("content-length:") {
            bytes = length.trim().parse().unwrap_or(0);
        }
    }
    let mut body = vec![0; bytes.min(BODY_BYTES_MAX)];
    reader.read_exact(&mut body)?;
    let asked = first.rsplit_once(' ').map_or("", |(asked, _)| asked);
    let text = format!("{asked} {}", String::from_utf8_lossy(&body));
    let length = text.len();
    write!(stream, "HTTP/1.1 201 Created\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{text}")
}
