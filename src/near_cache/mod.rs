//! Local copies of values, kept right by the server's own invalidation. No sockets here:
//! `client::tracking_connection` tells what it hears, `store` asks, fills and writes.

mod invalidation;
mod memory_budget;
mod tracking_lease;

pub(crate) use invalidation::{Change, Namespace, NearCache};
pub use invalidation::{Held, NearCacheStats};
pub(crate) use tracking_lease::{ONE_SERVER, Prefix};
