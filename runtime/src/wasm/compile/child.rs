//! The child that compiles: a plugin on stdin, its native code on stdout.
//!
//! It limits itself before it reads a byte, and dies with its parent. Its engine has the settings of the parent's, but no
//! pool, which would reserve terabytes of address space; the code is the same. It opens no file and no socket.
//!
//! The answer, little-endian:
//! ```text
//! 8 bytes    MAGIC
//! 32 bytes   the engine's fingerprint: the parent takes nothing of another one
//! 1 byte     CODE or REFUSED
//! 8 bytes    how much follows
//! …          native code, or why there is none, as text
//! ```

use std::io::{self, Read, Write};

use crate::wasm::engine::{self, Fingerprint};
use crate::wasm::plugin::{Flavour, PLUGIN_BYTES_MAX, chain};

/// The verb of the command line that nobody calls by hand.
pub const VERB: &str = "compile-plugin";

pub(super) const MAGIC: [u8; 8] = *b"RUNNERc1";
pub(super) const CODE: u8 = 0;
pub(super) const REFUSED: u8 = 1;
/// Before what follows.
pub(super) const HEADER_BYTES: usize = 8 + 32 + 1 + 8;
/// Why a plugin is refused, in wasmtime's words.
pub(super) const REFUSAL_BYTES_MAX: usize = 16 << 10;
/// Standard streams, and what the system's libraries open for a moment.
const FILES_MAX: u64 = 16;
/// Behind what runs, and not so far that a busy node starves it: at 19 a core that guests fill leaves it 1.5 %, at 10 a
/// tenth, with which the slowest honest plugins are done within their wall clock.
const NICE: i32 = 10;

/// What the parent says.
#[derive(Debug, Clone, clap::Args)]
pub struct Order {
    /// Component or command.
    #[arg(long)]
    pub flavour: Flavour,
    /// Address space.
    #[arg(long)]
    pub memory_bytes: u64,
    /// Processor time.
    #[arg(long)]
    pub cpu_seconds: u64,
    /// The process that waits.
    #[arg(long)]
    pub parent: i32,
}

/// Compiles what comes on stdin.
///
/// # Errors
/// The limits cannot be set, or the parent is gone. That a plugin is refused is an answer and no error.
pub fn main(order: &Order) -> io::Result<()> {
    limit(order)?;
    let mut bytes = Vec::new();
    io::stdin().lock().take(PLUGIN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    let engine = engine::for_compiling().map_err(|error| io::Error::other(chain(&error)))?;
    let compiled = match order.flavour {
        Flavour::Component => engine.precompile_component(&bytes),
        Flavour::Command => engine.precompile_module(&bytes),
    };
    let fingerprint = engine::fingerprint(&engine);
    let mut out = io::stdout().lock();
    match compiled {
        Ok(code) => answer(&mut out, &fingerprint, CODE, &code),
        Err(error) => {
            let mut message = chain(&error);
            message.truncate(message.floor_char_boundary(REFUSAL_BYTES_MAX));
            answer(&mut out, &fingerprint, REFUSED, message.as_bytes())
        }
    }
}

fn answer(out: &mut impl Write, fingerprint: &Fingerprint, what: u8, bytes: &[u8]) -> io::Result<()> {
    out.write_all(&MAGIC)?;
    out.write_all(fingerprint)?;
    out.write_all(&[what])?;
    out.write_all(&(bytes.len() as u64).to_le_bytes())?;
    out.write_all(bytes)?;
    out.flush()
}

fn limit(order: &Order) -> io::Result<()> {
    use rustix::process::{Resource, Rlimit, getppid, setpriority_process, setrlimit};
    let at_most = |current, maximum| Rlimit { current: Some(current), maximum: Some(maximum) };
    // A core dump of a compile bomb is gigabytes, and a file of ours is none of its business.
    setrlimit(Resource::Core, at_most(0, 0))?;
    setrlimit(Resource::Fsize, at_most(0, 0))?;
    setrlimit(Resource::Nofile, at_most(FILES_MAX, FILES_MAX))?;
    setrlimit(Resource::As, at_most(order.memory_bytes, order.memory_bytes))?;
    // At the first it is told, which ends it and says why; at the second it is killed.
    setrlimit(Resource::Cpu, at_most(order.cpu_seconds, order.cpu_seconds.saturating_add(1)))?;
    setpriority_process(None, NICE)?;
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // It may have died before it was asked for its death.
    let parent = getppid().map(|pid| pid.as_raw_nonzero().get());
    if parent == Some(order.parent) { Ok(()) } else { Err(io::Error::other("the process that asked is gone")) }
}
