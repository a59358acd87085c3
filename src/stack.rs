//! The stack of the calling thread: what is left of it, and a larger one for work that needs more.
//!
//! A thread's stack may be as small as 64 KiB (`threading.stack_size`; 128 KiB is musl's default), and
//! an overflow ends the process. Polling a call's future takes some 300 KiB in a release build.

#[cfg(any(feature = "python", test))]
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

#[cfg(feature = "python")]
use crate::error::{Error, Kind};

/// Kept free below the deepest level of nested data: for the calls into Python made there, and for
/// raising an error.
const RESERVE: usize = 32 * 1024;
/// A thread with less than this left gets another stack for [`on_large_stack`] work.
#[cfg(any(feature = "python", test))]
const ENOUGH: usize = 512 * 1024;
/// The size of that other stack. Pages that are not touched take no memory.
#[cfg(any(feature = "python", test))]
const LARGE_STACK: usize = 2 * 1024 * 1024;

/// Whether recursion must end here. False where the system does not say how large the stack is.
pub(crate) fn is_low() -> bool {
    stacker::remaining_stack().is_some_and(|left| left < RESERVE)
}

/// The payload of the panic of a thread for which no larger stack could be made.
#[cfg(any(feature = "python", test))]
pub(crate) struct NoStack;

#[cfg(feature = "python")]
impl NoStack {
    /// What its caller gets.
    pub(crate) fn error() -> Error {
        let message = format!(
            "no memory for a stack of {LARGE_STACK} bytes, which the call needs, since this thread's own is \
             smaller than {ENOUGH}: raise the limit of memory, or threading.stack_size"
        );
        Error::new(Kind::Operation, message)
    }
}

/// Runs `work` where there is room for it: on this stack, or on one made for it. Panics with
/// [`NoStack`] where none can be made.
///
/// `work` must not call Python, which from 3.14 on holds the stack pointer against the bounds of
/// the stack that the thread began with.
#[cfg(any(feature = "python", test))]
pub(crate) fn on_large_stack<T>(work: impl FnOnce() -> T) -> T {
    if stacker::remaining_stack().is_some_and(|left| left >= ENOUGH) {
        return apart(work);
    }
    grown(work)
}

#[cfg(any(feature = "python", test))]
#[cold]
#[inline(never)]
fn grown<T>(work: impl FnOnce() -> T) -> T {
    let mut work = Some(work);
    let on_another = AssertUnwindSafe(|| stacker::grow(LARGE_STACK, || work.take().map(apart)));
    match catch_unwind(on_another) {
        Ok(Some(done)) => done,
        Err(panic) if work.is_none() => resume_unwind(panic),
        // Stacker panics before it begins where the system gives no memory.
        Ok(None) | Err(_) => resume_unwind(Box::new(NoStack)),
    }
}

/// Keeps the frame of `work` out of its caller's: inlined there, it would be taken from the small
/// stack before another is made.
#[cfg(any(feature = "python", test))]
#[inline(never)]
fn apart<T>(work: impl FnOnce() -> T) -> T {
    work()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_thread<T: Send>(stack: usize, work: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(stack);
            let running = thread.spawn_scoped(scope, work).expect("a thread");
            running.join().expect("no panic")
        })
    }

    fn levels(depth: usize) -> usize {
        let frame = std::hint::black_box([0_u8; 256]);
        let below = if is_low() { depth } else { levels(depth + 1) };
        std::hint::black_box(&frame);
        below
    }

    #[test]
    fn recursion_ends_before_the_stack_does() {
        let small = in_thread(128 * 1024, || levels(0));
        let large = in_thread(1024 * 1024, || levels(0));
        assert!(small > 10);
        assert!(large > 4 * small);
    }

    #[test]
    fn roomy_work_has_room_in_a_small_thread() {
        let (before, inside, after) = in_thread(128 * 1024, || {
            let before = stacker::remaining_stack();
            (
                before,
                on_large_stack(stacker::remaining_stack),
                stacker::remaining_stack(),
            )
        });
        assert!(before < Some(ENOUGH));
        assert!(inside > Some(ENOUGH));
        assert!(after < Some(ENOUGH));
    }
}
