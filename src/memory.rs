//! Memory of a value's size, which the system may refuse: an error of the call, where Rust's own allocations end the
//! process.
//!
//! What is small and of a fixed size is not asked for here, and a process in which that cannot be had any more ends. So
//! whoever asks for much leaves [`SPARE`] bytes to be had for the small things around it, and work on many ids looks for
//! them before each batch.

use std::collections::TryReserveError;
use std::panic::resume_unwind;

use memmap2::MmapMut;

use crate::error::{Error, Kind, Result};

/// Bytes from which on a claim is refused unless [`SPARE`] bytes can be had besides.
const LARGE: usize = 256 * 1024;
/// Bytes that a short text takes besides its place in a list.
const TEXT: usize = 64;
/// What small allocations are left with.
const SPARE: usize = 1024 * 1024;
/// Address space that glibc maps for the heap of a new thread, most of which it gives back. A thread for which it
/// cannot gets a page for each allocation, however small.
const HEAP: usize = 128 * 1024 * 1024;

/// Room for so many items more, without which nothing has changed.
#[inline]
pub(crate) fn reserve<T>(items: &mut Vec<T>, more: usize) -> Result<()> {
    if items.capacity() - items.len() >= more {
        return Ok(());
    }
    grow(items, more)
}

/// [`reserve`] where no error can be returned: unwinds with [`NoMemory`], which is caught where the call began.
#[inline]
pub(crate) fn claim<T>(items: &mut Vec<T>, more: usize) {
    if reserve(items, more).is_err() {
        unwind();
    }
}

/// Ends the call from where no error can be returned.
#[cold]
pub(crate) fn unwind() -> ! {
    resume_unwind(Box::new(NoMemory))
}

#[cold]
#[inline(never)]
fn grow<T>(items: &mut Vec<T>, more: usize) -> Result<()> {
    let before = items.capacity();
    let step = more.max(LARGE / size_of::<T>().max(1));
    let grown = items
        .try_reserve(more) // at least doubled
        .or_else(|_| items.try_reserve_exact(step));
    let bytes = items.capacity().saturating_mul(size_of::<T>());
    if grown.is_ok() && (bytes < LARGE || can_have(SPARE)) {
        return Ok(());
    }
    items.shrink_to(before);
    Err(refused(more.saturating_mul(size_of::<T>())))
}

/// An error unless so many bytes could be had at this moment, and some more: for what a library allocates. Another thread
/// may take them first.
pub(crate) fn look_for(bytes: usize) -> Result<()> {
    if bytes < LARGE || can_have(bytes.saturating_add(SPARE)) {
        return Ok(());
    }
    Err(refused(bytes))
}

/// An error unless there is memory for the next batch of what takes little for each of many ids.
pub(crate) fn look_for_batch() -> Result<()> {
    look_for(LARGE)
}

/// What became of a table of so many items that was to grow, for which all of them are moved.
pub(crate) fn grown<T>(
    outcome: std::result::Result<(), TryReserveError>,
    items: usize,
) -> Result<()> {
    outcome.map_err(|_| refused(items.saturating_mul(size_of::<T>())))
}

/// Room for so many short texts more, as ids are.
pub(crate) fn reserve_texts(texts: &mut Vec<String>, more: usize) -> Result<()> {
    reserve(texts, more)?;
    look_for(more.saturating_mul(TEXT))
}

/// All of them, if there is memory for the list.
pub(crate) fn listed<T>(items: impl ExactSizeIterator<Item = T>) -> Result<Vec<T>> {
    let mut all = Vec::new();
    reserve(&mut all, items.len())?;
    all.extend(items);
    Ok(all)
}

fn can_have(bytes: usize) -> bool {
    // Asked of the system: what the allocator has put by for one thread is of no use to another.
    MmapMut::map_anon(bytes).is_ok()
}

/// Does work that allocates on a thread that no socket waits for, or at once where memory is so short that another thread
/// would have no heap. It begins when this is first polled, and goes to its end even if this is dropped. None if it
/// was broken off.
pub(crate) async fn beside<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    if can_have(HEAP) {
        tokio::task::spawn_blocking(work).await.ok()
    } else {
        Some(work())
    }
}

/// What the caller gets whose call needs so many bytes more than there are.
#[cold]
pub(crate) fn refused(bytes: usize) -> Error {
    let message = format!(
        "no memory for {bytes} bytes more: raise the limit of memory, or read and write less at once"
    );
    Error::new(Kind::Memory, message)
}

/// The payload of the panic of whoever was refused memory where no error can be returned.
pub(crate) struct NoMemory;

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    /// More than any machine has.
    const TOO_MUCH: usize = usize::MAX / 4;

    #[test]
    fn what_cannot_be_had_is_an_error_and_changes_nothing() {
        let mut items = vec![1_u16, 2];
        for more in [TOO_MUCH, usize::MAX] {
            let error = reserve(&mut items, more).unwrap_err();
            assert_eq!(error.kind(), Kind::Memory);
            let panic = catch_unwind(AssertUnwindSafe(|| claim(&mut items, more)));
            assert!(panic.unwrap_err().is::<NoMemory>());
        }
        assert_eq!(items, [1, 2]);
        assert_eq!(look_for(TOO_MUCH).unwrap_err().kind(), Kind::Memory);
        assert!(look_for(LARGE).is_ok());
    }

    #[test]
    fn what_can_be_had_is_there() {
        let mut items: Vec<u32> = Vec::new();
        for more in [0, 1, LARGE] {
            claim(&mut items, more);
            assert!(items.capacity() >= more);
        }
    }
}
