//! The lanes of one caller: of an event loop, or of a thread that blocks.
//!
//! A caller enters its driver while it polls futures of this crate, as one enters a runtime. What
//! they send then goes over a lane of the driver's own, one for each server, and no thread is woken
//! for it; without a driver, or without a seat for one more socket, it goes over the pool.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use redis::RedisError;

use super::lane::Lane;
use super::node::Node;
use super::socket::{Socket, Waiting};

/// Requests under way on a lane beyond which the pool takes over: its connections have threads of
/// their own to read with.
const BUSY_AT: usize = 64;

/// The lanes of one caller, one for each server.
pub struct Driver {
    waiting: Waiting,
    lanes: Mutex<Vec<Owned>>,
    /// Whether lanes were added or closed since the last look.
    changed: AtomicBool,
    /// Held while a lane to that server is opened, so that many calls open one.
    opening: Mutex<Vec<(Weak<Node>, Opening)>>,
}

type Opening = Arc<tokio::sync::Mutex<()>>;

struct Owned {
    node: Weak<Node>,
    lane: Arc<Lane>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Driver>>> = const { RefCell::new(None) };
}

/// What [`Driver::drive`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Driven {
    /// There was no lane to drive.
    Nothing,
    /// All was read that had come.
    Wholly,
    /// There may be more.
    Partly,
}

/// The driver is this thread's until the guard is dropped.
pub struct Entered {
    before: Option<Arc<Driver>>,
    /// Of this thread.
    not_send: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

impl Driver {
    /// A driver without lanes, whose sockets wait like this.
    #[must_use]
    pub fn new(waiting: Waiting) -> Arc<Self> {
        Arc::new(Self {
            waiting,
            lanes: Mutex::default(),
            changed: AtomicBool::new(false),
            opening: Mutex::default(),
        })
    }

    /// Makes it this thread's driver for a while.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Entered {
        Entered {
            before: CURRENT.replace(Some(Arc::clone(self))),
            not_send: PhantomData,
        }
    }

    pub(super) fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// The lane to this server, opened at first use. None: the pool is to be used.
    pub(super) async fn lane(&self, node: &Arc<Node>) -> Result<Option<Arc<Lane>>, RedisError> {
        if let Some(lane) = self.find(node) {
            return Ok((lane.in_flight() < BUSY_AT).then_some(lane));
        }
        let opening = self.opening(node);
        let _opening = opening.lock().await;
        if let Some(lane) = self.find(node) {
            return Ok(Some(lane));
        }
        if self.waits()
            && let Some(lane) = node.lanes.take_spare()
        {
            self.own(node, &lane);
            return Ok(Some(lane));
        }
        // One seat is left to the pool: where no lane can be had, there must be a connection.
        let Some(seat) = node.quota.take(1) else {
            return Ok(None);
        };
        // On the runtime: it goes on while the caller's thread is kept by other work.
        let (dialer, waiting) = (Arc::clone(&node.dialer), self.waiting);
        let opened = tokio::spawn(async move { (Socket::open(&dialer, waiting).await, seat) });
        let (opened, seat) = opened
            .await
            .map_err(|error| RedisError::from(std::io::Error::other(error)))?;
        let lane = Arc::new(Lane::new(opened?, seat));
        node.lanes.add(&lane);
        self.own(node, &lane);
        Ok(Some(lane))
    }

    /// One for each server: one that does not answer keeps nobody from the others.
    fn opening(&self, node: &Arc<Node>) -> Opening {
        let mut opening = self.opening.lock().unwrap_or_else(PoisonError::into_inner);
        opening.retain(|(server, _)| server.strong_count() > 0);
        let server = Arc::as_ptr(node);
        if let Some((_, known)) = opening.iter().find(|(known, _)| known.as_ptr() == server) {
            return Arc::clone(known);
        }
        let new = Opening::default();
        opening.push((Arc::downgrade(node), Arc::clone(&new)));
        new
    }

    fn own(&self, node: &Arc<Node>, lane: &Arc<Lane>) {
        self.lock().push(Owned {
            node: Arc::downgrade(node),
            lane: Arc::clone(lane),
        });
        self.changed.store(true, Relaxed);
    }

    fn find(&self, node: &Arc<Node>) -> Option<Arc<Lane>> {
        let server = Arc::as_ptr(node);
        let lanes = self.lock();
        let mut of_server = lanes.iter().filter(|owned| owned.node.as_ptr() == server);
        let open = of_server.find(|owned| !owned.lane.is_closed());
        open.map(|owned| Arc::clone(&owned.lane))
    }

    fn waits(&self) -> bool {
        self.waiting != Waiting::Never
    }

    /// Moves bytes on every lane. One that waits for them does so only where some are expected.
    #[must_use]
    pub fn drive(&self) -> Driven {
        let mut driven = Driven::Nothing;
        // Not held meanwhile: a lane that fails wakes those who then open another.
        for lane in self.lanes() {
            if lane.in_flight() > 0 || !self.waits() {
                driven = driven.max(if lane.drive() {
                    Driven::Partly
                } else {
                    Driven::Wholly
                });
            }
            if lane.is_closed() {
                self.changed.store(true, Relaxed);
            }
        }
        driven
    }

    /// Sends what is queued on every lane.
    pub fn send(&self) {
        for lane in self.lanes() {
            lane.send();
        }
    }

    /// The lanes, closed ones too.
    #[must_use]
    pub fn lanes(&self) -> Vec<Arc<Lane>> {
        self.lock()
            .iter()
            .map(|owned| Arc::clone(&owned.lane))
            .collect()
    }

    /// True once after a lane was opened or closed.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changed.load(Relaxed) && self.changed.swap(false, Relaxed)
    }

    /// Lets go of closed lanes, and returns the open ones.
    #[must_use]
    pub fn open_lanes(&self) -> Vec<Arc<Lane>> {
        self.lock().retain(|owned| !owned.lane.is_closed());
        self.lanes()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Owned>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        for owned in std::mem::take(&mut *self.lock()) {
            // An answer that still comes is its asker's and reaches nobody, but the lane's next user would
            // wait behind it.
            match owned.node.upgrade() {
                Some(node) if self.waits() && owned.lane.is_at_rest() => {
                    node.lanes.give_back(owned.lane);
                }
                _ => owned.lane.close(),
            }
        }
    }
}
