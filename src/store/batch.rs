//! Writes on their way to the server: the ids, and the bytes of the wire that set them.

use super::KvStore;
use crate::client::Commands;

/// Bytes of the wire around a key and a value: lengths, the command's name, a time to live.
const FRAME: usize = 96;

/// Values that are set by one request. They are written into it as they come, and not kept.
pub struct Batch {
    pub(super) ids: Vec<String>,
    pub(super) sets: Commands,
    pub(super) json_bytes: usize,
}

impl Batch {
    /// A batch without writes, for about so many bytes.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self {
            ids: Vec::new(),
            sets: Commands::with_capacity(bytes),
            json_bytes: 0,
        }
    }

    /// How many values it sets.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ids.len()
    }

    /// Whether it sets none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    /// Bytes of its values' JSON.
    #[must_use]
    pub fn json_bytes(&self) -> usize {
        self.json_bytes
    }

    /// The ids it sets.
    #[must_use]
    pub fn into_ids(self) -> Vec<String> {
        self.ids
    }

    /// Sets an id of `store` too; a batch is of one store.
    pub fn add(&mut self, store: &KvStore, id: String, json: &[u8]) {
        self.json_bytes += json.len();
        self.set(store, &id, json);
        self.ids.push(id);
    }

    fn set(&mut self, store: &KvStore, id: &str, stored: &[u8]) {
        let prefix = store.config.keyspace.prefix();
        self.sets
            .reserve(prefix.len() + id.len() + stored.len() + FRAME);
        match &store.ttl {
            Some(ttl) => self
                .sets
                .add("SET", (prefix, id), &[stored, b"EX", ttl.as_bytes()]),
            None => self.sets.add("SET", (prefix, id), &[stored]),
        }
    }

    /// One batch of several, in their order.
    #[must_use]
    pub fn join(batches: Vec<Self>) -> Self {
        let mut batches = batches.into_iter();
        let Some(mut joined) = batches.next() else {
            return Self::new(0);
        };
        for batch in batches {
            joined.json_bytes += batch.json_bytes;
            joined.ids.extend(batch.ids);
            joined.sets.join(&batch.sets);
        }
        joined
    }

    /// Puts other bytes in the place of each value; gives how many they are.
    pub(super) fn replace(&mut self, store: &KvStore, change: impl Fn(&[u8]) -> Vec<u8>) -> usize {
        let sets = std::mem::take(&mut self.sets);
        let ids = std::mem::take(&mut self.ids);
        let mut bytes = 0;
        for (id, json) in ids.iter().zip(sets.arguments(2)) {
            let stored = change(json);
            bytes += stored.len();
            self.set(store, id, &stored);
        }
        self.ids = ids;
        bytes
    }
}
