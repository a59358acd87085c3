//! Dict keys repeat from value to value: each is made once and shared.

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::PyString;

use std::sync::{Mutex, PoisonError};

/// Keys longer than this are not worth a place.
const MAX_LENGTH: usize = 64;
/// Places; a power of two. A new key takes the place of the one it collides with.
const PLACES: usize = 1024;

type Place = Option<(Box<[u8]>, Py<PyString>)>;

static KEYS: PyOnceLock<Mutex<Box<[Place]>>> = PyOnceLock::new();

/// The Python string of a dict key, whose bytes hold no escape.
pub(super) fn key<'py>(py: Python<'py>, bytes: &[u8]) -> PyResult<Bound<'py, PyString>> {
    if bytes.len() > MAX_LENGTH {
        return PyString::from_bytes(py, bytes);
    }
    let keys = KEYS.get_or_init(py, || Mutex::new((0..PLACES).map(|_| None).collect()));
    // No Python code runs while it is held, so the thread that holds it never waits for another.
    let mut places = keys.lock().unwrap_or_else(PoisonError::into_inner);
    let place = &mut places[hash(bytes) & (PLACES - 1)];
    if let Some((known, text)) = place
        && **known == *bytes
    {
        return Ok(text.bind(py).clone());
    }
    let text = PyString::from_bytes(py, bytes)?;
    *place = Some((bytes.into(), text.clone().unbind()));
    Ok(text)
}

/// FNV-1a, taken eight bytes at a time: keys are short, and a collision only costs a new string.
fn hash(bytes: &[u8]) -> usize {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0100_0000_01b3);
        hash ^= hash >> 29;
    }
    usize::try_from(hash & u64::from(u32::MAX)).unwrap_or(0)
}
