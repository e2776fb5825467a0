//! Where a run's first allocations go: one after the other into a piece of memory that nobody has used.
//!
//! An instance begins with pages of memory that it shares with all others, and each page that it writes to is copied first, which
//! takes longer than most of what is written. What was freed before a memory was handed over lies everywhere, and the usual
//! allocator would fill it again. So, until the piece is full, it gives out and takes back nothing; a long run goes on with the
//! usual allocator, and has lost no more than the piece and what it freed meanwhile.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// What a small run allocates, some times over.
const PIECE_BYTES: usize = 128 << 10;
/// What is larger has pages of its own anyway.
const LARGE_BYTES: usize = 16 << 10;

/// There is one thread: these are plain variables.
struct Near {
    begin: AtomicUsize,
    next: AtomicUsize,
}

#[global_allocator]
static NEAR: Near = Near { begin: AtomicUsize::new(0), next: AtomicUsize::new(0) };

/// From now on, allocations go into a new piece. Once in an instance.
pub(crate) fn begin() {
    let layout = Layout::from_size_align(PIECE_BYTES, 4 << 10).expect("a power of two");
    // SAFETY: it is not empty.
    let piece = unsafe { System.alloc(layout) }.expose_provenance();
    NEAR.begin.store(piece, Relaxed);
    NEAR.next.store(piece, Relaxed);
}

impl Near {
    fn has(&self, at: *mut u8) -> bool {
        let begin = self.begin.load(Relaxed);
        at.addr().wrapping_sub(begin) < PIECE_BYTES && begin != 0
    }

    /// Whether there is room left.
    fn is_open(&self) -> bool {
        let begin = self.begin.load(Relaxed);
        begin != 0 && self.next.load(Relaxed) - begin < PIECE_BYTES
    }

    fn place(&self, layout: Layout) -> Option<*mut u8> {
        let begin = self.begin.load(Relaxed);
        if begin == 0 || layout.size() > LARGE_BYTES {
            return None;
        }
        let at = self.next.load(Relaxed).next_multiple_of(layout.align());
        let end = at + layout.size();
        if end > begin + PIECE_BYTES {
            // Full: the rest of it stays unused, so that this is asked once only.
            self.next.store(begin + PIECE_BYTES, Relaxed);
            return None;
        }
        self.next.store(end, Relaxed);
        Some(std::ptr::with_exposed_provenance_mut(at))
    }
}

// SAFETY: a place in the piece is given out once, aligned, and goes to nobody else while it is held; everything else is the system's.
unsafe impl GlobalAlloc for Near {
    // None of them is inlined: they are called from everywhere.
    #[inline(never)]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as the caller says.
        self.place(layout).unwrap_or_else(|| unsafe { System.alloc(layout) })
    }

    #[inline(never)]
    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if self.has(at) {
            // The last one may go to the next who asks.
            if at.addr() + layout.size() == self.next.load(Relaxed) {
                self.next.store(at.addr(), Relaxed);
            }
        } else if !self.is_open() || layout.size() > LARGE_BYTES {
            // SAFETY: it is the system's, as the caller says.
            unsafe { System.dealloc(at, layout) }
        }
    }

    #[inline(never)]
    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if !self.has(at) {
            // SAFETY: it is the system's, as the caller says.
            return unsafe { System.realloc(at, layout, size) };
        }
        let is_last = at.addr() + layout.size() == self.next.load(Relaxed);
        if is_last && at.addr() + size <= self.begin.load(Relaxed) + PIECE_BYTES {
            self.next.store(at.addr() + size, Relaxed);
            return at;
        }
        // SAFETY: the size is one that the caller may ask for, and both places have the smaller of the two.
        unsafe {
            let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !new.is_null() {
                std::ptr::copy_nonoverlapping(at, new, layout.size().min(size));
                self.dealloc(at, layout);
            }
            new
        }
    }
}
