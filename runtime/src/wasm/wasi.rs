//! WASI as a guest finds it: clocks, random bytes and standard streams, and the environment that its manifest states; no
//! file, no socket.
//!
//! Clocks are coarsened to [`CLOCK_STEP`], against timing side channels between tenants of one process. stdout and
//! stderr end in the run's log ([`Streams`]), which never blocks, fails or closes. One context serves WASI 0.1 and 0.2.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tokio::io::AsyncWrite;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p1::WasiP1Ctx;
use wasmtime_wasi::p2::pipe::MemoryInputPipe;
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};
use wasmtime_wasi::{HostMonotonicClock, HostWallClock, WasiCtxBuilder, async_trait};

use super::engine::{HOST_YIELD_INTERVAL, RANDOM_BYTES_MAX};
use super::log::LogSource;
use super::streams::Streams;

/// The smallest difference that a guest can see.
pub(super) const CLOCK_STEP: Duration = Duration::from_micros(100);
/// What one write may carry; more goes in several, between which the guest yields. As many newlines take a
/// millisecond.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// One of the two streams.
struct Stream {
    streams: Streams,
    source: LogSource,
    yielded: Instant,
}

/// The context of one run.
pub(super) fn context(streams: &Streams, stdin: Option<Vec<u8>>, env: &[(String, String)]) -> WasiP1Ctx {
    let mut builder = WasiCtxBuilder::new();
    if let Some(bytes) = stdin {
        builder.stdin(MemoryInputPipe::new(bytes));
    }
    builder
        .envs(env)
        .stdout(Stream::new(streams, LogSource::Stdout))
        .stderr(Stream::new(streams, LogSource::Stderr))
        .max_random_size(RANDOM_BYTES_MAX)
        .monotonic_clock(CoarseMonotonic(Instant::now()))
        .wall_clock(CoarseWall)
        // Addresses are denied by default; here the sockets themselves are.
        .allow_tcp(false)
        .allow_udp(false)
        .allow_ip_name_lookup(false)
        // A guest that waits must not hold its thread.
        .allow_blocking_current_thread(false)
        .build_p1()
}

impl Stream {
    fn new(streams: &Streams, source: LogSource) -> Self {
        Self { streams: streams.clone(), source, yielded: Instant::now() }
    }
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(Self::new(&self.streams, self.source))
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(Self::new(&self.streams, self.source))
    }
}

#[async_trait]
impl Pollable for Stream {
    /// Always ready; asked before every piece of a long write, which is one host call, so it gives the thread back.
    async fn ready(&mut self) {
        if self.yielded.elapsed() >= HOST_YIELD_INTERVAL {
            tokio::task::yield_now().await;
            self.yielded = Instant::now();
        }
    }
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: bytes::Bytes) -> StreamResult<()> {
        self.streams.write(self.source, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(WRITE_BYTES_MAX)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.streams.write(self.source, bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Since the run began.
struct CoarseMonotonic(Instant);

struct CoarseWall;

fn coarse(time: Duration) -> Duration {
    let step = CLOCK_STEP.as_nanos();
    let steps = time.as_nanos() / step;
    Duration::from_nanos(u64::try_from(steps * step).unwrap_or(u64::MAX))
}

impl HostMonotonicClock for CoarseMonotonic {
    fn resolution(&self) -> u64 {
        u64::try_from(CLOCK_STEP.as_nanos()).unwrap_or(u64::MAX)
    }

    fn now(&self) -> u64 {
        u64::try_from(coarse(self.0.elapsed()).as_nanos()).unwrap_or(u64::MAX)
    }
}

impl HostWallClock for CoarseWall {
    fn resolution(&self) -> Duration {
        CLOCK_STEP
    }

    fn now(&self) -> Duration {
        coarse(runner_store::clock::wall())
    }
}
