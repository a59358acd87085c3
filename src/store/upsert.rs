//! `upsert`: values on their way to the server, that are set, registered and recorded.

use std::borrow::Cow;
use std::sync::Arc;

use super::KvStore;
use crate::client::{Commands, deadline};
use crate::error::Result;
use crate::files::change_log::{Lines, Mark};
use crate::metrics::Direction;
use crate::value::aside;

/// Bytes of the wire around a key and a value at most: lengths, the command's name, a time to live.
const FRAME: usize = 256;

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

    /// Bytes of its values' JSON and of their keys.
    #[must_use]
    pub fn bytes(&self, store: &KvStore) -> usize {
        self.json_bytes + store.key_bytes(&self.ids)
    }

    /// The ids it sets.
    #[must_use]
    pub fn into_ids(self) -> Vec<String> {
        self.ids
    }

    /// Sets an id of `store` too, if there is memory for it; a batch is of one store.
    pub fn add(&mut self, store: &KvStore, id: String, json: &[u8]) -> Result<()> {
        self.set(store, &id, json)?;
        self.json_bytes += json.len();
        self.ids.push(id);
        Ok(())
    }

    fn set(&mut self, store: &KvStore, id: &str, stored: &[u8]) -> Result<()> {
        let prefix = store.config.keyspace.prefix();
        self.sets
            .reserve(prefix.len() + id.len() + stored.len() + FRAME)?;
        match &store.ttl {
            Some(ttl) => self
                .sets
                .add("SET", (prefix, id), &[stored, b"EX", ttl.as_bytes()]),
            None => self.sets.add("SET", (prefix, id), &[stored]),
        }
        Ok(())
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

    /// Puts other bytes in the place of each value; gives how many they are. Without memory for them it sets nothing
    /// any more.
    fn replace(
        &mut self,
        store: &KvStore,
        change: impl Fn(&[u8]) -> Result<Cow<'_, [u8]>>,
    ) -> Result<usize> {
        let sets = std::mem::take(&mut self.sets);
        let ids = std::mem::take(&mut self.ids);
        let mut bytes = 0;
        let mut values = ids.iter().zip(sets.arguments(2));
        let replaced = values.try_for_each(|(id, json)| {
            let stored = change(json)?;
            bytes += stored.len();
            self.set(store, id, &stored)
        });
        self.ids = ids;
        replaced.map(|()| bytes)
    }
}

impl KvStore {
    /// Writes a batch. Gives its ids back with an outcome for each, or the failure of them all.
    pub async fn upsert(
        self: &Arc<Self>,
        mut batch: Batch,
    ) -> (Vec<String>, Result<Vec<Result<()>>>) {
        if batch.is_empty() {
            return (Vec::new(), Ok(Vec::new())); // there is no ZADD of no members
        }
        let prepared = if self.config.compression.takes_long(batch.json_bytes) {
            let turn = self.connections.turn_for_long_work().await;
            let prepared = self.prepare(&mut batch);
            drop(turn);
            deadline::restart(); // the server has not kept anybody waiting
            prepared
        } else {
            self.prepare(&mut batch)
        };
        let lines = match prepared {
            Ok(lines) => lines,
            Err(error) => return (batch.ids, Err(error)),
        };
        let Batch { ids, sets, .. } = batch;
        let outcomes = self.set_and_record(&ids, sets, lines).await;
        if outcomes.is_ok() {
            self.begin_sweep_if_due();
        }
        (ids, outcomes)
    }

    /// Makes what is stored of a batch's values, and the lines that it is logged by; an error if there is no memory for
    /// them, after which the batch sets nothing.
    pub(super) fn prepare(&self, batch: &mut Batch) -> Result<Option<Lines>> {
        let lines = self.lines_of(batch)?;
        self.compress(batch)?;
        Ok(lines)
    }

    /// Has what is stored take the place of the JSON of a batch, if there is memory for both.
    fn compress(&self, batch: &mut Batch) -> Result<()> {
        let (json_bytes, compression) = (batch.json_bytes, self.config.compression);
        let stored_bytes = if compression.is_on() {
            aside(json_bytes, || {
                batch.replace(self, |json| compression.compress(json))
            })?
        } else {
            json_bytes
        };
        self.counters
            .moved(Direction::Written, json_bytes, stored_bytes);
        Ok(())
    }

    async fn set_and_record(
        &self,
        ids: &[String],
        sets: Commands,
        lines: Option<Lines>,
    ) -> Result<Vec<Result<()>>> {
        self.begin_feed();
        self.claim_files().await?;
        let change = self.change(ids.iter().map(String::as_str));
        let tracker = self.track_write(Mark::SetAsked, ids);
        let digests = self.digests(&sets);
        let (outcomes, registered) = self.set(ids, sets).await;
        drop(change);
        if let Ok(outcomes) = &outcomes {
            self.note_written(ids, outcomes);
        }
        if let Some(mut tracker) = tracker {
            tracker.note(&outcomes, |number| digests.change(number));
            tracker.log(&outcomes, lines).await;
        }
        registered.and(outcomes)
    }

    /// What the server said of each id, and whether they were registered.
    async fn set(&self, ids: &[String], sets: Commands) -> (Result<Vec<Result<()>>>, Result<()>) {
        let around = self.registry.around(ids.iter());
        let (mut before, mut after) = (Commands::default(), Commands::default());
        before.extend(&around.before);
        after.extend(&around.after);
        let request = Commands::in_order([before, sets, after]);
        let replies = match self.send(&request).await {
            Ok(replies) => replies,
            Err(error) => return (Err(error), Ok(())),
        };
        let (replies, registered) = self.within(&around, replies);
        let outcome = |(id, value): (&String, _)| {
            self.reply(value)
                .map(|_| ())
                .map_err(|error| error.about(id))
        };
        let outcomes = ids.iter().zip(replies).map(outcome).collect();
        (Ok(outcomes), registered)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;
    use crate::config::ServerConfig;
    use crate::metrics::Count;
    use crate::store::tests::{ids, open, settings};
    use crate::value::Compression;

    fn batch(store: &KvStore, items: &[(&str, &str)]) -> Batch {
        let mut batch = Batch::new(0);
        for (id, json) in items {
            batch.add(store, (*id).to_owned(), json.as_bytes()).unwrap();
        }
        batch
    }

    #[test]
    fn batches_that_are_joined_are_one_of_all_their_values_in_order() {
        let store = open(settings());
        assert!(Batch::join(Vec::new()).is_empty());
        let parts = [
            batch(&store, &[("a", "1"), ("bé", "22")]),
            batch(&store, &[]),
            batch(&store, &[("c", "333"), ("d", "4")]),
        ];
        let joined = Batch::join(parts.into());
        assert_eq!((joined.len(), joined.json_bytes()), (4, 7));
        let keys = 4 * "nano_graphrag:docs:".len() + 6;
        assert_eq!(joined.bytes(&store), 7 + keys);
        let values: Vec<_> = joined.sets.arguments(2).collect();
        assert_eq!(values, [&b"1"[..], b"22", b"333", b"4"]);
        assert_eq!(joined.into_ids(), ids(&["a", "bé", "c", "d"]));
    }

    #[test]
    fn what_is_stored_of_a_batch_is_counted_beside_its_json() {
        let json = format!("\"{}\"", "x".repeat(2_000));
        for codec in ["none", "zstd", "lz4"] {
            let mut settings = settings();
            settings.compression = Compression::new(codec, 0, None).unwrap();
            let store = open(settings);
            let mut batch = batch(&store, &[("a", &json), ("b", &json), ("c", "1")]);
            store.prepare(&mut batch).unwrap();
            let stored: usize = batch.sets.arguments(2).map(<[u8]>::len).sum();
            let json_bytes = 2 * json.len() + 1;
            assert_eq!(stored < json_bytes, codec != "none");
            let counted =
                [Count::JsonWritten, Count::StoredWritten].map(|what| store.counters.get(what));
            assert_eq!(counted, [json_bytes as u64, stored as u64], "{codec}");
        }
    }

    // As many at once as the runtime has threads would leave none for sockets and timers.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn what_takes_long_to_compress_waits_for_its_turn_and_nothing_else_does() {
        let json = format!("\"{}\"", "x".repeat(70_000));
        for codec in ["none", "zstd", "lz4"] {
            let mut settings = settings();
            settings.server = ServerConfig::new("unix:///nowhere/socket").unwrap();
            settings.server.max_retries = 0;
            settings.compression = Compression::new(codec, 0, None).unwrap();
            let store = open(settings);
            let turns = [(); 2].map(|()| store.connections.turn_for_long_work().now_or_never());
            assert!(turns.iter().flatten().flatten().count() == 2);
            let (_, outcome) = store.upsert(batch(&store, &[("small", "1")])).await;
            assert!(outcome.unwrap_err().is_outage());
            let mut large = Box::pin(store.upsert(batch(&store, &[("large", &json)])));
            if codec != "none" {
                let waits = timeout(Duration::from_millis(20), &mut large)
                    .await
                    .is_err();
                assert!(waits, "{codec}");
                drop(turns);
            }
            assert!(large.await.1.unwrap_err().is_outage());
        }
    }
}
