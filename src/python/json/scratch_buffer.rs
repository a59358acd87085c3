//! Room that a thread keeps from one value to the next: none grows its own.

use std::cell::Cell;

/// Bytes that are kept at most.
const KEPT: usize = 1 << 20;

thread_local! {
    static BUFFER: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty room. A value whose own code meets another value meanwhile leaves that one to find a
/// room.
pub(super) fn take() -> Vec<u8> {
    let mut buffer = BUFFER.try_with(Cell::take).unwrap_or_default();
    buffer.clear();
    buffer
}

/// Leaves the room to the next value.
pub(super) fn leave(buffer: Vec<u8>) {
    if buffer.capacity() <= KEPT {
        // None is kept on a thread that is ending.
        let _ = BUFFER.try_with(|kept| kept.set(buffer));
    }
}
