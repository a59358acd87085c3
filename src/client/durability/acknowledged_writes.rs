//! What was acknowledged and no barrier has passed since: it is looked for again when the server
//! may not be the one that acknowledged it.
//!
//! A server that crashed and came back, or a replica that took over, knows nothing of writes that
//! had not reached its disk or its memory. A barrier on it would pass all the same. So each write
//! is remembered, by a digest, until a barrier has passed on a connection that was open before it.
//!
//! Answers that are read on several connections do not tell which of two requests the server did
//! first, if the one was sent before the other was answered. Of such changes of one key, each may
//! be the last.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;
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

    /// Whether a key that now holds a value of this digest, or nothing, still shows it.
    fn is_shown_by(&self, found: Option<u64>) -> bool {
        match (self, found) {
            (Self::Set(written, _), Some(found)) => *written == found,
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

/// When a request was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Sent {
    epoch: u64,
    /// How many requests were answered before: those the server did before this one.
    answered: u64,
}

/// The change of a key that was answered last.
struct Entry {
    /// None is not known.
    change: Option<Change>,
    /// Of the request that did it, in the order of their answers.
    number: u64,
    /// The epoch in which it was sent.
    epoch: u64,
}

/// A key did not show its change when it was looked at.
#[derive(Clone, Copy)]
struct Unshown {
    /// When it was looked at.
    epoch: u64,
    /// The digest of what it held.
    found: Option<u64>,
    /// False if a request was under way for it, of which it may have shown the change.
    lost: bool,
}

impl Unshown {
    /// Whether another process has changed it since it was lost: not so if its server may have lost
    /// more.
    fn is_newer_than(self, before: Self) -> bool {
        self.lost && before.lost && self.epoch == before.epoch && self.found != before.found
    }
}

/// What a request is to change.
pub(crate) enum Target {
    Keys(Vec<Vec<u8>>),
    Prefix(Vec<u8>),
}

/// A key that is to be looked at, for the change of this number.
pub(crate) struct Doubtful {
    pub(crate) key: Vec<u8>,
    pub(crate) number: u64,
}

/// Another change of the key, which the server may have done later.
struct Rival {
    change: Option<Change>,
    number: u64,
}

/// All keys of a prefix were deleted, which no one key shows.
struct Drop {
    number: u64,
    /// None if it broke off: nothing can be proved of it.
    epoch: Option<u64>,
    /// Keys that a write was sent for since, or was under way for: they may be there again.
    written: BTreeSet<Vec<u8>>,
}

impl Drop {
    /// What it did to a key that was written meanwhile.
    fn rival(&self) -> Rival {
        Rival {
            change: Some(Change::Deleted),
            number: self.number,
        }
    }
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
    /// Keys that requests are under way for, and how many.
    keys_under_way: BTreeMap<Vec<u8>, usize>,
    /// Prefixes that are being dropped.
    drops_under_way: Vec<Vec<u8>>,
    /// Ordered: a hash table of very many would keep an event loop waiting while it grows.
    entries: BTreeMap<Vec<u8>, Entry>,
    /// By key, of those entries that have any.
    rivals: BTreeMap<Vec<u8>, Vec<Rival>>,
    /// By key, of those entries that a server was found not to show.
    unshown: BTreeMap<Vec<u8>, Unshown>,
    /// By prefix.
    drops: HashMap<Vec<u8>, Drop>,
    lost_drops: HashMap<Vec<u8>, LostDrop>,
    drops_lost_so_far: u64,
}

/// Changes remembered from which a barrier is due: some ten megabytes.
const MUCH: usize = 65_536;
/// Keys that are looked through at once: whoever has an answer to note waits meanwhile.
const PAGE: usize = 1024;

impl AcknowledgedWrites {
    /// The moment for a request that is sent now. Taken before it is: an answer may lie unread for
    /// long, and its server be another when it is.
    pub(crate) fn now(&self) -> Sent {
        Sent {
            epoch: self.epoch,
            answered: self.requests,
        }
    }

    /// A connection was opened: it vouches for what is sent from now on.
    pub(crate) fn begin_epoch(&mut self) -> u64 {
        self.epoch += 1;
        self.epoch
    }

    /// A request is about to be sent.
    pub(crate) fn begin(&mut self, target: &Target) {
        match target {
            Target::Keys(keys) => {
                for key in keys {
                    *self.keys_under_way.entry(key.clone()).or_default() += 1;
                }
            }
            Target::Prefix(prefix) => self.drops_under_way.push(prefix.clone()),
        }
    }

    /// A request that was begun is over, and noted.
    pub(crate) fn end(&mut self, target: &Target) {
        match target {
            Target::Keys(keys) => {
                for key in keys {
                    if let Some(requests) = self.keys_under_way.get_mut(key) {
                        *requests -= 1;
                        if *requests == 0 {
                            self.keys_under_way.remove(key);
                        }
                    }
                }
            }
            Target::Prefix(prefix) => {
                let place = self.drops_under_way.iter().position(|of| of == prefix);
                place.map(|place| self.drops_under_way.swap_remove(place));
            }
        }
    }

    fn is_under_way(&self, key: &[u8]) -> bool {
        self.keys_under_way.contains_key(key)
            || self.drops_under_way.iter().any(|of| key.starts_with(of))
    }

    /// One more request was answered, and did this; None is not known. A change takes the place of
    /// those before.
    pub(crate) fn note(
        &mut self,
        sent: Sent,
        changes: impl Iterator<Item = (Vec<u8>, Option<Change>)>,
    ) {
        self.requests += 1;
        for (key, change) in changes {
            let rivals = self.rivals(sent, &key, change);
            if !rivals.is_empty() {
                self.rivals.insert(key.clone(), rivals);
            }
            let entry = Entry {
                change,
                number: self.requests,
                epoch: sent.epoch,
            };
            self.unshown.remove(&key);
            self.entries.insert(key, entry);
        }
    }

    /// What else may be the last that was done to a key, beside a change that was sent then.
    fn rivals(&mut self, sent: Sent, key: &[u8], change: Option<Change>) -> Vec<Rival> {
        let mut rivals = self.rivals.remove(key).unwrap_or_default();
        rivals.retain(|rival| rival.number > sent.answered);
        if let Some(before) = self.entries.get(key)
            && before.number > sent.answered
        {
            rivals.push(Rival {
                change: before.change,
                number: before.number,
            });
        }
        for (prefix, drop) in &mut self.drops {
            if drop.number > sent.answered && key.starts_with(prefix) {
                drop.written.insert(key.to_vec());
                rivals.push(drop.rival());
            }
        }
        rivals.retain(|rival| rival.change != change);
        rivals
    }

    /// All keys under this prefix were deleted by requests of which the first was sent then.
    pub(crate) fn note_drop(&mut self, sent: Sent, prefix: &[u8]) {
        self.end_drop(sent, prefix, Some(sent.epoch));
    }

    /// Keys under this prefix may have been deleted by requests of which the first was sent then.
    pub(crate) fn note_broken_drop(&mut self, sent: Sent, prefix: &[u8]) {
        self.end_drop(sent, prefix, None);
    }

    fn end_drop(&mut self, sent: Sent, prefix: &[u8], epoch: Option<u64>) {
        self.requests += 1;
        let mut drop = Drop {
            number: self.requests,
            epoch,
            written: BTreeSet::new(),
        };
        let after = |key: &[u8], number| number > sent.answered || !key.starts_with(prefix);
        self.entries.retain(|key, entry| after(key, entry.number));
        self.rivals.retain(|key, rivals| {
            rivals.retain(|rival| after(key, rival.number));
            !rivals.is_empty() && self.entries.contains_key(key)
        });
        for key in self.entries.keys().filter(|key| key.starts_with(prefix)) {
            let rivals = self.rivals.entry(key.clone()).or_default();
            rivals.push(drop.rival());
            drop.written.insert(key.clone());
        }
        self.unshown.retain(|key, _| self.entries.contains_key(key));
        self.lost_drops.remove(prefix);
        self.drops.insert(prefix.to_vec(), drop);
    }

    /// A write is about to be sent for these keys: where their prefix was dropped, they may be there
    /// again, whatever becomes of the write.
    pub(crate) fn note_sending(&mut self, prefix: &[u8], keys: impl Iterator<Item = Vec<u8>>) {
        if let Some(drop) = self.drops.get_mut(prefix) {
            drop.written.extend(keys);
        }
    }

    /// Whether so much is remembered that a barrier is due though nobody has asked for one.
    pub(crate) fn is_much(&self) -> bool {
        self.entries.len() > MUCH
    }

    /// How many requests there were.
    pub(crate) fn requests(&self) -> u64 {
        self.requests
    }

    /// The next keys after this one.
    fn page(&self, after: &[u8]) -> impl Iterator<Item = (&Vec<u8>, &Entry)> {
        let next = (Bound::Excluded(after), Bound::Unbounded);
        self.entries.range::<[u8], _>(next).take(PAGE)
    }

    /// Of the next keys after this one, those of what was sent before this epoch, and of what a
    /// server did not show; and the last of them all, or None if there are none.
    pub(crate) fn doubtful(&self, epoch: u64, after: &[u8]) -> (Vec<Doubtful>, Option<Vec<u8>>) {
        let mut last = None;
        let page = self.page(after).inspect(|(key, _)| last = Some(*key));
        let doubtful = page.filter(|(key, entry)| {
            let is_doubtful = entry.epoch < epoch || self.unshown.contains_key(*key);
            is_doubtful && entry.change.is_some()
        });
        let doubtful = doubtful.map(|(key, entry)| Doubtful {
            key: key.clone(),
            number: entry.number,
        });
        (doubtful.collect(), last.cloned())
    }

    /// The prefixes that were dropped before this epoch, each with the number of its drop.
    pub(crate) fn doubtful_drops(&self, epoch: u64) -> Vec<(Vec<u8>, u64)> {
        let doubtful = |drop: &Drop| drop.epoch.is_some_and(|sent| sent < epoch);
        let drops = self.drops.iter().filter(|(_, drop)| doubtful(drop));
        drops
            .map(|(prefix, drop)| (prefix.clone(), drop.number))
            .collect()
    }

    /// Whether a key that was found under this prefix was there before the drop, or is another
    /// process's.
    pub(crate) fn contradicts_drop(&self, prefix: &[u8], number: u64, key: &[u8]) -> bool {
        let drop = self.drops.get(prefix).filter(|drop| drop.number == number);
        let is_written = |drop: &Drop| drop.written.contains(key);
        drop.is_some_and(|drop| !is_written(drop) && !self.keys_under_way.contains_key(key))
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
            drop.epoch = drop.epoch.max(Some(epoch));
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

    /// A key was looked at in this epoch: it holds a value of this digest, or nothing.
    pub(crate) fn rechecked(&mut self, epoch: u64, looked_at: &Doubtful, found: Option<u64>) {
        let Doubtful { key, number } = looked_at;
        // One that was changed again meanwhile was not what was looked at.
        let entry = self.entries.get_mut(key);
        let Some(entry) = entry.filter(|entry| entry.number == *number) else {
            return;
        };
        let rivals = self.rivals.get(key).into_iter().flatten();
        let mut changes = rivals.map(|rival| rival.change).chain([entry.change]);
        let shown = changes.any(|change| change.is_none_or(|change| change.is_shown_by(found)));
        entry.epoch = entry.epoch.max(epoch);
        let before = self.unshown.remove(key);
        if shown {
            return;
        }
        let unshown = Unshown {
            epoch,
            found,
            lost: !self.is_under_way(key),
        };
        if before.is_some_and(|before| unshown.is_newer_than(before)) {
            self.entries.remove(key);
            self.rivals.remove(key);
        } else {
            self.unshown.insert(key.clone(), unshown);
        }
    }

    /// A barrier has passed for everything up to this request: what it has proved of the next keys
    /// after this one is forgotten, but for those that another request is under way for, which may
    /// have come before. Gives these keys; once all are forgotten, none.
    pub(crate) fn passed(&mut self, requests: u64, after: &[u8]) -> Vec<Vec<u8>> {
        self.drops.retain(|_, drop| drop.number > requests);
        let page: Vec<_> = self.page(after).map(|(key, _)| key.clone()).collect();
        for key in &page {
            let entry = self.entries.get(key);
            let has_passed = entry.is_some_and(|entry| entry.number <= requests);
            if has_passed && !self.unshown.contains_key(key) && !self.is_under_way(key) {
                self.entries.remove(key);
                self.rivals.remove(key);
            }
        }
        page
    }

    /// The ids under a prefix whose last change was lost.
    pub(crate) fn lost(&self, prefix: &[u8]) -> Vec<String> {
        let lost = self.unshown.iter().filter(|(_, unshown)| unshown.lost);
        let ids = lost.filter_map(|(key, _)| std::str::from_utf8(key.strip_prefix(prefix)?).ok());
        ids.map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests;
