//! A reusable buffer for JSON of unknown length.

use std::cell::Cell;
use std::mem;

thread_local! {
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A buffer that each thread reuses for the next text. So only the final text is allocated, once and with its exact length.
#[derive(Debug)]
pub(super) struct Buffer(pub(super) Vec<u8>);

impl Buffer {
    /// The largest buffer that a thread keeps, in bytes, so that a few long texts do not occupy memory forever.
    const KEEP: usize = 16 * 1024;

    /// An empty buffer. If the thread's buffer is already in use, a new one without capacity.
    pub(super) fn take() -> Self {
        Self(SPARE.try_with(Cell::take).unwrap_or_default())
    }

    /// The text that serde_json has written.
    pub(super) fn text(&self) -> &str {
        str::from_utf8(&self.0).expect("serde_json writes UTF-8 only")
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if self.0.capacity() <= Self::KEEP {
            self.0.clear();
            // While the thread's locals are being destroyed, the buffer is simply dropped.
            let _ = SPARE.try_with(|spare| spare.set(mem::take(&mut self.0)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_starts_empty_even_while_another_is_in_use() {
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
    fn a_thread_keeps_a_short_buffer_and_drops_a_long_one() {
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
