//! Asks a child to compile: starts it, feeds it, reads its answer, and kills it at its deadline.
//!
//! All of that is one loop over three pipes on the caller's thread, so that nothing is left behind however it ends. What
//! the child says is bounded and believed to be code only if it is a whole answer of an engine with our settings.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::Signal;

use super::child::{CODE, HEADER_BYTES, MAGIC, REFUSAL_BYTES_MAX, VERB};
use super::native::Artefact;
use super::{CompileLimits, Stop};
use crate::wasm::engine::Fingerprint;
use crate::wasm::plugin::{Flavour, PluginError};

/// How often it is looked whether anyone still waits.
const STOP_EVERY: Duration = Duration::from_millis(50);
/// What is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// What the child says on stderr before it dies, for the log.
const LAST_WORDS_BYTES_MAX: usize = 4 << 10;
/// Threads of one child: more make little difference and each takes address space.
const THREADS_MAX: usize = 4;

/// Compiles in a child.
pub(super) fn compile(
    program: &Path,
    limits: &CompileLimits,
    fingerprint: &Fingerprint,
    flavour: Flavour,
    bytes: &[u8],
    stop: &Stop,
) -> Result<Artefact, PluginError> {
    let deadline = Instant::now() + limits.time;
    let mut running = Running::start(program, limits, flavour)
        .map_err(|error| PluginError::CompilerFailed { message: format!("`{}`: {error}", program.display()) })?;
    let talked = running.talk(bytes, limits, deadline, stop);
    let (answer, last_words) = (std::mem::take(&mut running.answer), std::mem::take(&mut running.last_words));
    let status = running.end();
    match talked {
        Ok(()) => {}
        Err(Broken::Late) => return Err(PluginError::CompileTime { limit: limits.time }),
        Err(Broken::Stopped) => return Err(PluginError::CompileStopped),
        Err(Broken::TooLarge) => return Err(PluginError::CodeTooLarge { max: limits.code_bytes }),
        Err(Broken::Pipe(error)) => return Err(PluginError::CompilerFailed { message: error.to_string() }),
    }
    match read(answer, fingerprint) {
        Ok(Answer::Code(code)) if code.len() as u64 > limits.code_bytes => {
            Err(PluginError::CodeTooLarge { max: limits.code_bytes })
        }
        Ok(Answer::Code(code)) => Ok(Artefact::of_child(code)),
        Ok(Answer::Refused(message)) => Err(PluginError::Invalid { message }),
        Ok(Answer::Foreign) => {
            let message = format!("`{}` is another version of this program", program.display());
            Err(PluginError::CompilerFailed { message })
        }
        Err(Cut) => Err(died(status, &last_words, limits)),
    }
}

/// A child, which never outlives this.
struct Running {
    child: Child,
    input: Option<ChildStdin>,
    output: Option<ChildStdout>,
    words: Option<ChildStderr>,
    answer: Vec<u8>,
    last_words: Vec<u8>,
}

/// Why a talk did not come to its end.
enum Broken {
    Late,
    Stopped,
    TooLarge,
    Pipe(io::Error),
}

impl Running {
    fn start(program: &Path, limits: &CompileLimits, flavour: Flavour) -> io::Result<Self> {
        let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        let mut child = Command::new(program)
            .arg0("runner")
            .arg(VERB)
            .args(["--flavour", flavour.as_str()])
            .args(["--memory-bytes", &limits.memory_bytes.to_string()])
            .args(["--cpu-seconds", &limits.time.as_secs().max(1).to_string()])
            .args(["--parent", &std::process::id().to_string()])
            // Nothing of ours, secrets least of all; only how many threads its compiler may use.
            .env_clear()
            .env("RAYON_NUM_THREADS", threads.to_string())
            // Its limit is on addresses: the allocator reserves none beyond what it needs.
            .env("MIMALLOC_ARENA_RESERVE", "0")
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let (input, output, words) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let running = Self { child, input, output, words, answer: Vec::new(), last_words: Vec::new() };
        for fd in [
            running.input.as_ref().map(AsFd::as_fd),
            running.output.as_ref().map(AsFd::as_fd),
            running.words.as_ref().map(AsFd::as_fd),
        ] {
            fd.map_or(Ok(()), |fd| rustix::io::ioctl_fionbio(fd, true))?;
        }
        Ok(running)
    }

    /// Feeds it and listens until it has nothing more to say.
    fn talk(&mut self, bytes: &[u8], limits: &CompileLimits, deadline: Instant, stop: &Stop) -> Result<(), Broken> {
        let answer_max = HEADER_BYTES + usize::try_from(limits.code_bytes).unwrap_or(usize::MAX).max(REFUSAL_BYTES_MAX);
        let mut rest = bytes;
        while self.output.is_some() || self.words.is_some() {
            if stop.is_set() {
                return Err(Broken::Stopped);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Broken::Late);
            }
            self.wait(left.min(STOP_EVERY)).map_err(Broken::Pipe)?;
            self.feed(&mut rest).map_err(Broken::Pipe)?;
            listen(&mut self.output, &mut self.answer, answer_max.saturating_add(1)).map_err(Broken::Pipe)?;
            listen(&mut self.words, &mut self.last_words, LAST_WORDS_BYTES_MAX).map_err(Broken::Pipe)?;
            if self.answer.len() > answer_max {
                return Err(Broken::TooLarge);
            }
        }
        Ok(())
    }

    fn wait(&self, at_most: Duration) -> io::Result<()> {
        let mut fds = Vec::with_capacity(3);
        fds.extend(self.input.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
        fds.extend(self.output.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        fds.extend(self.words.as_ref().map(|pipe| PollFd::new(pipe, PollFlags::IN)));
        let at_most = Timespec::try_from(at_most).map_err(io::Error::other)?;
        match poll(&mut fds, Some(&at_most)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what the pipe takes, and closes it at the end. A child that does not read to the end says why by itself.
    fn feed(&mut self, rest: &mut &[u8]) -> io::Result<()> {
        let Some(input) = &mut self.input else { return Ok(()) };
        match input.write(rest) {
            Ok(n) => *rest = &rest[n..],
            Err(error) if is_later(&error) => {}
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => *rest = &[],
            Err(error) => return Err(error),
        }
        if rest.is_empty() {
            self.input = None;
        }
        Ok(())
    }

    /// How it ended; it is killed if it has not.
    fn end(mut self) -> Option<ExitStatus> {
        // A process that is dying closes its pipes when its end is settled, so this does not change how it ended.
        _ = self.child.kill();
        self.child.wait().ok()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both do nothing where it has ended and was waited for.
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Reads what is there, of which `max` bytes are kept; the pipe is closed at its end.
fn listen(pipe: &mut Option<impl Read>, into: &mut Vec<u8>, max: usize) -> io::Result<()> {
    let mut piece = [0; PIECE_BYTES];
    while let Some(open) = pipe {
        match open.read(&mut piece) {
            Ok(0) => *pipe = None,
            Ok(n) => {
                into.extend_from_slice(&piece[..n.min(max.saturating_sub(into.len()))]);
                if into.len() == max {
                    return Ok(());
                }
            }
            Err(error) if is_later(&error) => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn is_later(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

enum Answer {
    Code(Vec<u8>),
    Refused(String),
    Foreign,
}

/// It ended before its answer did.
struct Cut;

fn read(mut answer: Vec<u8>, fingerprint: &Fingerprint) -> Result<Answer, Cut> {
    let mut rest = answer.as_slice();
    if take(&mut rest)? != MAGIC || take::<32>(&mut rest)? != *fingerprint {
        return Ok(Answer::Foreign);
    }
    let [what] = take(&mut rest)?;
    let length = u64::from_le_bytes(take(&mut rest)?);
    if rest.len() as u64 != length {
        return Err(Cut);
    }
    if what == CODE {
        answer.drain(..HEADER_BYTES);
        answer.shrink_to_fit();
        Ok(Answer::Code(answer))
    } else {
        Ok(Answer::Refused(String::from_utf8_lossy(rest).into_owned()))
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Result<[u8; N], Cut> {
    let (first, others) = rest.split_first_chunk::<N>().ok_or(Cut)?;
    *rest = others;
    Ok(*first)
}

/// What is said of a child that ended without an answer.
fn died(status: Option<ExitStatus>, last_words: &[u8], limits: &CompileLimits) -> PluginError {
    let last_words = String::from_utf8_lossy(last_words);
    tracing::warn!(?status, last_words = last_words.trim(), "a compiler died");
    match status.and_then(|status| status.signal()) {
        Some(signal) if signal == Signal::XCPU.as_raw() => PluginError::CompileTime { limit: limits.time },
        Some(signal) => {
            let name = match signal {
                _ if signal == Signal::ABORT.as_raw() => "SIGABRT",
                _ if signal == Signal::KILL.as_raw() => "SIGKILL",
                _ if signal == Signal::SEGV.as_raw() => "SIGSEGV",
                _ => "a signal",
            };
            let how = format!("ended by {name} ({signal})");
            PluginError::CompilerDied { how, memory_bytes: limits.memory_bytes }
        }
        None => {
            let how = status.map_or_else(|| "lost".to_owned(), |status| status.to_string());
            PluginError::CompilerDied { how, memory_bytes: limits.memory_bytes }
        }
    }
}
