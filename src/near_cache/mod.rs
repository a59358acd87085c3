//! Local copies of values, kept right by the server's own invalidation. No sockets here:
//! `client::tracking_connection` tells what it hears, `store` asks, fills and writes.

mod freshness;
mod memory_budget;
mod tracking_lease;

pub(crate) use freshness::{Change, Namespace, NearCache};
pub use freshness::{Held, NearCacheStats};
pub(crate) use tracking_lease::{ONE_SERVER, Prefix};
