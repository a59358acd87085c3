//! Single flight: of the tasks of this process that miss the same id at once, one holds the lease
//! and the others wait. No sockets here: `store` asks the server for leases and keeps them.
//!
//! A [`Flight`] is one id that somebody misses. It is made by the first [`Flights::join`] and lives
//! until nobody holds or waits any more. Its waiters are given a [`Landing`] each, one of them at a
//! time the lease; a [`Lease`] that is dropped, on its way to a caller that has gone or with the task
//! that held it, goes to the next.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

use crate::mutex::Mutex;

/// An id on a set of servers: the address of the set, which lives as long as the flight, and the
/// key of the lease.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Route {
    pub(crate) servers: usize,
    pub(crate) lease: Arc<str>,
}

/// What becomes of a caller that missed.
#[derive(Debug)]
pub enum Landing {
    /// Another has brought the value, as JSON.
    Value(Bytes),
    /// The caller is the one who is to make the value.
    Lead(Lease),
    /// The caller makes the value itself, as if there were no single flight.
    Alone,
}

/// The flights of a process, and which of its tasks hold a lease.
#[derive(Debug, Default)]
pub struct Flights {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    flights: HashMap<Route, Flight>,
    /// The tasks that have held a lease and have not ended, and the lease that each holds now.
    tasks: HashMap<u64, Option<(Route, u64)>>,
    last_lease: u64,
}

#[derive(Debug, Default)]
struct Flight {
    waiters: VecDeque<oneshot::Sender<Landing>>,
    /// The lease that a task of this process holds, and since when.
    holder: Option<(u64, Instant)>,
    /// Whether somebody, of whatever process, is making the value: who joins now has to wait.
    led: bool,
    /// Whether a value was written since the holder's call began.
    written: bool,
    changed: Arc<Notify>,
}

/// How a caller has joined.
pub(crate) enum Joined {
    /// It holds the lease already: it tries again what failed.
    Holder,
    /// Somebody makes the value, and this caller does not wait.
    Led,
    /// It waits.
    Waiter {
        landing: oneshot::Receiver<Landing>,
        /// The flight is new, and is to be flown by this caller.
        first: Option<Flown>,
        /// Whether somebody is making the value by now.
        led: bool,
    },
}

/// What a flight is at the moment.
pub(crate) enum Seen {
    /// A value was written.
    Written,
    /// A task of this process has held the lease since then.
    Held(Instant),
    /// None does.
    Free,
}

impl Flights {
    /// A task missed this id. It does not wait if it holds the lease, or if somebody makes the value
    /// and `waits` is false.
    pub(crate) fn join(self: &Arc<Self>, route: &Route, task: u64, waits: bool) -> Joined {
        let mut held = self.state.lock();
        let state = &mut *held;
        let holds = state.tasks.get(&task).and_then(Option::as_ref);
        let lease = holds.filter(|(of, _)| of == route).map(|(_, lease)| *lease);
        if let Some(flight) = state.flights.get_mut(route)
            && let Some((holder, since)) = &mut flight.holder
            && lease == Some(*holder)
        {
            *since = Instant::now();
            return Joined::Holder;
        }
        let known = state.flights.contains_key(route);
        let flight = state.flights.entry(route.clone()).or_default();
        if flight.led && !waits {
            return Joined::Led;
        }
        let (waiter, landing) = oneshot::channel();
        flight.waiters.push_back(waiter);
        let led = flight.led;
        let first = (!known).then(|| Flown {
            flights: Arc::clone(self),
            route: route.clone(),
            changed: Arc::clone(&flight.changed),
        });
        Joined::Waiter {
            landing,
            first,
            led,
        }
    }

    /// A task asks for an id: if it held the lease of another, it has given that up.
    pub(crate) fn asks(&self, task: u64, route: &Route) {
        let mut state = self.state.lock();
        let Some(held) = state.tasks.get_mut(&task) else {
            return;
        };
        if held.as_ref().is_some_and(|(of, _)| of != route)
            && let Some((of, lease)) = held.take()
        {
            state.end(&of, lease);
        }
    }

    /// A task has ended, or failed, and holds nothing any more.
    pub fn left(&self, task: u64) {
        let mut state = self.state.lock();
        if let Some(Some((route, lease))) = state.tasks.remove(&task) {
            state.end(&route, lease);
        }
    }

    /// The value of this id was written, and the server has confirmed it.
    pub(crate) fn written(&self, route: &Route) {
        let mut state = self.state.lock();
        if let Some(flight) = state.flights.get_mut(route) {
            flight.written = true;
            flight.changed.notify_one();
        }
    }

    /// Whether nobody misses anything.
    pub(crate) fn is_empty(&self) -> bool {
        self.state.lock().flights.is_empty()
    }
}

impl State {
    fn end(&mut self, route: &Route, lease: u64) {
        if let Some(flight) = self.flights.get_mut(route)
            && flight.holder.is_some_and(|(holder, _)| holder == lease)
        {
            flight.holder = None;
            flight.changed.notify_one();
        }
    }
}

/// The right to make the value of an id. It ends when it is dropped, or with the task that keeps it.
#[derive(Debug)]
pub struct Lease {
    flights: Arc<Flights>,
    route: Route,
    number: u64,
    kept: bool,
    /// Whether its holder had waited for another, who failed.
    pub(crate) promoted: bool,
}

impl Lease {
    /// It is this task's from now on, in place of any that it had. True if the task has held none
    /// before: somebody has to say when it ends, by [`Flights::left`].
    #[must_use]
    pub fn keep(mut self, task: u64) -> bool {
        let mut state = self.flights.state.lock();
        let held = Some((self.route.clone(), self.number));
        let before = state.tasks.insert(task, held);
        if let Some(Some((route, number))) = &before {
            state.end(route, *number);
        }
        drop(state);
        self.kept = true;
        before.is_none()
    }

    /// Where its holder is to be taken leave of.
    #[must_use]
    pub fn flights(&self) -> Arc<Flights> {
        Arc::clone(&self.flights)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.kept {
            self.flights.state.lock().end(&self.route, self.number);
        }
    }
}

/// A flight, in the hands of the one future that flies it. Dropped, its waiters are on their own.
pub(crate) struct Flown {
    flights: Arc<Flights>,
    pub(crate) route: Route,
    changed: Arc<Notify>,
}

impl Flown {
    /// Waits until what [`Flown::seen`] says may have changed.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// What it is now.
    pub(crate) fn seen(&self) -> Seen {
        self.with(|flight| match flight.holder {
            _ if flight.written => Seen::Written,
            Some((_, since)) => Seen::Held(since),
            None => Seen::Free,
        })
        .unwrap_or(Seen::Free)
    }

    /// How many wait.
    pub(crate) fn waiters(&self) -> usize {
        self.with(|flight| {
            flight.waiters.retain(|waiter| !waiter.is_closed());
            flight.waiters.len()
        })
        .unwrap_or(0)
    }

    /// Gives the lease to the first waiter that is still there, and gives how many begin to wait with it;
    /// None if nobody is there.
    pub(crate) fn lead(&self) -> Option<usize> {
        loop {
            let mut state = self.flights.state.lock();
            state.last_lease += 1;
            let number = state.last_lease;
            let flight = state.flights.get_mut(&self.route)?;
            let waiter = flight.waiters.pop_front()?;
            flight.holder = Some((number, Instant::now()));
            let promoted = flight.led;
            drop(state);
            let lease = Lease {
                flights: Arc::clone(&self.flights),
                route: self.route.clone(),
                number,
                kept: false,
                promoted,
            };
            // One that nobody takes is dropped out here: that takes the lock again.
            if waiter.send(Landing::Lead(lease)).is_ok() {
                return Some(self.led());
            }
        }
    }

    /// Somebody makes the value; gives how many begin to wait for it. Who joins later is told that it waits.
    pub(crate) fn led(&self) -> usize {
        self.with(|flight| {
            flight.waiters.retain(|waiter| !waiter.is_closed());
            let known = std::mem::replace(&mut flight.led, true);
            if known { 0 } else { flight.waiters.len() }
        })
        .unwrap_or(0)
    }

    /// Whatever its holder does, it holds the lease no more.
    pub(crate) fn dismiss(&self) {
        self.with(|flight| flight.holder = None);
    }

    /// Begins anew: what was written has been seen.
    pub(crate) fn begin(&self) {
        self.with(|flight| flight.written = false);
    }

    /// Gives each waiter what is its.
    pub(crate) fn land(&self, landing: impl Fn() -> Landing) {
        let waiters = self.with(|flight| std::mem::take(&mut flight.waiters));
        for waiter in waiters.unwrap_or_default() {
            let _ = waiter.send(landing()); // or it has gone
        }
    }

    /// Ends it, unless somebody waits.
    pub(crate) fn finish(&self) -> bool {
        let mut state = self.flights.state.lock();
        let Some(flight) = state.flights.get_mut(&self.route) else {
            return true;
        };
        flight.waiters.retain(|waiter| !waiter.is_closed());
        let done = flight.waiters.is_empty();
        if done {
            state.flights.remove(&self.route);
        }
        done
    }

    fn with<T>(&self, change: impl FnOnce(&mut Flight) -> T) -> Option<T> {
        let mut state = self.flights.state.lock();
        state.flights.get_mut(&self.route).map(change)
    }
}

impl Drop for Flown {
    fn drop(&mut self) {
        let mut state = self.flights.state.lock();
        // One that was finished may have been followed by another.
        let own = |flight: &Flight| Arc::ptr_eq(&flight.changed, &self.changed);
        if state.flights.get(&self.route).is_some_and(own) {
            let flight = state.flights.remove(&self.route);
            drop(state);
            drop(flight);
        }
    }
}
