//! Room that a thread keeps from one value to the next: none grows its own.

use std::cell::Cell;

/// Bytes that are kept at most.
const KEPT: usize = 1 << 20;

thread_local! {
    static ROOM: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// An empty room. A value whose own code meets another value meanwhile leaves that one to find a
/// room.
pub(super) fn take() -> Vec<u8> {
    let mut room = ROOM.try_with(Cell::take).unwrap_or_default();
    room.clear();
    room
}

/// Leaves the room to the next value.
pub(super) fn leave(room: Vec<u8>) {
    if room.capacity() <= KEPT {
        // None is kept on a thread that is ending.
        let _ = ROOM.try_with(|kept| kept.set(room));
    }
}
