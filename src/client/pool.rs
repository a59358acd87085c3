//! The connections to one server, and how many there may be.
//!
//! Direct ones belong to the reactors of callers, and wait here between callers that block. Shared ones are driven by the
//! runtime: for who has no reactor, and for what is too much for one direct connection. They grow under load.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Weak};

use redis::RedisError;

use super::connection::Connection;
use super::connection_permits::{Permit, Permits};
use super::protocol::pipeline::Pipeline;
use super::transport::auth_limiter::AuthLimiter;
use super::transport::connector::Connector;
use super::transport::socket::{Socket, Waiting};
use crate::config::ServerConfig;
use crate::mutex::Mutex;

/// Requests under way on every shared connection before one more is opened. A request is a gathered
/// batch, so a connection at this mark carries about a thousand reads.
const GROW_AT: usize = 16;

/// The connections to one server, under one cap.
pub(super) struct Pool {
    pub(super) connector: Arc<Connector>,
    pub(super) permits: Arc<Permits>,
    known: Mutex<Known>,
    /// Held while a shared connection is opened, so that many callers that wait for a first one open one.
    opening: tokio::sync::Mutex<()>,
    growing: AtomicBool,
}

#[derive(Default)]
struct Known {
    /// All that are open, whoever drives them.
    open: Vec<Weak<Connection>>,
    shared: Vec<Arc<Connection>>,
    /// Direct ones that wait for a thread that blocks.
    idle: Vec<Arc<Connection>>,
}

impl Pool {
    /// Opens nothing.
    pub(super) fn new(config: &ServerConfig, auth_limiter: Arc<AuthLimiter>) -> Arc<Self> {
        Arc::new(Self {
            connector: Connector::new(config.clone(), auth_limiter),
            permits: Arc::new(Permits::new(config.max_connections)),
            known: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            growing: AtomicBool::new(false),
        })
    }

    /// The least busy shared connection; opens the first one, and has another opened under load.
    pub(super) async fn shared(self: &Arc<Self>) -> Result<Arc<Connection>, RedisError> {
        if let Some(connection) = self.least_busy() {
            return Ok(connection);
        }
        let _opening = self.opening.lock().await;
        if let Some(connection) = self.least_busy() {
            return Ok(connection);
        }
        // In memory of its own, which every call would have to take.
        Box::pin(self.open_shared()).await
    }

    /// The least busy shared connection of those that are open; has one more opened under load.
    pub(super) fn least_busy(self: &Arc<Self>) -> Option<Arc<Connection>> {
        let mut known = self.known.lock();
        known.shared.retain(|connection| !connection.is_closed());
        let least = known.shared.iter();
        let least = least.min_by_key(|connection| connection.in_flight())?;
        let least = Arc::clone(least);
        drop(known);
        if least.in_flight() >= GROW_AT {
            self.spawn_growth(self.permits.taken() + 1);
        }
        Some(least)
    }

    /// Opens shared connections in the background until `target` connections are open, direct ones included; one
    /// such task at a time.
    pub(super) fn spawn_growth(self: &Arc<Self>, target: usize) {
        if self.growing.swap(true, Relaxed) {
            return;
        }
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            // A connection that cannot be opened now is no error of anyone: load asks again.
            loop {
                // Who finds no connection waits for this one, which may have the last permit.
                let _opening = pool.opening.lock().await;
                if pool.permits.taken() >= target || pool.open_shared().await.is_err() {
                    break;
                }
            }
            pool.growing.store(false, Relaxed);
        });
    }

    async fn open_shared(&self) -> Result<Arc<Connection>, RedisError> {
        let Some(permit) = self.permits.take(0) else {
            return Err(std::io::Error::other("redis_max_connections are open").into());
        };
        let connection = self.open(Waiting::Runtime, permit).await?;
        self.known.lock().shared.push(Arc::clone(&connection));
        Ok(connection)
    }

    /// A connection that is driven like this.
    pub(super) async fn open(
        &self,
        waiting: Waiting,
        permit: Permit,
    ) -> Result<Arc<Connection>, RedisError> {
        let socket = Socket::new(self.connector.connect().await?, waiting)?;
        let connection = Connection::new(socket, Pipeline::default(), Some(permit));
        let mut known = self.known.lock();
        known.open.retain(|open| open.strong_count() > 0);
        known.open.push(Arc::downgrade(&connection));
        drop(known);
        Ok(connection)
    }

    /// The direct connection given back last: it is the likeliest to be in order.
    pub(super) fn take_idle(&self) -> Option<Arc<Connection>> {
        let mut known = self.known.lock();
        while let Some(connection) = known.idle.pop() {
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    pub(super) fn give_back(&self, connection: Arc<Connection>) {
        if !connection.is_closed() {
            self.known.lock().idle.push(connection);
        }
    }

    /// Trusts a connection with nothing more, and those that wait neither: what ended one has ended them, as a rule.
    pub(super) fn discard(&self, connection: &Connection) {
        connection.close();
        let idle = std::mem::take(&mut self.known.lock().idle);
        for connection in idle {
            connection.close();
        }
    }

    /// Closes up to `spare` connections that nobody used since the last call, and gives the shared ones that stay.
    pub(super) fn shrink(&self, mut spare: usize) -> Vec<Arc<Connection>> {
        for connection in self.open_connections() {
            if !connection.was_used() && connection.in_flight() == 0 && spare > 0 {
                connection.close();
                spare -= 1;
            }
        }
        let mut known = self.known.lock();
        known.idle.retain(|connection| !connection.is_closed());
        known.shared.retain(|connection| !connection.is_closed());
        known.shared.clone()
    }

    /// Those that are open.
    pub(super) fn open_connections(&self) -> Vec<Arc<Connection>> {
        let known = self.known.lock();
        let open = known.open.iter().filter_map(Weak::upgrade);
        let open: Vec<_> = open.collect();
        drop(known);
        let open = open.into_iter();
        open.filter(|connection| !connection.is_closed()).collect()
    }

    /// Ends all connections; requests under way on them fail.
    pub(super) fn close(&self) {
        for connection in self.open_connections() {
            connection.close();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.close();
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures_util::FutureExt;
    use tokio::io::AsyncWriteExt;
    use tokio::net::{TcpListener, UnixStream};
    use tokio::time::Instant;

    use super::*;
    use crate::client::node::Node;
    use crate::client::protocol::request::Request;
    use crate::client::transport::stream::Stream;

    fn config() -> ServerConfig {
        ServerConfig::new("redis://localhost").unwrap()
    }

    fn pool() -> Arc<Pool> {
        Pool::new(&config(), Arc::default())
    }

    /// A connection of the pool, and the other end of it.
    fn connect(pool: &Pool) -> (Arc<Connection>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = Socket::new(Stream::Unix(ours), Waiting::Never).unwrap();
        let connection = Connection::new(socket, Pipeline::default(), None);
        let mut known = pool.known.lock();
        known.open.push(Arc::downgrade(&connection));
        (connection, theirs)
    }

    #[tokio::test]
    async fn what_is_spare_is_closed_where_nobody_used_it_and_nobody_waits() {
        let limit = Instant::now() + Duration::from_secs(60);
        let ping = Request::resendable([redis::cmd("PING")]);
        for (states, spare) in (0..4_u32.pow(3)).flat_map(|states| (0..4).map(move |n| (states, n)))
        {
            let (pool, mut left) = (pool(), spare);
            let connections = [(); 3].map(|()| connect(&pool));
            let (mut waiting, mut closing) = (Vec::new(), Vec::new());
            for (place, (connection, _)) in connections.iter().enumerate() {
                let state = states >> (2 * place);
                let (used, busy) = (state & 1 != 0, state & 2 != 0);
                if busy {
                    let mut answer = Box::pin(connection.exchange_until(&ping, limit));
                    assert!(answer.as_mut().now_or_never().is_none());
                    waiting.push(answer);
                }
                if !used {
                    connection.was_used(); // a new one counts as used
                }
                let closes = !used && !busy && left > 0;
                left -= usize::from(closes);
                closing.push(closes);
                let mut known = pool.known.lock();
                if place == 1 {
                    known.idle.push(Arc::clone(connection));
                } else {
                    known.shared.push(Arc::clone(connection));
                }
            }
            let stay = pool.shrink(spare).len();
            let closed = connections
                .each_ref()
                .map(|(connection, _)| connection.is_closed());
            assert_eq!(closed, *closing, "{states:b}, {spare} to spare");
            assert_eq!(
                stay,
                [closed[0], closed[2]]
                    .iter()
                    .filter(|closed| !**closed)
                    .count()
            );
            assert_eq!(pool.known.lock().idle.is_empty(), closed[1]);
        }
    }

    #[tokio::test]
    async fn what_ends_a_connection_ends_those_that_wait_for_a_user_and_no_other() {
        let pool = pool();
        let [(lost, _a), (idle, _b), (used, _c)] = [(); 3].map(|()| connect(&pool));
        pool.give_back(Arc::clone(&idle));
        pool.discard(&lost);
        assert!(lost.is_closed() && idle.is_closed() && !used.is_closed());
    }

    #[tokio::test]
    async fn the_connection_given_back_last_is_taken_first_unless_it_was_closed() {
        let pool = pool();
        let connections = [(); 3].map(|()| connect(&pool));
        for (connection, _) in &connections {
            pool.give_back(Arc::clone(connection));
        }
        connections[1].0.close();
        for place in [2, 0] {
            let taken = pool.take_idle().unwrap();
            assert!(Arc::ptr_eq(&taken, &connections[place].0));
        }
        assert!(pool.take_idle().is_none());
    }

    #[tokio::test]
    async fn connections_end_with_their_server_or_when_it_is_abandoned() {
        let node = Node::new(config());
        let (abandoned, _a) = connect(&node.pool);
        node.abandon();
        assert!(abandoned.is_closed());
        let (left, _b) = connect(&node.pool);
        assert!(!left.is_closed());
        drop(node);
        assert!(left.is_closed());
    }

    #[tokio::test]
    async fn connections_that_are_open_are_known_and_those_that_were_are_forgotten() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("redis://{}", listener.local_addr().unwrap());
        // Lets everybody in, which is all that is asked of it.
        let server = tokio::spawn(async move {
            let mut clients = Vec::new();
            loop {
                let (mut client, _) = listener.accept().await.unwrap();
                client.write_all(b"+OK\r\n+OK\r\n+OK\r\n").await.unwrap();
                clients.push(client);
            }
        });
        let config = ServerConfig::new(&url).unwrap();
        let pool = Pool::new(&config, Arc::default());
        let mut open = Vec::new();
        for _ in 0..3 {
            let permit = pool.permits.take(0).unwrap();
            drop(pool.open(Waiting::Never, permit).await.unwrap());
            let permit = pool.permits.take(0).unwrap();
            open.push(pool.open(Waiting::Never, permit).await.unwrap());
            assert_eq!(pool.open_connections().len(), open.len());
            assert_eq!(pool.known.lock().open.len(), open.len());
        }
        server.abort();
    }
}
