//! The connections to one server: multiplexed, grown under load up to the cap, shrunk when idle.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::{AsyncConnectionConfig, ErrorKind, ProtocolVersion, RedisConnectionInfo, RedisError};
use tokio::task::AbortHandle;

use crate::client::permits::{Permit, Permits};
use crate::client::transport::connector::Connector;
use crate::client::transport::stream::Stream;
use crate::config::ServerConfig;

/// Requests under way on every connection before one more is opened. A request is a gathered
/// batch, so a connection at this mark carries about a thousand reads.
const GROW_AT: usize = 16;
/// Requests a connection's queue holds before a sender waits for it.
const QUEUE: usize = 1024;

/// The open connections. Cloned handles share them.
pub(in crate::client) struct MultiplexedConnections {
    connector: Arc<Connector>,
    min_connections: usize,
    permits: Arc<Permits>,
    slots: Mutex<Vec<Arc<Slot>>>,
    /// Held while a connection is opened, so that many callers that wait for a first one open one.
    opening: tokio::sync::Mutex<()>,
    growing: AtomicBool,
}

struct Slot {
    connection: Multiplexed,
    in_flight: AtomicUsize,
    /// Whether a request used it since the last check.
    used: AtomicBool,
    permit: Mutex<Option<Permit>>,
}

/// A connection in use by one request.
pub(in crate::client) struct Lease(Arc<Slot>);

impl Lease {
    pub(in crate::client) fn connection(&self) -> MultiplexedConnection {
        self.0.connection.handle()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

impl MultiplexedConnections {
    pub(in crate::client) fn new(
        connector: Arc<Connector>,
        config: &ServerConfig,
        permits: Arc<Permits>,
    ) -> Self {
        Self {
            connector,
            min_connections: config.min_connections,
            permits,
            slots: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
            growing: AtomicBool::new(false),
        }
    }

    /// The least busy of the connections that are open.
    pub(in crate::client) fn open_lease(self: &Arc<Self>) -> Option<Lease> {
        self.least_busy()
    }

    /// The least busy connection; opens the first one, and starts another under load.
    pub(in crate::client) async fn lease(self: &Arc<Self>) -> Result<Lease, RedisError> {
        if let Some(lease) = self.least_busy() {
            return Ok(lease);
        }
        let _opening = self.opening.lock().await;
        if let Some(lease) = self.least_busy() {
            return Ok(lease);
        }
        self.open_one().await?;
        self.least_busy()
            .ok_or_else(|| RedisError::from((ErrorKind::Io, "the connection was lost")))
    }

    fn least_busy(self: &Arc<Self>) -> Option<Lease> {
        let slots = self.lock();
        let slot = slots
            .iter()
            .min_by_key(|slot| slot.in_flight.load(Relaxed))?;
        let busy = slot.in_flight.fetch_add(1, Relaxed);
        slot.used.store(true, Relaxed);
        let lease = Lease(Arc::clone(slot));
        drop(slots);
        if busy >= GROW_AT {
            self.spawn_growth(self.permits.taken() + 1);
        }
        Some(lease)
    }

    /// Opens connections in the background until `target` sockets are open, direct connections included; one
    /// such task at a time.
    pub(in crate::client) fn spawn_growth(self: &Arc<Self>, target: usize) {
        if self.growing.swap(true, Relaxed) {
            return;
        }
        let pool = Arc::clone(self);
        tokio::spawn(async move {
            // A connection that cannot be opened now is no error of anyone: load asks again.
            loop {
                // Who finds no connection waits for this one, which may have the last permit.
                let _opening = pool.opening.lock().await;
                if pool.permits.taken() >= target || pool.open_one().await.is_err() {
                    break;
                }
            }
            pool.growing.store(false, Relaxed);
        });
    }

    async fn open_one(&self) -> Result<(), RedisError> {
        let Some(permit) = self.permits.take(0) else {
            return Err((ErrorKind::Client, "redis_max_connections are open").into());
        };
        let connection = connect(&self.connector).await?;
        self.lock().push(Arc::new(Slot {
            connection,
            in_flight: AtomicUsize::new(0),
            used: AtomicBool::new(true),
            permit: Mutex::new(Some(permit)),
        }));
        Ok(())
    }

    /// Ends a connection that failed. Requests still under way on it fail, and what is queued there is
    /// not sent later than what follows on another.
    pub(in crate::client) fn discard(&self, lease: &Lease) {
        self.lock().retain(|slot| !Arc::ptr_eq(slot, &lease.0));
        lease.0.connection.task.abort();
        let permit = lease
            .0
            .permit
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        drop(permit);
    }

    /// Ends all connections; requests under way on them fail.
    pub(in crate::client) fn close(&self) {
        for slot in std::mem::take(&mut *self.lock()) {
            slot.connection.task.abort();
            let mut permit = slot.permit.lock().unwrap_or_else(PoisonError::into_inner);
            drop(permit.take());
        }
    }

    /// Closes what was not used since the last call, down to the minimum, and leases the rest for
    /// a health check.
    pub(in crate::client) fn shrink(&self) -> Vec<Lease> {
        let mut slots = self.lock();
        let mut spare = self.permits.taken().saturating_sub(self.min_connections);
        slots.retain(|slot| {
            let idle = !slot.used.swap(false, Relaxed) && slot.in_flight.load(Relaxed) == 0;
            let close = idle && spare > 0;
            spare -= usize::from(close);
            !close
        });
        let leases = slots.iter().map(|slot| {
            slot.in_flight.fetch_add(1, Relaxed);
            Lease(Arc::clone(slot))
        });
        leases.collect()
    }

    /// Connections with a request under way.
    pub(in crate::client) fn busy(&self) -> usize {
        let slots = self.lock();
        let busy = slots.iter().filter(|slot| slot.in_flight.load(Relaxed) > 0);
        busy.count()
    }

    /// Requests under way.
    pub(in crate::client) fn in_flight(&self) -> usize {
        self.lock()
            .iter()
            .map(|slot| slot.in_flight.load(Relaxed))
            .sum()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Slot>>> {
        // A panic while it was held leaves a list of connections that is still a valid list.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that many requests share, and the task that moves its bytes, ended with it.
pub(crate) struct Multiplexed {
    connection: MultiplexedConnection,
    task: AbortHandle,
}

impl Multiplexed {
    pub(in crate::client) fn handle(&self) -> MultiplexedConnection {
        self.connection.clone()
    }
}

impl Drop for Multiplexed {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(in crate::client) async fn connect(connector: &Connector) -> Result<Multiplexed, RedisError> {
    // Deadlines are ours, one for the attempt and one for the operation; see `Connections::send`.
    let settings = AsyncConnectionConfig::new().set_pipeline_buffer_size(QUEUE);
    let stream = connector.connect().await?;
    open(stream, RedisConnectionInfo::default(), settings).await
}

/// A connection on which the server may speak unasked; `on_push` must not wait.
pub(in crate::client) async fn connect_with_push(
    stream: Stream,
    on_push: impl AsyncPushSender,
) -> Result<Multiplexed, RedisError> {
    let settings = AsyncConnectionConfig::new().set_push_sender(on_push);
    let login = RedisConnectionInfo::default().set_protocol(ProtocolVersion::RESP3);
    open(stream, login, settings).await
}

async fn open(
    stream: Stream,
    login: RedisConnectionInfo,
    settings: AsyncConnectionConfig,
) -> Result<Multiplexed, RedisError> {
    let login = login.set_skip_set_lib_name(); // the connector has logged in and said all that
    let settings = settings
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let opened = MultiplexedConnection::new_with_config(&login, stream, settings);
    let (connection, driver) = opened.await?;
    Ok(Multiplexed {
        connection,
        task: tokio::spawn(driver).abort_handle(),
    })
}
