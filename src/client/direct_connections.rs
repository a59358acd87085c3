//! The direct connections of one caller: of an event loop, or of a thread that blocks.
//!
//! A caller enters its reactor while it polls futures of this crate, as one enters a runtime. What
//! they send then goes over a direct connection of the reactor's own, one for each server, and no thread is woken
//! for it; without a reactor, or without a permit for one more socket, it goes over a shared one of the pool.

use std::cell::RefCell;
use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use redis::RedisError;

use super::connection::Connection;
use super::pool::Pool;
use super::transport::socket::Waiting;
use crate::mutex::Mutex;

/// Requests under way on a direct connection beyond which the shared ones take over: the runtime's threads drive those.
const BUSY_AT: usize = 64;

/// The direct connections of one caller, one for each server.
pub struct Reactor {
    waiting: Waiting,
    connections: Mutex<Vec<Owned>>,
    /// Whether direct connections were added or closed since the last check.
    changed: AtomicBool,
    /// Held while a direct connection to that server is opened, so that many calls open one.
    opening: Mutex<Vec<(Weak<Pool>, Opening)>>,
}

type Opening = Arc<tokio::sync::Mutex<()>>;

struct Owned {
    pool: Weak<Pool>,
    connection: Arc<Connection>,
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Reactor>>> = const { RefCell::new(None) };
}

/// What [`Reactor::drive`] has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DriveOutcome {
    /// There was no direct connection to drive.
    NoConnections,
    /// All was read that had come.
    Drained,
    /// There may be more.
    MoreToRead,
}

/// The reactor is this thread's until the guard is dropped.
pub struct Entered {
    before: Option<Arc<Reactor>>,
    /// Of this thread.
    not_send: PhantomData<*const ()>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.before.take());
    }
}

/// The connection for one attempt: the direct one of this thread's reactor; without one, a shared one.
pub(super) async fn checkout(pool: &Arc<Pool>) -> Result<Arc<Connection>, RedisError> {
    let Some(reactor) = Reactor::current() else {
        return pool.shared().await;
    };
    match reactor.connection(pool).await {
        Ok(Some(connection)) => Ok(connection),
        Ok(None) => pool.shared().await,
        // A server that takes no more clients still serves those it has.
        Err(error) => pool.least_busy().ok_or(error),
    }
}

impl Reactor {
    /// A reactor without direct connections, whose sockets wait like this.
    #[must_use]
    pub fn new(waiting: Waiting) -> Arc<Self> {
        Arc::new(Self {
            waiting,
            connections: Mutex::default(),
            changed: AtomicBool::new(false),
            opening: Mutex::default(),
        })
    }

    /// Makes it this thread's reactor for a while.
    #[must_use]
    pub fn enter(self: &Arc<Self>) -> Entered {
        Entered {
            before: CURRENT.replace(Some(Arc::clone(self))),
            not_send: PhantomData,
        }
    }

    fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// The direct connection to this server, opened at first use. None: the pool is to be used.
    pub(super) async fn connection(
        &self,
        pool: &Arc<Pool>,
    ) -> Result<Option<Arc<Connection>>, RedisError> {
        if let Some(connection) = self.find(pool) {
            return Ok((connection.in_flight() < BUSY_AT).then_some(connection));
        }
        let opening = self.opening(pool);
        let _opening = opening.lock().await;
        if let Some(connection) = self.find(pool) {
            return Ok(Some(connection));
        }
        if self.waits()
            && let Some(connection) = pool.take_idle()
        {
            self.own(pool, &connection);
            return Ok(Some(connection));
        }
        // One permit is left to the pool: where no direct connection can be had, there must be a connection.
        let Some(permit) = pool.permits.take(1) else {
            return Ok(None);
        };
        // On the runtime: it goes on while the caller's thread is kept by other work.
        let (shared, waiting) = (Arc::clone(pool), self.waiting);
        let opened = tokio::spawn(async move { shared.open(waiting, permit).await });
        let connection = opened
            .await
            .map_err(|error| RedisError::from(std::io::Error::other(error)))??;
        self.own(pool, &connection);
        Ok(Some(connection))
    }

    /// One for each server: one that does not answer keeps nobody from the others.
    fn opening(&self, pool: &Arc<Pool>) -> Opening {
        let mut opening = self.opening.lock();
        opening.retain(|(server, _)| server.strong_count() > 0);
        let server = Arc::as_ptr(pool);
        if let Some((_, known)) = opening.iter().find(|(known, _)| known.as_ptr() == server) {
            return Arc::clone(known);
        }
        let new = Opening::default();
        opening.push((Arc::downgrade(pool), Arc::clone(&new)));
        new
    }

    fn own(&self, pool: &Arc<Pool>, connection: &Arc<Connection>) {
        self.connections.lock().push(Owned {
            pool: Arc::downgrade(pool),
            connection: Arc::clone(connection),
        });
        self.changed.store(true, Relaxed);
    }

    fn find(&self, pool: &Arc<Pool>) -> Option<Arc<Connection>> {
        let server = Arc::as_ptr(pool);
        let connections = self.connections.lock();
        let mut of_server = connections
            .iter()
            .filter(|owned| owned.pool.as_ptr() == server);
        let open = of_server.find(|owned| !owned.connection.is_closed());
        open.map(|owned| Arc::clone(&owned.connection))
    }

    fn waits(&self) -> bool {
        self.waiting != Waiting::Never
    }

    /// Moves bytes on every direct connection. One that waits for them does so only where some are expected.
    #[must_use]
    pub fn drive(&self) -> DriveOutcome {
        let mut outcome = DriveOutcome::NoConnections;
        // Not held meanwhile: a direct connection that fails wakes those who then open another.
        for connection in self.connections() {
            if connection.in_flight() > 0 || !self.waits() {
                outcome = outcome.max(if connection.drive() {
                    DriveOutcome::MoreToRead
                } else {
                    DriveOutcome::Drained
                });
            }
            if connection.is_closed() {
                self.changed.store(true, Relaxed);
            }
        }
        outcome
    }

    /// Sends what is queued on every direct connection.
    pub fn send(&self) {
        for connection in self.connections() {
            connection.send();
        }
    }

    /// The direct connections, closed ones too.
    #[must_use]
    pub fn connections(&self) -> Vec<Arc<Connection>> {
        self.connections
            .lock()
            .iter()
            .map(|owned| Arc::clone(&owned.connection))
            .collect()
    }

    /// True once after a direct connection was opened or closed.
    #[must_use]
    pub fn has_changed(&self) -> bool {
        self.changed.load(Relaxed) && self.changed.swap(false, Relaxed)
    }

    /// Lets go of closed direct connections, and returns the open ones.
    #[must_use]
    pub fn open_connections(&self) -> Vec<Arc<Connection>> {
        self.connections
            .lock()
            .retain(|owned| !owned.connection.is_closed());
        self.connections()
    }
}

impl Drop for Reactor {
    fn drop(&mut self) {
        for owned in std::mem::take(&mut *self.connections.lock()) {
            // An answer that still comes is its asker's and reaches nobody, but the connection's next user would
            // wait behind it.
            match owned.pool.upgrade() {
                Some(pool) if self.waits() && owned.connection.is_at_rest() => {
                    pool.give_back(owned.connection);
                }
                _ => owned.connection.close(),
            }
        }
    }
}
