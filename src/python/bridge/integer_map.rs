//! Maps whose keys are numbers that no stranger chooses: they need no hash that resists one.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

pub(super) type IntegerMap<K, V> = HashMap<K, V, BuildHasherDefault<Mix>>;

/// Spreads a number over all bits, of which a map uses the lowest and the highest.
#[derive(Default)]
pub(super) struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u64(u64::from(byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        // 2^64 divided by the golden ratio: Knuth, The Art of Computer Programming 3, 6.4.
        let product = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = product ^ (product >> 32);
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
