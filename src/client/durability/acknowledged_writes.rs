//! What was acknowledged and no barrier has passed since: it is looked for again when the server
//! may not be the one that acknowledged it.
//!
//! A server that crashed and came back, or a replica that took over, knows nothing of writes that
//! had not reached its disk or its memory. A barrier on it would pass all the same. So each write
//! is remembered, by a digest, until a barrier has passed on a connection that was open before it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// What was done to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// It holds a value of this digest, until then.
    Set(u64, Option<Instant>),
    /// It is gone.
    Deleted,
}

impl Change {
    /// A value was set, which lives for so many seconds; None is for ever.
    pub(crate) fn set(digest: u64, ttl: Option<u64>) -> Self {
        let end = ttl.and_then(|seconds| Instant::now().checked_add(Duration::from_secs(seconds)));
        Self::Set(digest, end)
    }

    /// Whether a key that now holds these bytes, or nothing, still shows it.
    pub(crate) fn is_shown_by(&self, found: Option<&[u8]>) -> bool {
        match (self, found) {
            (Self::Set(written, _), Some(bytes)) => *written == digest(bytes),
            (Self::Set(_, Some(end)), None) => *end <= Instant::now(),
            (Self::Deleted, None) => true,
            _ => false,
        }
    }
}

/// Tells values of this process apart; another process has other digests.
pub(crate) fn digest(value: &[u8]) -> u64 {
    static KEYS: OnceLock<RandomState> = OnceLock::new();
    KEYS.get_or_init(RandomState::new).hash_one(value)
}

struct Entry {
    change: Change,
    /// Of the request that did it, in the order of their answers.
    number: u64,
    /// The epoch in which it was sent.
    epoch: u64,
    lost: bool,
}

/// All keys of a prefix were deleted, which no one key shows.
struct Drop {
    number: u64,
    epoch: u64,
    /// Keys that a write was sent for since: they may be there again.
    written: BTreeSet<Vec<u8>>,
}

/// A drop that a server does not show any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct LostDrop {
    /// Counts those that were lost: who has reported one this high has reported it.
    pub(crate) number: u64,
    /// One of the ids that are there.
    pub(crate) remaining: String,
}

/// The changes since the last barrier that passed, and those that were lost before one could.
#[derive(Default)]
pub(crate) struct AcknowledgedWrites {
    requests: u64,
    /// Counts the connections to servers that may not be those of the connections before.
    epoch: u64,
    lost: usize,
    /// Ordered: a hash table of very many would keep an event loop waiting while it grows.
    entries: BTreeMap<Vec<u8>, Entry>,
    /// By prefix.
    drops: HashMap<Vec<u8>, Drop>,
    lost_drops: HashMap<Vec<u8>, LostDrop>,
    drops_lost_so_far: u64,
}

/// Changes remembered from which a barrier is due: some ten megabytes.
const MUCH: usize = 65_536;

impl AcknowledgedWrites {
    /// The epoch of a request that is sent now. Taken before it is: an answer may lie unread for
    /// long, and its server be another when it is.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// A connection was opened: it vouches for what is sent from now on.
    pub(crate) fn begin_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// One more request was answered, which was sent in this epoch and did this; None is not known.
    /// A change takes the place of those before.
    pub(crate) fn note(
        &mut self,
        epoch: u64,
        changes: impl Iterator<Item = (Vec<u8>, Option<Change>)>,
    ) {
        self.requests += 1;
        let number = self.requests;
        for (key, change) in changes {
            let Some(change) = change else {
                let before = self.entries.remove(&key);
                self.lost -= usize::from(before.is_some_and(|before| before.lost));
                continue;
            };
            let entry = Entry {
                change,
                number,
                epoch,
                lost: false,
            };
            let before = self.entries.insert(key, entry);
            self.lost -= usize::from(before.is_some_and(|before| before.lost));
        }
    }

    /// All keys under this prefix were deleted by requests of which the first was sent in this epoch.
    pub(crate) fn note_drop(&mut self, epoch: u64, prefix: &[u8]) {
        self.forget(prefix);
        self.requests += 1;
        let drop = Drop {
            number: self.requests,
            epoch,
            written: BTreeSet::new(),
        };
        self.drops.insert(prefix.to_vec(), drop);
    }

    /// A write is about to be sent for these keys: where their prefix was dropped, they may be there
    /// again, whatever becomes of the write.
    pub(crate) fn note_sending(&mut self, prefix: &[u8], keys: impl Iterator<Item = Vec<u8>>) {
        if let Some(drop) = self.drops.get_mut(prefix) {
            drop.written.extend(keys);
        }
    }

    /// Nothing can be proved any more of what is under this prefix.
    pub(crate) fn forget(&mut self, prefix: &[u8]) {
        self.entries.retain(|known, _| !known.starts_with(prefix));
        self.lost = self.entries.values().filter(|entry| entry.lost).count();
        self.drops.remove(prefix);
        self.lost_drops.remove(prefix);
    }

    /// Whether so much is remembered that a barrier is due though nobody has asked for one.
    pub(crate) fn is_much(&self) -> bool {
        self.entries.len() > MUCH
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// What was sent before this epoch, and what was lost.
    pub(crate) fn doubtful(&self, epoch: u64) -> Vec<(Vec<u8>, Change)> {
        let doubtful = |entry: &Entry| entry.epoch < epoch || entry.lost;
        let entries = self.entries.iter().filter(|(_, entry)| doubtful(entry));
        entries
            .map(|(key, entry)| (key.clone(), entry.change))
            .collect()
    }

    /// The prefixes that were dropped before this epoch, each with the number of its drop.
    pub(crate) fn doubtful_drops(&self, epoch: u64) -> Vec<(Vec<u8>, u64)> {
        let drops = self.drops.iter().filter(|(_, drop)| drop.epoch < epoch);
        drops
            .map(|(prefix, drop)| (prefix.clone(), drop.number))
            .collect()
    }

    /// Whether a key that was found under this prefix was there before the drop, or is another
    /// process's.
    pub(crate) fn contradicts_drop(&self, prefix: &[u8], number: u64, key: &[u8]) -> bool {
        let drop = self.drops.get(prefix).filter(|drop| drop.number == number);
        drop.is_some_and(|drop| !drop.written.contains(key))
    }

    /// All keys under a dropped prefix were looked at in this epoch; one of those that contradict
    /// the drop, if any does.
    pub(crate) fn rechecked_drop(
        &mut self,
        epoch: u64,
        prefix: &[u8],
        number: u64,
        remaining: Option<String>,
    ) {
        let Some(drop) = self.drops.get_mut(prefix) else {
            return;
        };
        if drop.number != number {
            return; // it was dropped again meanwhile
        }
        let Some(remaining) = remaining else {
            drop.epoch = drop.epoch.max(epoch);
            return;
        };
        self.drops.remove(prefix);
        self.drops_lost_so_far += 1;
        let lost = LostDrop {
            number: self.drops_lost_so_far,
            remaining,
        };
        self.lost_drops.insert(prefix.to_vec(), lost);
    }

    /// How many drops were lost so far.
    pub(crate) fn drops_lost_so_far(&self) -> u64 {
        self.drops_lost_so_far
    }

    /// The drop of this prefix, if it was lost and is beyond those `reported`.
    pub(crate) fn lost_drop(&self, prefix: &[u8], reported: u64) -> Option<&LostDrop> {
        let lost = self.lost_drops.get(prefix);
        lost.filter(|lost| lost.number > reported)
    }

    /// A key was looked at in this epoch; it shows what was done to it, or not.
    pub(crate) fn rechecked(&mut self, epoch: u64, key: &[u8], change: Change, shown: bool) {
        // One that was changed again meanwhile was not what was looked at.
        if let Some(entry) = self.entries.get_mut(key)
            && entry.change == change
        {
            self.lost -= usize::from(entry.lost);
            entry.lost = !shown;
            entry.epoch = entry.epoch.max(epoch);
            self.lost += usize::from(entry.lost);
        }
    }

    /// A barrier has passed for everything up to this request.
    pub(crate) fn passed(&mut self, requests: u64) {
        self.entries
            .retain(|_, entry| entry.lost || entry.number > requests);
        self.drops.retain(|_, drop| drop.number > requests);
    }

    /// The ids under a prefix whose last change was lost.
    pub(crate) fn lost(&self, prefix: &[u8]) -> Vec<String> {
        if self.lost == 0 {
            return Vec::new();
        }
        let lost = self.entries.iter().filter(|(_, entry)| entry.lost);
        let ids = lost.filter_map(|(key, _)| std::str::from_utf8(key.strip_prefix(prefix)?).ok());
        ids.map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(value: &[u8]) -> Change {
        Change::set(digest(value), None)
    }

    fn keys(doubtful: Vec<(Vec<u8>, Change)>) -> Vec<Vec<u8>> {
        let mut keys: Vec<_> = doubtful.into_iter().map(|(key, _)| key).collect();
        keys.sort();
        keys
    }

    #[test]
    fn what_a_barrier_has_passed_is_forgotten_and_what_came_after_is_not() {
        let mut unproved = AcknowledgedWrites::default();
        unproved.note(0, [(b"p:a".to_vec(), Some(set(b"1")))].into_iter());
        let covered = unproved.requests();
        unproved.note(0, [(b"p:b".to_vec(), Some(set(b"1")))].into_iter());
        unproved.passed(covered);
        assert_eq!(keys(unproved.doubtful(u64::MAX)), [b"p:b"]);
    }

    #[test]
    fn a_barrier_is_due_once_more_is_remembered_than_memory_is_spent_on() {
        let mut unproved = AcknowledgedWrites::default();
        let many = |from: usize, to| {
            (from..to).map(|number| (number.to_be_bytes().to_vec(), Some(set(b"1"))))
        };
        unproved.note(0, many(0, MUCH));
        assert!(!unproved.is_much());
        unproved.note(0, many(MUCH, MUCH + 1));
        assert!(unproved.is_much());
    }

    #[test]
    fn a_connection_vouches_for_what_was_sent_after_it_was_opened() {
        let mut unproved = AcknowledgedWrites::default();
        let sent = unproved.epoch();
        let opened = unproved.begin_epoch();
        unproved.note(sent, [(b"p:a".to_vec(), Some(set(b"1")))].into_iter());
        let sent = unproved.epoch();
        unproved.note(sent, [(b"p:b".to_vec(), Some(set(b"1")))].into_iter());
        assert_eq!(keys(unproved.doubtful(opened)), [b"p:a"]);
        unproved.rechecked(opened, b"p:a", set(b"1"), true);
        assert_eq!(keys(unproved.doubtful(opened)), [] as [Vec<u8>; 0]);
        unproved.note(0, [(b"p:c".to_vec(), Some(set(b"1")))].into_iter());
        assert_eq!(keys(unproved.doubtful(opened)), [b"p:c"]);
    }

    #[test]
    fn a_lost_change_outlives_barriers_until_it_is_made_good() {
        let mut unproved = AcknowledgedWrites::default();
        for key in [b"p:a", b"p:b", b"p:c"] {
            unproved.note(0, [(key.to_vec(), Some(set(b"1")))].into_iter());
            unproved.rechecked(1, key, set(b"1"), false);
        }
        unproved.passed(u64::MAX);
        assert_eq!(unproved.lost(b"p:").len(), 3);
        assert_eq!(unproved.lost(b"q:"), [] as [&str; 0]);
        unproved.note(0, [(b"p:a".to_vec(), Some(set(b"1")))].into_iter());
        unproved.note(0, [(b"p:b".to_vec(), Some(Change::Deleted))].into_iter());
        unproved.rechecked(1, b"p:c", set(b"1"), true);
        assert_eq!(unproved.lost(b"p:"), [] as [&str; 0]);
        assert_eq!(unproved.lost, 0);
    }

    #[test]
    fn a_drop_takes_the_place_of_what_was_under_its_prefix() {
        let mut unproved = AcknowledgedWrites::default();
        unproved.note(0, [(b"p:a".to_vec(), Some(set(b"1")))].into_iter());
        unproved.rechecked(1, b"p:a", set(b"1"), false);
        unproved.note_drop(0, b"p:");
        assert_eq!(unproved.lost(b"p:"), [] as [&str; 0]);
        assert_eq!(unproved.doubtful_drops(1), [(b"p:".to_vec(), 2)]);
        unproved.passed(2);
        assert_eq!(unproved.doubtful_drops(1), []);
    }

    #[test]
    fn a_drop_is_contradicted_by_a_key_that_was_not_written_since() {
        let mut unproved = AcknowledgedWrites::default();
        unproved.note_drop(0, b"p:");
        unproved.note_sending(b"p:", [b"p:a".to_vec()].into_iter());
        unproved.note_sending(b"q:", [b"q:b".to_vec()].into_iter());
        assert!(!unproved.contradicts_drop(b"p:", 1, b"p:a"));
        assert!(unproved.contradicts_drop(b"p:", 1, b"p:b"));
        unproved.rechecked_drop(1, b"p:", 1, None);
        assert_eq!(unproved.doubtful_drops(1), []);
        assert_eq!(unproved.doubtful_drops(2).len(), 1);
    }

    #[test]
    fn a_lost_drop_is_reported_once_and_forgotten_with_the_next() {
        let mut unproved = AcknowledgedWrites::default();
        unproved.note_drop(0, b"p:");
        unproved.rechecked_drop(1, b"p:", 1, Some("b".to_owned()));
        let lost = unproved.lost_drop(b"p:", 0).unwrap();
        assert_eq!((lost.number, lost.remaining.as_str()), (1, "b"));
        assert!(unproved.lost_drop(b"p:", 1).is_none());
        assert!(unproved.lost_drop(b"q:", 0).is_none());
        assert_eq!(unproved.doubtful_drops(u64::MAX), []);
        unproved.note_drop(1, b"p:");
        assert!(unproved.lost_drop(b"p:", 0).is_none());
        unproved.rechecked_drop(2, b"p:", 1, Some("b".to_owned())); // of the drop before
        assert!(unproved.lost_drop(b"p:", 0).is_none());
    }

    #[test]
    fn a_value_shows_itself_and_an_expired_one_its_absence() {
        assert!(set(b"1").is_shown_by(Some(b"1")));
        assert!(!set(b"1").is_shown_by(Some(b"2")) && !set(b"1").is_shown_by(None));
        let expired = Change::set(digest(b"1"), Some(0));
        assert!(expired.is_shown_by(None) && !expired.is_shown_by(Some(b"2")));
        assert!(Change::Deleted.is_shown_by(None) && !Change::Deleted.is_shown_by(Some(b"1")));
    }

    #[test]
    fn a_lost_change_is_forgotten_with_one_that_is_not_known() {
        let mut unproved = AcknowledgedWrites::default();
        for key in [b"p:a", b"p:b"] {
            unproved.note(0, [(key.to_vec(), Some(set(b"1")))].into_iter());
            unproved.rechecked(1, key, set(b"1"), false);
        }
        for left in [1, 0] {
            let [key, none] = [
                format!("p:{}", if left == 1 { "a" } else { "b" }),
                "p:c".into(),
            ];
            let unknown = [key, none].map(|key| (key.into_bytes(), None));
            unproved.note(0, unknown.into_iter());
            assert_eq!((unproved.lost(b"p:").len(), unproved.lost), (left, left));
        }
        assert_eq!(keys(unproved.doubtful(u64::MAX)), [] as [Vec<u8>; 0]);
    }

    #[test]
    fn lost_drops_are_counted_so_that_who_comes_later_is_not_told_of_them() {
        let mut unproved = AcknowledgedWrites::default();
        for count in 1..3 {
            unproved.note_drop(0, b"p:");
            let (_, number) = unproved.doubtful_drops(1).remove(0);
            unproved.rechecked_drop(1, b"p:", number, Some("a".to_owned()));
            assert_eq!(unproved.drops_lost_so_far(), count);
            assert!(unproved.lost_drop(b"p:", count - 1).is_some());
            assert!(unproved.lost_drop(b"p:", count).is_none());
        }
    }

    #[test]
    fn a_drop_after_what_a_barrier_has_passed_is_still_to_be_proved() {
        let mut unproved = AcknowledgedWrites::default();
        unproved.note_drop(0, b"p:");
        let covered = unproved.requests();
        unproved.note_drop(0, b"q:");
        unproved.passed(covered);
        assert_eq!(unproved.doubtful_drops(u64::MAX), [(b"q:".to_vec(), 2)]);
    }
}
