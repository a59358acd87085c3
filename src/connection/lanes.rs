//! The lanes to one server, whoever drives them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::lane::Lane;

/// All lanes that are open, and those of them that wait for a thread that blocks.
#[derive(Default)]
pub(super) struct Lanes(Mutex<Known>);

#[derive(Default)]
struct Known {
    open: Vec<Weak<Lane>>,
    spare: Vec<Arc<Lane>>,
}

impl Lanes {
    pub(super) fn add(&self, lane: &Arc<Lane>) {
        let mut known = self.lock();
        known.open.retain(|lane| lane.strong_count() > 0);
        known.open.push(Arc::downgrade(lane));
    }

    /// The lane given back last: it is the likeliest to be in order.
    pub(super) fn take_spare(&self) -> Option<Arc<Lane>> {
        let mut known = self.lock();
        while let Some(lane) = known.spare.pop() {
            if !lane.is_closed() {
                return Some(lane);
            }
        }
        None
    }

    pub(super) fn give_back(&self, lane: Arc<Lane>) {
        if !lane.is_closed() {
            self.lock().spare.push(lane);
        }
    }

    /// Closes those that wait.
    pub(super) fn drop_spare(&self) {
        let spare = std::mem::take(&mut self.lock().spare);
        for lane in spare {
            lane.close();
        }
    }

    /// Closes up to `spare` lanes that nobody used since the last call.
    pub(super) fn shrink(&self, mut spare: usize) {
        for lane in self.open() {
            if !lane.was_used() && lane.in_flight() == 0 && spare > 0 {
                lane.close();
                spare -= 1;
            }
        }
        self.lock().spare.retain(|lane| !lane.is_closed());
    }

    /// Lanes with a request under way.
    pub(super) fn busy(&self) -> usize {
        let open = self.open();
        open.iter().filter(|lane| lane.in_flight() > 0).count()
    }

    /// Requests under way.
    pub(super) fn in_flight(&self) -> usize {
        self.open().iter().map(|lane| lane.in_flight()).sum()
    }

    fn open(&self) -> Vec<Arc<Lane>> {
        let open = self
            .lock()
            .open
            .iter()
            .filter_map(Weak::upgrade)
            .collect::<Vec<_>>();
        open.into_iter().filter(|lane| !lane.is_closed()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Lanes {
    /// Ends all of them; requests under way on them fail.
    pub(super) fn close(&self) {
        for lane in self.open() {
            lane.close();
        }
        self.drop_spare();
    }
}

impl Drop for Lanes {
    fn drop(&mut self) {
        self.close();
    }
}
