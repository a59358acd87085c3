//! JSON on its way to and from the server: compressed where the settings ask for it, without
//! holding up the threads that drive the sockets.

use bytes::Bytes;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::{Batch, KvStore};
use crate::error::Result;
use crate::metrics::{Count, Direction, StoreCounters};
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
pub(super) struct Compressor {
    compression: Compression,
    counters: StoreCounters,
}

impl Compressor {
    pub(super) fn new(compression: Compression, counters: StoreCounters) -> Self {
        Self {
            compression,
            counters,
        }
    }

    /// Has what is stored take the place of the JSON of a batch of `store`.
    pub(super) fn compress(&self, store: &KvStore, batch: &mut Batch) {
        let json_bytes = batch.json_bytes();
        let stored_bytes = if self.compression.is_on() {
            let compress = |json: &[u8]| self.compression.compress(json).into_owned();
            aside(json_bytes, || batch.replace(store, compress))
        } else {
            json_bytes
        };
        self.counters
            .moved(Direction::Written, json_bytes, stored_bytes);
    }

    pub(super) fn written(&self) -> Written {
        Written {
            json_bytes: self.counters.get(Count::JsonWritten),
            stored_bytes: self.counters.get(Count::StoredWritten),
        }
    }
}

/// The JSON of a stored value, counted as the bytes of both: see [`value::open`].
pub(super) fn open(stored: Bytes, max: usize, counters: &StoreCounters) -> Result<Bytes> {
    let stored_bytes = stored.len();
    let opened = if value::is_frame(&stored) {
        aside(stored_bytes, || value::open(stored, max))
    } else {
        value::open(stored, max)
    };
    let json_bytes = opened.as_ref().map_or(0, Bytes::len);
    counters.moved(Direction::Read, json_bytes, stored_bytes);
    opened
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
