//! A fast hash for maps with trusted keys.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map with keys that this program or its operators choose: names of tasks and queues, ids of runs. A client that sends
/// requests cannot choose colliding keys, and a hash that resists such an attack would cost more than everything else done with
/// the map.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Hashes a key one 64-bit word at a time.
#[derive(Debug, Default)]
pub(crate) struct FastHasher(u64);

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        for part in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..part.len()].copy_from_slice(part);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        // The fraction of the golden ratio in 64 bits: odd, and without a pattern.
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    fn write_u8(&mut self, byte: u8) {
        self.write_u64(byte.into());
    }

    fn finish(&self) -> u64 {
        // Multiplication mixes only the upper bits well, but a hash map uses both the upper and the lower bits.
        self.0 ^ (self.0 >> 32)
    }
}
