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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_text_of_a_thread_begins_empty_also_within_another() {
        let mut outer = Buffer::take();
        outer.0.extend_from_slice(b"outer");
        let mut inner = Buffer::take();
        inner.0.extend_from_slice(b"inner");
        assert_eq!((outer.text(), inner.text()), ("outer", "inner"));
        drop(inner);
        assert_eq!(outer.text(), "outer");
        drop(outer);
        assert_eq!(Buffer::take().text(), "");
    }

    #[test]
    fn a_thread_keeps_a_short_buffer_and_no_long_one() {
        let mut long = Buffer::take();
        long.0.reserve(Buffer::KEEP + 1);
        drop(long);
        assert_eq!(Buffer::take().0.capacity(), 0);
        let mut short = Buffer::take();
        short.0.reserve_exact(100);
        drop(short);
        assert_eq!(Buffer::take().0.capacity(), 100);
    }
}
