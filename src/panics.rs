//! Panics that are errors to us, of libraries and for want of memory: caught, and not reported on stderr.

use std::any::Any;
use std::cell::Cell;
use std::panic::{
    AssertUnwindSafe, PanicHookInfo, catch_unwind, resume_unwind, set_hook, take_hook,
};

use crate::error::{Error, Kind};
use crate::memory::NoMemory;
use crate::mutex::Mutex;

/// The message of the panic where Python has given no object, which pyo3 cannot return.
const NO_OBJECT: &str = "PyObject pointer is null";

/// Bytes that are given back where Python has no memory for an object, since a panic takes some.
const RESERVE: usize = 64 * 1024;
static RESERVED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

thread_local! {
    static EXPECTED: Cell<bool> = const { Cell::new(false) };
}

/// From now on expected panics are silent; any other is reported as before. To be called once, while
/// the library is loaded: its panics are nobody else's.
pub(crate) fn silence_expected() {
    keep_reserve();
    let report = take_hook();
    set_hook(Box::new(move |panic: &PanicHookInfo<'_>| {
        if panic.payload().downcast_ref() == Some(&NO_OBJECT) {
            drop(std::mem::take(&mut *RESERVED.lock()));
        } else if !EXPECTED.try_with(Cell::get).unwrap_or(false) {
            report(panic);
        }
    }));
}

/// What `work` gives, or the error of what it had no memory for.
pub(crate) fn or_no_memory<T>(work: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|payload| no_memory(&*payload).unwrap_or_else(|| resume_unwind(payload)))
}

/// What the caller gets if this is the payload of a panic for want of memory.
pub(crate) fn no_memory(payload: &(dyn Any + Send)) -> Option<Error> {
    if !payload.is::<NoMemory>() && payload.downcast_ref() != Some(&NO_OBJECT) {
        return None;
    }
    keep_reserve();
    let message = "no memory for what the call needs: raise the limit of memory, or read and write less at once";
    Some(Error::new(Kind::Memory, message))
}

/// Where there is no memory for it now, it is asked for after the next one.
fn keep_reserve() {
    let _ = RESERVED.lock().try_reserve_exact(RESERVE);
}

/// What `work` gives, or the message of its panic.
pub(crate) fn expected<T>(work: impl FnOnce() -> T) -> Result<T, String> {
    let before = EXPECTED.replace(true);
    let done = catch_unwind(AssertUnwindSafe(work));
    EXPECTED.set(before);
    done.map_err(|payload| message(&*payload))
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| payload.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}
