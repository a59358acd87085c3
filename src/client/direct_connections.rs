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

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::net::UnixStream;
    use tokio::time::Instant;

    use super::*;
    use crate::client::protocol::pipeline::Pipeline;
    use crate::client::protocol::request::Request;
    use crate::client::transport::socket::Socket;
    use crate::client::transport::stream::Stream;
    use crate::config::ServerConfig;

    const WAITING: Waiting = Waiting::AtMost(Duration::from_millis(1));

    fn pool() -> Arc<Pool> {
        Pool::new(
            &ServerConfig::new("redis://localhost").unwrap(),
            Arc::default(),
        )
    }

    /// A direct connection of the reactor, and the other end of it.
    fn connect(reactor: &Reactor, pool: &Arc<Pool>) -> (Arc<Connection>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = Socket::new(Stream::Unix(ours), reactor.waiting).unwrap();
        let connection = Connection::new(socket, Pipeline::default(), None);
        reactor.own(pool, &connection);
        (connection, theirs)
    }

    #[tokio::test]
    async fn the_pool_takes_over_from_a_direct_connection_with_much_under_way() {
        let (reactor, pool) = (Reactor::new(Waiting::Never), pool());
        let (connection, _theirs) = connect(&reactor, &pool);
        let limit = Instant::now() + Duration::from_secs(60);
        let ping = Request::resendable([redis::cmd("PING")]);
        let mut waiting = Vec::new();
        for under_way in 0..=BUSY_AT {
            let found = reactor.connection(&pool).now_or_never().unwrap().unwrap();
            assert_eq!(found.is_some(), under_way < BUSY_AT, "{under_way}");
            let mut answer = Box::pin(connection.exchange_until(&ping, limit));
            assert!(answer.as_mut().now_or_never().is_none());
            waiting.push(answer);
        }
    }

    #[test]
    fn one_opens_a_connection_to_a_server_and_servers_that_are_gone_are_forgotten() {
        let (reactor, first) = (Reactor::new(Waiting::Never), pool());
        assert!(Arc::ptr_eq(
            &reactor.opening(&first),
            &reactor.opening(&first)
        ));
        drop(first);
        let second = pool();
        drop(reactor.opening(&second));
        assert_eq!(reactor.opening.lock().len(), 1);
    }

    #[tokio::test]
    async fn a_caller_that_leaves_hands_on_what_is_at_rest_where_callers_block() {
        let limit = Instant::now() + Duration::from_secs(60);
        let ping = Request::resendable([redis::cmd("PING")]);
        for (waiting, busy, kept) in [
            (WAITING, false, true),
            (WAITING, true, false),
            (Waiting::Never, false, false),
            (Waiting::Never, true, false),
        ] {
            let (reactor, pool) = (Reactor::new(waiting), pool());
            let (connection, _theirs) = connect(&reactor, &pool);
            let mut answer = Box::pin(connection.exchange_until(&ping, limit));
            if busy {
                assert!(answer.as_mut().now_or_never().is_none());
            }
            drop(reactor);
            assert_eq!(connection.is_closed(), !kept, "{waiting:?} {busy}");
            assert_eq!(pool.take_idle().is_some(), kept, "{waiting:?} {busy}");
        }
        // One that was closed meanwhile is of no use to anybody.
        let (reactor, pool) = (Reactor::new(WAITING), pool());
        let (connection, _theirs) = connect(&reactor, &pool);
        connection.close();
        drop(reactor);
        assert!(pool.take_idle().is_none());
    }

    #[tokio::test]
    async fn a_caller_that_does_not_block_looks_whether_a_connection_with_nothing_under_way_has_ended()
     {
        for (waiting, at_rest, ended) in [
            (Waiting::Never, DriveOutcome::Drained, true),
            (WAITING, DriveOutcome::NoConnections, false),
        ] {
            let (reactor, pool) = (Reactor::new(waiting), pool());
            assert_eq!(reactor.drive(), DriveOutcome::NoConnections);
            let (connection, theirs) = connect(&reactor, &pool);
            assert!(reactor.has_changed() && !reactor.has_changed());
            assert_eq!(reactor.drive(), at_rest);
            assert!(!reactor.has_changed());
            drop(theirs);
            let _ = reactor.drive();
            assert_eq!(connection.is_closed(), ended, "{waiting:?}");
            assert_eq!(reactor.has_changed(), ended);
            assert_eq!(reactor.connections().len(), 1);
            assert_eq!(reactor.open_connections().len(), usize::from(!ended));
            assert_eq!(reactor.connections().len(), usize::from(!ended));
        }
    }

    #[tokio::test]
    async fn what_is_queued_on_direct_connections_is_sent_without_a_look_for_answers() {
        let (reactor, pool) = (Reactor::new(Waiting::Never), pool());
        let (connection, theirs) = connect(&reactor, &pool);
        assert!(
            connection.descriptor() > 2,
            "below are the standard streams"
        );
        let ping = Request::resendable([redis::cmd("PING")]);
        let limit = Instant::now() + Duration::from_secs(60);
        let mut answer = Box::pin(connection.exchange_until(&ping, limit));
        assert!(!connection.has_more_to_send());
        assert!(answer.as_mut().now_or_never().is_none());
        assert!(connection.has_more_to_send());
        reactor.send();
        assert!(!connection.has_more_to_send());
        assert_eq!(connection.in_flight(), 1);
        theirs.readable().await.unwrap();
        let mut came = [0; 64];
        let count = theirs.try_read(&mut came).unwrap();
        assert_eq!(came[..count], *b"*1\r\n$4\r\nPING\r\n");
        connection.close();
        assert!(!connection.has_more_to_send());
    }
}
