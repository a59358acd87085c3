//! Many texts in one batch of memory.

use crate::memory;

/// Texts on their way between an event loop's thread and those of the runtime. A million small
/// allocations would be freed by the other side, which keeps the loop: an allocator merges them at
/// once some time, with its lock held.
#[derive(Default)]
pub(super) struct Packed {
    text: String,
    ends: Vec<usize>,
    taken: usize,
}

/// Bytes of room for each text at first, and for all of them at most: growing would move them all.
const TEXT_ROOM: usize = 40;
const MOST_ROOM: usize = 64 << 20;

impl Packed {
    /// For so many texts.
    pub(super) fn with_room(count: usize) -> Self {
        let bytes = count.saturating_mul(TEXT_ROOM).min(MOST_ROOM);
        let mut packed = Self::default();
        // Where it cannot be had, it grows with what comes, as far as it can.
        let _ = packed.text.try_reserve(bytes);
        let _ = memory::reserve(&mut packed.ends, count);
        packed
    }

    pub(super) fn push(&mut self, text: &str) {
        if self.text.try_reserve(text.len()).is_err() {
            memory::unwind();
        }
        memory::claim(&mut self.ends, 1);
        self.text.push_str(text);
        self.ends.push(self.text.len());
    }

    /// The next of those that were not taken yet.
    pub(super) fn take(&mut self) -> Option<&str> {
        let end = *self.ends.get(self.taken)?;
        let start = self.taken.checked_sub(1).map_or(0, |last| self.ends[last]);
        self.taken += 1;
        self.text.get(start..end)
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn into_strings(mut self) -> Vec<String> {
        let mut texts = Vec::new();
        if memory::reserve_texts(&mut texts, self.len()).is_err() {
            memory::unwind();
        }
        while let Some(text) = self.take() {
            texts.push(text.to_owned());
        }
        texts
    }
}

impl From<Vec<String>> for Packed {
    fn from(texts: Vec<String>) -> Self {
        let mut packed = Self::default();
        for text in texts {
            packed.push(&text);
        }
        packed
    }
}
