//! Where JSON is written before its length is known.

use std::cell::Cell;
use std::mem;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer that each thread keeps for the next text, so that only the text itself is allocated, once and to its
/// length.
#[derive(Debug)]
pub(super) struct Buffer(pub(super) Vec<u8>);

impl Buffer {
    /// What a thread keeps, in bytes: a few long texts must not hold on to their memory for ever.
    const KEEP: usize = 16 * 1024;

    /// An empty one. A second of the same thread, while the first is in use, starts without memory.
    pub(super) fn take() -> Self {
        Self(SPARE.try_with(Cell::take).unwrap_or_default())
    }

    /// What serde_json has written.
    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.0).expect("serde_json writes UTF-8 only")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() <= Self::KEEP {
            self.0.clear();
            // A thread whose locals are being torn down keeps nothing.
            let _ = SPARE.try_with(|spare| spare.set(mem::take(&mut self.0)));
        }
    }
}
