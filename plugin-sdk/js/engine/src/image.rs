//! Hands the engine's memory to the runner, which begins other instances with it.
//!
//! The stack lies below everything else and is left out: an instance that begins has nothing on it.

#[cfg(target_arch = "wasm32")]
pub(crate) use self::memory::keep;

/// Only WebAssembly has a memory to hand over; elsewhere the engine is checked and never run.
#[cfg(not(target_arch = "wasm32"))]
pub(crate) fn keep() {}

#[cfg(target_arch = "wasm32")]
mod memory {
    use crate::runner::engine::image;

    /// No call carries more.
    const PIECE_BYTES: usize = 1 << 20;
    /// WebAssembly's page.
    const PAGE_BYTES: usize = 64 << 10;

    unsafe extern "C" {
        /// Where data begins; the linker says it.
        static __global_base: u8;
    }

    /// All of the memory above the stack, as it is now. Nothing may be borrowed that the next instance is to find free.
    pub(crate) fn keep() {
        let end = core::arch::wasm32::memory_size(0) * PAGE_BYTES;
        let mut at = (&raw const __global_base).addr();
        while at < end {
            let length = PIECE_BYTES.min(end - at);
            // SAFETY: it lies within the memory, and nothing writes while the runner reads it.
            let piece = unsafe { std::slice::from_raw_parts(std::ptr::with_exposed_provenance(at), length) };
            image::keep(at as u32, piece);
            at += length;
        }
    }
}
