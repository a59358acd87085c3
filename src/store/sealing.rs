//! JSON on its way to and from the server: compressed where the settings ask for it, without
//! holding up the threads that drive the sockets.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Batch, KvStore};
use crate::error::Result;
use crate::value::{self, Compression};

/// Bytes from which compressing or decompressing them is done aside: they take half a millisecond
/// or more, and handing the sockets over to another thread a few hundredths of one.
const ASIDE_BYTES: usize = 64 * 1024;

/// Bytes of the values that a store has sent since it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Written {
    /// As JSON.
    pub json_bytes: u64,
    /// As they lie on the server: less where values were compressed.
    pub stored_bytes: u64,
}

/// What makes stored bytes of JSON, and counts both.
pub(super) struct Sealing {
    compression: Compression,
    json_bytes: AtomicU64,
    stored_bytes: AtomicU64,
}

impl Sealing {
    pub(super) fn new(compression: Compression) -> Self {
        Self {
            compression,
            json_bytes: AtomicU64::new(0),
            stored_bytes: AtomicU64::new(0),
        }
    }

    /// Has what is stored take the place of the JSON of a batch of `store`.
    pub(super) fn seal(&self, store: &KvStore, batch: &mut Batch) {
        let json_bytes = batch.json_bytes();
        let stored_bytes = if self.compression.is_on() {
            let seal = |json: &[u8]| self.compression.seal(json).into_owned();
            aside(json_bytes, || batch.replace(store, seal))
        } else {
            json_bytes
        };
        self.json_bytes.fetch_add(json_bytes as u64, Relaxed);
        self.stored_bytes.fetch_add(stored_bytes as u64, Relaxed);
    }

    pub(super) fn written(&self) -> Written {
        Written {
            json_bytes: self.json_bytes.load(Relaxed),
            stored_bytes: self.stored_bytes.load(Relaxed),
        }
    }
}

/// The JSON of a stored value: see [`value::open`].
pub(super) fn open(stored: Bytes, max: usize) -> Result<Bytes> {
    if value::is_frame(&stored) {
        return aside(stored.len(), || value::open(stored, max));
    }
    value::open(stored, max)
}

/// Does work on so many bytes. Where that takes long, the other tasks of this thread, sockets
/// among them, go on on another one meanwhile.
fn aside<T>(bytes: usize, work: impl FnOnce() -> T) -> T {
    let flavor = Handle::try_current().map(|runtime| runtime.runtime_flavor());
    if bytes >= ASIDE_BYTES && matches!(flavor, Ok(RuntimeFlavor::MultiThread)) {
        return tokio::task::block_in_place(work);
    }
    work()
}
