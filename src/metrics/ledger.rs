//! Counters that outlive their owners: sums by name.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

/// Numbers that only grow, each at its place, of one owner.
pub struct Counters {
    name: String,
    cells: Box<[AtomicU64]>,
}

/// The sums of counters that bear one name, by place.
pub type Totals = Vec<u64>;

impl Counters {
    /// So many zeros. Counters of one ledger all have the same size.
    #[must_use]
    pub fn new(name: &str, size: usize) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            cells: std::iter::repeat_with(AtomicU64::default)
                .take(size)
                .collect(),
        })
    }

    /// Adds to the number at a place, and gives what it was.
    pub(super) fn add(&self, place: usize, number: u64) -> u64 {
        self.cells[place].fetch_add(number, Relaxed)
    }

    /// The number at a place.
    #[must_use]
    pub fn get(&self, place: usize) -> u64 {
        self.cells[place].load(Relaxed)
    }

    fn add_to(&self, sums: &mut BTreeMap<String, Totals>) {
        let totals = sums.entry(self.name.clone()).or_default();
        totals.resize(self.cells.len(), 0);
        for (total, cell) in totals.iter_mut().zip(&self.cells) {
            *total += cell.load(Relaxed);
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
}

impl Ledger {
    /// Has these counters added up from now on.
    pub fn keep(&self, counters: &Arc<Counters>) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Here too, so that a process that nobody asks does not hoard them.
        kept.fold();
        kept.live.push(Arc::clone(counters));
    }

    /// The sums by name.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, Totals> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.fold();
        let mut sums = kept.gone.clone();
        for counters in &kept.live {
            counters.add_to(&mut sums);
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
                counters.add_to(gone);
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
            assert_eq!(ledger.totals()["docs"], [7, 1]);
            assert_eq!(ledger.totals()["chunks"], [0, 0]);
        }
        assert_eq!(ledger.0.lock().unwrap().live.len(), 1);
    }
}
