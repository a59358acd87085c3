//! The direct connections to one server, whoever drives them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::client::connection::Connection;

/// All direct connections that are open, and those of them that wait for a thread that blocks.
#[derive(Default)]
pub(in crate::client) struct DirectConnections(Mutex<Known>);

#[derive(Default)]
struct Known {
    open: Vec<Weak<Connection>>,
    idle: Vec<Arc<Connection>>,
}

impl DirectConnections {
    pub(in crate::client) fn add(&self, connection: &Arc<Connection>) {
        let mut known = self.lock();
        known
            .open
            .retain(|connection| connection.strong_count() > 0);
        known.open.push(Arc::downgrade(connection));
    }

    /// The direct connection given back last: it is the likeliest to be in order.
    pub(in crate::client) fn take_idle(&self) -> Option<Arc<Connection>> {
        let mut known = self.lock();
        while let Some(connection) = known.idle.pop() {
            if !connection.is_closed() {
                return Some(connection);
            }
        }
        None
    }

    pub(in crate::client) fn give_back(&self, connection: Arc<Connection>) {
        if !connection.is_closed() {
            self.lock().idle.push(connection);
        }
    }

    /// Closes those that wait.
    pub(in crate::client) fn close_idle(&self) {
        let idle = std::mem::take(&mut self.lock().idle);
        for connection in idle {
            connection.close();
        }
    }

    /// Closes up to `spare` direct connections that nobody used since the last call.
    pub(in crate::client) fn shrink(&self, mut spare: usize) {
        for connection in self.open() {
            if !connection.was_used() && connection.in_flight() == 0 && spare > 0 {
                connection.close();
                spare -= 1;
            }
        }
        self.lock()
            .idle
            .retain(|connection| !connection.is_closed());
    }

    /// Direct connections with a request under way.
    pub(in crate::client) fn busy(&self) -> usize {
        let open = self.open();
        open.iter()
            .filter(|connection| connection.in_flight() > 0)
            .count()
    }

    /// Requests under way.
    pub(in crate::client) fn in_flight(&self) -> usize {
        self.open()
            .iter()
            .map(|connection| connection.in_flight())
            .sum()
    }

    fn open(&self) -> Vec<Arc<Connection>> {
        let open = self
            .lock()
            .open
            .iter()
            .filter_map(Weak::upgrade)
            .collect::<Vec<_>>();
        open.into_iter()
            .filter(|connection| !connection.is_closed())
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl DirectConnections {
    /// Ends all of them; requests under way on them fail.
    pub(in crate::client) fn close(&self) {
        for connection in self.open() {
            connection.close();
        }
        self.close_idle();
    }
}

impl Drop for DirectConnections {
    fn drop(&mut self) {
        self.close();
    }
}
