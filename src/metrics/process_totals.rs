//! Counters that outlive their owners: sums by name.
//!
//! A store has thousands of places and counts at a few of them, and a process may see any number of
//! namespaces: only the places that are not zero take memory.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use crate::mutex::Mutex;

/// Places that are made together, at the first count at one of them.
const TOGETHER: usize = 32;

/// Counters that are kept at least before those that are gone are looked for.
const FEW: usize = 16;

/// Numbers that only grow, each at its place, of one owner.
pub struct Counters {
    name: String,
    cells: Box<[OnceLock<Box<[AtomicU64; TOGETHER]>>]>,
}

impl Counters {
    /// So many zeros.
    #[must_use]
    pub fn new(name: &str, size: usize) -> Arc<Self> {
        let cells = std::iter::repeat_with(OnceLock::new).take(size.div_ceil(TOGETHER));
        Arc::new(Self {
            name: name.to_owned(),
            cells: cells.collect(),
        })
    }

    /// Adds to the number at a place, and gives what it was.
    pub(super) fn add(&self, place: usize, number: u64) -> u64 {
        let cells = self.cells[place / TOGETHER].get_or_init(Box::default);
        cells[place % TOGETHER].fetch_add(number, Relaxed)
    }

    /// The number at a place.
    #[must_use]
    pub fn get(&self, place: usize) -> u64 {
        let cells = self.cells[place / TOGETHER].get();
        cells.map_or(0, |cells| cells[place % TOGETHER].load(Relaxed))
    }

    fn add_to(&self, totals: &mut Totals) {
        for (number, cells) in self.cells.iter().enumerate() {
            let Some(cells) = cells.get() else { continue };
            for (place, cell) in (number * TOGETHER..).zip(cells.iter()) {
                totals.add(place, cell.load(Relaxed));
            }
        }
    }
}

/// The sums of counters that bear one name: places and sums, in order, those that are not zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals(Vec<(usize, u64)>);

impl Totals {
    /// The sum at a place.
    #[must_use]
    pub fn get(&self, place: usize) -> u64 {
        let found = self.0.binary_search_by_key(&place, |(place, _)| *place);
        found.map_or(0, |at| self.0[at].1)
    }

    /// The places of a range that are not zero, and their sums.
    pub(super) fn among(&self, places: Range<usize>) -> &[(usize, u64)] {
        let start = self.0.partition_point(|(place, _)| *place < places.start);
        let end = self.0.partition_point(|(place, _)| *place < places.end);
        &self.0[start..end]
    }

    fn add(&mut self, place: usize, number: u64) {
        if number == 0 {
            return;
        }
        match self.0.binary_search_by_key(&place, |(place, _)| *place) {
            Ok(at) => self.0[at].1 += number,
            Err(at) => {
                self.0.reserve_exact(1); // they are few, and their namespaces may be many
                self.0.insert(at, (place, number));
            }
        }
    }
}

/// The counters of a process: those in use, and the sums of those whose owners are gone.
#[derive(Default)]
pub struct Ledger(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    live: Vec<Arc<Counters>>,
    gone: BTreeMap<String, Totals>,
    /// How many may be kept until those that are gone are looked for.
    most: usize,
}

impl Ledger {
    /// Has these counters added up from now on.
    pub fn keep(&self, counters: &Arc<Counters>) {
        let mut kept = self.0.lock();
        // Here too, so that a process that nobody asks does not hoard them; not each time, since
        // there may be thousands.
        if kept.live.len() >= kept.most.max(FEW) {
            kept.fold();
            kept.most = 2 * kept.live.len();
        }
        kept.live.push(Arc::clone(counters));
    }

    /// The sums by name.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, Totals> {
        let mut kept = self.0.lock();
        kept.fold();
        let mut sums = kept.gone.clone();
        for counters in &kept.live {
            counters.add_to(sums.entry(counters.name.clone()).or_default());
        }
        sums
    }
}

impl Kept {
    /// Adds what nobody can count on any more to the sums of what is gone.
    fn fold(&mut self) {
        let gone = &mut self.gone;
        self.live.retain(|counters| {
            let used = Arc::strong_count(counters) > 1;
            if !used {
                counters.add_to(gone.entry(counters.name.clone()).or_default());
            }
            used
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_stays_when_its_owner_is_gone() {
        let ledger = Ledger::default();
        let (first, second) = (Counters::new("docs", 2), Counters::new("docs", 2));
        ledger.keep(&first);
        ledger.keep(&second);
        ledger.keep(&Counters::new("chunks", 2));
        first.add(0, 3);
        second.add(0, 4);
        second.add(1, 1);
        drop(first);
        for _ in 0..2 {
            let totals = ledger.totals();
            assert_eq!(totals["docs"].among(0..2), [(0, 7), (1, 1)]);
            assert_eq!(totals["docs"].get(1), 1);
            assert_eq!(totals["chunks"], Totals::default());
        }
        assert_eq!(ledger.0.lock().live.len(), 1);
    }

    #[test]
    fn places_that_are_zero_take_no_memory_and_owners_that_are_gone_are_not_kept() {
        let ledger = Ledger::default();
        for number in 0..1_000 {
            let counters = Counters::new(&format!("n{}", number % 10), 6_000);
            ledger.keep(&counters);
            counters.add(5_999, 1);
            let made = counters.cells.iter().filter(|cells| cells.get().is_some());
            assert_eq!((counters.get(0), made.count()), (0, 1));
        }
        let kept = ledger.0.lock();
        assert!(kept.live.len() <= FEW);
        assert!(kept.gone.values().all(|totals| totals.0.capacity() == 1));
        drop(kept);
        assert!(
            ledger
                .totals()
                .values()
                .all(|totals| totals.get(5_999) == 100)
        );
    }
}
