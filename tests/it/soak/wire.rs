//! A client of the API over the unix socket that knows three ends of a call: answered, never sent, and cut in between, when
//! nobody knows whether it happened.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::Value;

/// A call that is not answered for so long hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(90);
/// How long a server may be away.
const AWAY_MAX: Duration = Duration::from_secs(60);

/// See the module.
pub(crate) struct Wire {
    socket: PathBuf,
    open: Option<BufReader<UnixStream>>,
}

/// One request.
pub(crate) struct Ask<'a> {
    pub(crate) method: &'a str,
    pub(crate) path: String,
    pub(crate) key: Option<String>,
    pub(crate) body: Option<&'a Value>,
}

/// What came back, whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Value,
    /// How often the call was cut before: it may have happened then.
    pub(crate) cuts: u32,
}

/// What did not.
#[derive(Debug)]
pub(crate) enum Cut {
    /// Nobody listened: nothing happened.
    NotSent,
    /// It was sent, wholly or in part.
    Unknown,
}

impl Ask<'_> {
    pub(crate) fn get(path: impl Into<String>) -> Self {
        Self { method: "GET", path: path.into(), key: None, body: None }
    }

    pub(crate) fn post(path: impl Into<String>) -> Self {
        Self { method: "POST", ..Self::get(path) }
    }

    pub(crate) fn delete(path: impl Into<String>) -> Self {
        Self { method: "DELETE", ..Self::get(path) }
    }

    fn bytes(&self) -> Vec<u8> {
        let body = self.body.map(Value::to_string).unwrap_or_default();
        let mut head = format!("{} {} HTTP/1.1\r\nHost: localhost\r\n", self.method, self.path);
        if let Some(key) = &self.key {
            head += &format!("Idempotency-Key: {key}\r\n");
        }
        if !body.is_empty() {
            head += "Content-Type: application/json\r\n";
        }
        format!("{head}Content-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }
}

impl Answer {
    pub(crate) fn state(&self) -> &str {
        self.body["state"].as_str().unwrap_or_default()
    }
}

impl Wire {
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket, open: None }
    }

    /// Asks once.
    pub(crate) fn once(&mut self, ask: &Ask<'_>) -> Result<Answer, Cut> {
        self.send(ask)?;
        let stream = self.open.as_mut().expect("it was just opened");
        let answer = read(stream);
        if answer.is_none() {
            self.open = None;
        }
        answer.ok_or(Cut::Unknown)
    }

    /// Sends it, and goes away before the answer.
    pub(crate) fn hang_up(&mut self, ask: &Ask<'_>) -> Result<(), Cut> {
        self.send(ask)?;
        self.open = None;
        Ok(())
    }

    fn send(&mut self, ask: &Ask<'_>) -> Result<(), Cut> {
        let stream = match self.open.take() {
            Some(stream) => stream,
            None => {
                let stream = UnixStream::connect(&self.socket).map_err(|_| Cut::NotSent)?;
                stream.set_read_timeout(Some(ANSWER_WITHIN)).unwrap();
                BufReader::new(stream)
            }
        };
        stream.get_ref().write_all(&ask.bytes()).map_err(|_| Cut::Unknown)?;
        self.open = Some(stream);
        Ok(())
    }

    /// Asks until there is an answer that says what happened.
    #[track_caller]
    pub(crate) fn until_answered(&mut self, ask: &Ask<'_>) -> Answer {
        let (mut cuts, deadline) = (0, Instant::now() + AWAY_MAX);
        loop {
            match self.once(ask) {
                // Nothing happened.
                Ok(answer) if answer.status == 503 => {}
                Ok(answer) if answer.body["code"] == "outcome_unknown" => cuts += 1,
                Ok(answer) => return Answer { cuts, ..answer },
                Err(Cut::NotSent) => {}
                Err(Cut::Unknown) => cuts += 1,
            }
            assert!(Instant::now() < deadline, "no answer: {} {}", ask.method, ask.path);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

/// None: the answer is not whole.
fn read(stream: &mut BufReader<UnixStream>) -> Option<Answer> {
    let mut line = String::new();
    let told = |got: std::io::Result<usize>| match got {
        Ok(n) => n > 0,
        Err(error) => {
            assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock, "the server hangs");
            false
        }
    };
    if !told(stream.read_line(&mut line)) {
        return None;
    }
    let status = line.split(' ').nth(1)?.parse().ok()?;
    let mut length = 0;
    loop {
        line.clear();
        if !told(stream.read_line(&mut line)) || !line.ends_with("\r\n") {
            return None;
        }
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        if name.eq_ignore_ascii_case("content-length") {
            length = value.parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = serde_json::from_slice(&body).unwrap_or_else(|_| Value::from(String::from_utf8_lossy(&body)));
    Some(Answer { status, body, cuts: 0 })
}
