//! The stream of changes: who wrote what, one entry a call, in a capped stream beside the namespace.
//!
//! An entry is made of what the server has confirmed, kept in memory, and sent by a task of the runtime, which waits a
//! moment for others to go with it: no caller waits for it, nor wakes a thread for each. It is sent once. A value and
//! the stream are in different slots, so nothing makes the two one: what a process that ends, a server that goes away
//! or a refusal takes with it is lost, and counted where it is known.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use redis::{Cmd, Value};
use tokio::sync::Notify;
use tokio::time::timeout;

use super::{KvStore, first};
use crate::client::{Backlog, Commands, Connections, Reply, Request, command, deadline};
use crate::config::StoreConfig;
use crate::error::Result;
use crate::json::write_utf8;
use crate::key_layout::Keyspace;
use crate::log_events::{Event, Notices};
use crate::metrics::{Count, StoreCounters};
use crate::mutex::Mutex;

/// Entries that a stream keeps: about so many, since the server trims whole nodes of it.
const LENGTH: usize = 10_000;
/// Ids that an entry names; it counts the others.
const NAMED: usize = 100;
/// Bytes of ids that an entry names at most.
const NAMED_BYTES: usize = 64 << 10;
/// Time that an entry waits for others to go with it.
const COLLECT: Duration = Duration::from_millis(20);
/// Entries of one request.
const AT_ONCE: usize = 256;
/// Bytes of entries that wait to be sent. What comes beyond them is lost: the server does not keep up.
const KEPT_BYTES: usize = 4 << 20;
/// How long an ending process waits for its last entries to be sent.
pub const LAST_ENTRIES: Duration = Duration::from_secs(1);
/// Bytes of an entry beside its ids.
const ENTRY_BYTES: usize = 256;

/// What a call has changed so far; an entry of the stream once it is dropped, if that is anything.
pub struct Recorded {
    feed: Arc<Feed>,
    change: Change,
}

/// What an entry says, before it is written: that is left to whoever sends it.
struct Change {
    operation: &'static str,
    count: u64,
    ids: Vec<String>,
    bytes: usize,
}

impl Recorded {
    /// This id was changed.
    pub fn id(&mut self, id: &str) {
        if self.has_room(id) {
            self.change.ids.push(id.to_owned());
        }
    }

    /// This id was changed, and nobody else needs its text.
    pub fn own(&mut self, id: String) {
        if self.has_room(&id) {
            self.change.ids.push(id);
        }
    }

    /// Counts an id; whether it is named, too.
    fn has_room(&mut self, id: &str) -> bool {
        let change = &mut self.change;
        change.count += 1;
        let room = change.ids.len() < NAMED && change.bytes + id.len() <= NAMED_BYTES;
        if room {
            change.bytes += id.len();
        }
        room
    }
}

impl Drop for Recorded {
    fn drop(&mut self) {
        if self.change.count > 0 {
            let ids = std::mem::take(&mut self.change.ids);
            self.feed.push(Change { ids, ..self.change });
        }
    }
}

/// An entry as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id in the stream: milliseconds since 1970 by the server's clock, and a number.
    pub id: String,
    /// Fields and values, as they are stored.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

#[derive(Default)]
struct Queue {
    changes: VecDeque<Change>,
    /// Of their ids, and of what is around them.
    bytes: usize,
    closed: bool,
}

/// What waits to be sent to the stream of one namespace, and the task that sends it.
pub(super) struct Feed {
    key: Vec<u8>,
    who: String,
    name: String,
    queue: Mutex<Queue>,
    news: Notify,
    /// Whether the task runs.
    begun: AtomicBool,
    /// Whether the last entries were refused: that is reported once, as is its end.
    refused: AtomicBool,
    backlog: Arc<Backlog>,
    counters: StoreCounters,
}

impl Feed {
    /// None where the settings do not ask for it.
    pub(super) fn new(
        config: &StoreConfig,
        counters: &StoreCounters,
        backlog: Arc<Backlog>,
    ) -> Option<Arc<Self>> {
        let changes = config.changes.as_ref()?;
        Some(Arc::new(Self {
            key: key_of(&config.keyspace, &config.namespace),
            who: format!("{}:{}", changes.host, std::process::id()),
            name: changes.name.clone(),
            queue: Mutex::default(),
            news: Notify::new(),
            begun: AtomicBool::new(false),
            refused: AtomicBool::new(false),
            backlog,
            counters: counters.clone(),
        }))
    }

    fn push(&self, change: Change) {
        let bytes = change.bytes + ENTRY_BYTES;
        let mut queue = self.queue.lock();
        if queue.bytes + bytes > KEPT_BYTES {
            drop(queue);
            return self.counters.count(Count::ChangesLost, 1);
        }
        queue.bytes += bytes;
        queue.changes.push_back(change);
        let first = queue.changes.len() == 1;
        self.backlog.add(1);
        drop(queue);
        if first {
            self.news.notify_one();
        }
    }

    fn entry(&self, change: &Change) -> Cmd {
        let mut add = command("XADD", [&*self.key]);
        add.arg("MAXLEN").arg("~").arg(LENGTH).arg("*");
        add.arg("op").arg(change.operation);
        add.arg("who").arg(&self.who);
        if !self.name.is_empty() {
            add.arg("name").arg(&self.name);
        }
        add.arg("count").arg(change.count);
        add.arg("ids").arg(json_of(&change.ids));
        add
    }

    /// Has what is still there sent, and then the task end.
    pub(super) fn close(&self) {
        self.queue.lock().closed = true;
        self.news.notify_one();
    }

    fn is_idle(&self) -> bool {
        let queue = self.queue.lock();
        queue.changes.is_empty() && !queue.closed
    }

    fn is_over(&self) -> bool {
        let queue = self.queue.lock();
        queue.changes.is_empty() && queue.closed
    }

    /// The next entries to send.
    fn take(&self) -> Option<Vec<Change>> {
        let mut queue = self.queue.lock();
        let number = queue.changes.len().min(AT_ONCE);
        let taken: Vec<_> = queue.changes.drain(..number).collect();
        let bytes: usize = taken.iter().map(|change| change.bytes).sum();
        queue.bytes -= bytes + number * ENTRY_BYTES;
        (number > 0).then_some(taken)
    }

    /// Sends entries as they come, until the store is closed and none is left.
    async fn run(self: Arc<Self>, connections: Arc<Connections>, notices: Arc<Notices>) {
        loop {
            if self.is_idle() {
                self.news.notified().await;
            }
            if !self.queue.lock().closed {
                // For others to come; not where the process is ending.
                let _ = timeout(COLLECT, self.backlog.hurried()).await;
            }
            while let Some(changes) = self.take() {
                let number = changes.len();
                self.send(&changes, &connections, &notices).await;
                self.backlog.remove(number);
                if number < AT_ONCE {
                    break;
                }
            }
            if self.is_over() {
                return;
            }
        }
    }

    async fn send(&self, changes: &[Change], connections: &Arc<Connections>, notices: &Notices) {
        let limit = connections.config().operation_timeout;
        let mut commands = Commands::default();
        for change in changes {
            commands.extend([&self.entry(change)]);
        }
        let sent = deadline::within(limit, connections.send(&commands.once())).await;
        self.settle(changes.len(), sent, notices);
    }

    fn settle(&self, number: usize, sent: Result<Vec<Reply>>, notices: &Notices) {
        let outcomes = match sent {
            Ok(replies) => replies.into_iter().map(Reply::value).collect(),
            Err(error) => vec![Err(error); number],
        };
        let recorded = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        let lost = outcomes.len() - recorded;
        self.counters.count(Count::ChangesRecorded, recorded as u64);
        self.counters.count(Count::ChangesLost, lost as u64);
        let key = String::from_utf8_lossy(&self.key);
        if let Some(error) = outcomes.into_iter().find_map(Result::err) {
            if !self.refused.swap(true, SeqCst) {
                let line = format!(
                    "{key}: changes are not recorded, the values are written all the same: {error}"
                );
                notices.push(Event::Changes, line);
            }
        } else if self.refused.swap(false, SeqCst) {
            notices.push(Event::Changes, format!("{key}: changes are recorded again"));
        }
    }
}

/// A JSON array of strings.
fn json_of(ids: &[String]) -> Vec<u8> {
    let mut json = vec![b'['];
    for (number, id) in ids.iter().enumerate() {
        if number > 0 {
            json.push(b',');
        }
        write_utf8(id.as_bytes(), &mut json);
    }
    json.push(b']');
    json
}

fn key_of(keyspace: &Keyspace, namespace: &str) -> Vec<u8> {
    keyspace.key_beside(&format!("changes:{namespace}"))
}

impl KvStore {
    /// What a call of this name changes, where that is recorded.
    pub fn record(&self, operation: &'static str) -> Option<Recorded> {
        let feed = Arc::clone(self.feed.as_ref()?);
        Some(Recorded {
            feed,
            change: Change {
                operation,
                count: 0,
                ids: Vec::new(),
                bytes: 0,
            },
        })
    }

    /// Has the task run that sends what is recorded. To be called where there is a runtime.
    pub(super) fn begin_feed(&self) {
        let Some(feed) = &self.feed else { return };
        if !feed.begun.load(SeqCst) && !feed.begun.swap(true, SeqCst) {
            let connections = Arc::clone(&self.connections);
            let notices = Arc::clone(&self.notices);
            tokio::spawn(Arc::clone(feed).run(connections, notices));
        }
    }

    /// Up to so many entries of the namespace's stream: those after an entry, the oldest first; or the
    /// newest, the newest first.
    pub async fn changes(&self, after: Option<&str>, count: usize) -> Result<Vec<Entry>> {
        let key = key_of(&self.config.keyspace, &self.config.namespace);
        let mut range;
        if let Some(after) = after {
            range = command("XRANGE", [&*key]);
            range.arg(format!("({after}")).arg("+");
        } else {
            range = command("XREVRANGE", [&*key]);
            range.arg("+").arg("-");
        }
        range.arg("COUNT").arg(count);
        let reply = self.reply(first(self.send(&Request::resendable([range])).await?))?;
        let Value::Array(entries) = reply else {
            return Err(self.unexpected("XRANGE"));
        };
        let read = entries.into_iter().map(|entry| self.read_entry(entry));
        read.collect()
    }

    fn read_entry(&self, entry: Value) -> Result<Entry> {
        let wrong = |_| self.unexpected("XRANGE");
        let (id, words): (String, Vec<Vec<u8>>) = redis::from_redis_value(entry).map_err(wrong)?;
        let mut fields = Vec::new();
        let mut words = words.into_iter();
        while let (Some(name), Some(value)) = (words.next(), words.next()) {
            fields.push((name, value));
        }
        Ok(Entry { id, fields })
    }
}

impl Drop for KvStore {
    fn drop(&mut self) {
        if let Some(feed) = &self.feed {
            feed.close();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::config::Changes;
    use crate::store::tests::{open, settings};

    /// What is sent fails at once after the first time, so that no time is spent on sockets.
    fn recording() -> (Arc<KvStore>, Arc<Feed>) {
        let mut settings = settings();
        settings.server.breaker_failures = 1;
        recording_with(settings)
    }

    fn recording_with(mut settings: StoreConfig) -> (Arc<KvStore>, Arc<Feed>) {
        settings.changes = Some(Changes {
            host: "here".to_owned(),
            name: String::new(),
        });
        let store = open(settings);
        let feed = Arc::clone(store.feed.as_ref().unwrap());
        (store, feed)
    }

    fn record(store: &KvStore, ids: &[&str]) {
        let mut recorded = store.record("upsert").unwrap();
        for id in ids {
            recorded.id(id);
        }
    }

    #[test]
    fn an_entry_names_ids_up_to_a_number_of_bytes_and_counts_the_others() {
        let (store, feed) = recording();
        let text = "x".repeat(NAMED_BYTES + 1);
        let half = &text[..NAMED_BYTES / 2];
        for (ids, named) in [
            (vec!["a"; NAMED + 1], NAMED),
            (vec![&*text, "a"], 1),
            (vec![half, half], 2),
            (vec![half, half, "a"], 2),
            (vec![half, &text[..=NAMED_BYTES / 2], "a"], 2),
        ] {
            record(&store, &ids);
            let change = feed.take().unwrap().pop().unwrap();
            assert_eq!((change.count, change.ids.len()), (ids.len() as u64, named));
        }
        record(&store, &[]);
        assert!(feed.take().is_none(), "nothing was changed");
    }

    #[test]
    fn entries_that_wait_take_no_more_memory_than_they_may_and_give_it_back() {
        let (store, feed) = recording();
        let lost = || store.counters.get(Count::ChangesLost);
        let (empty, full) = ([][..].as_ref(), KEPT_BYTES / ENTRY_BYTES);
        for round in 0..2 {
            for (id, number) in [(empty, full), (&["x".repeat(ENTRY_BYTES)][..], full / 2)] {
                let push = || {
                    feed.push(Change {
                        operation: "delete",
                        count: 1,
                        ids: id.to_vec(),
                        bytes: id.iter().map(String::len).sum(),
                    });
                };
                let before = lost();
                (0..number).for_each(|_| push());
                assert_eq!(lost(), before, "{round}");
                push();
                assert_eq!(lost(), before + 1);
                let mut taken = 0;
                while let Some(changes) = feed.take() {
                    assert!((1..=AT_ONCE).contains(&changes.len()));
                    taken += changes.len();
                }
                assert_eq!((taken, feed.queue.lock().bytes), (number, 0));
            }
        }
    }

    #[test]
    fn who_sends_is_woken_by_the_first_entry_and_by_the_end() {
        let (store, feed) = recording();
        let woken = || feed.news.notified().now_or_never().is_some();
        assert!(feed.is_idle() && !feed.is_over() && !woken());
        record(&store, &["a"]);
        assert!(!feed.is_idle() && !feed.is_over() && woken());
        record(&store, &["b"]);
        assert!(!woken());
        drop(store);
        assert!(!feed.is_idle() && !feed.is_over() && woken());
        assert_eq!(feed.take().unwrap().len(), 2);
        assert!(!feed.is_idle() && feed.is_over());
    }

    const MOMENT: Duration = Duration::from_millis(1);

    /// How long it takes until it is so.
    async fn time_until(what: &str, is_so: impl Fn() -> bool) -> Duration {
        let began = Instant::now();
        let so = async {
            while !is_so() {
                sleep(MOMENT).await;
            }
        };
        timeout(Duration::from_secs(60), so).await.expect(what);
        began.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn entries_wait_for_others_to_go_with_them_unless_it_is_the_end() {
        let (store, feed) = recording();
        let holders = Arc::strong_count(&feed);
        (0..3).for_each(|_| store.begin_feed());
        assert_eq!(Arc::strong_count(&feed), holders + 1, "one task sends");
        let waiting = || feed.queue.lock().changes.len();
        let mut all = 0;
        for number in [1, 1, AT_ONCE + 1, 2 * AT_ONCE] {
            sleep(MOMENT).await;
            (0..number).for_each(|_| record(&store, &["a"]));
            let waited = time_until("they are sent", || waiting() < number).await;
            let expected = COLLECT..COLLECT + 3 * MOMENT;
            assert!(expected.contains(&waited), "{waited:?}");
            assert_eq!(waiting(), 0);
            all += number as u64;
        }
        assert_eq!(store.counters.get(Count::ChangesLost), all);
        record(&store, &["last"]);
        let counters = store.counters.clone();
        sleep(MOMENT).await;
        drop(store);
        let ended = || Arc::strong_count(&feed) == 1;
        let waited = time_until("its task ends with the store", ended).await;
        assert!(waited < 2 * COLLECT, "{waited:?}");
        assert_eq!(counters.get(Count::ChangesLost), all + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_comes_while_others_are_sent_waits_for_more_after_them() {
        let mut settings = settings();
        settings.server.max_retries = 1;
        let (store, feed) = recording_with(settings);
        store.begin_feed();
        let taken = || feed.queue.lock().changes.is_empty();
        let lost = || store.counters.get(Count::ChangesLost);
        record(&store, &["a"]);
        time_until("it is being sent", taken).await;
        assert_eq!(lost(), 0, "it is sent again after a pause");
        record(&store, &["b"]);
        time_until("it was sent", || lost() == 1).await;
        let waited = time_until("the other is sent", taken).await;
        assert!(waited + 2 * MOMENT >= COLLECT, "{waited:?}");
    }
}
