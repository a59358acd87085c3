//! What is counted: calls and their durations, hits and misses, bytes, retries, the breaker.
//!
//! Every number is an atomic that only grows, in [`Counters`] that one store or one set of
//! connections owns. A [`Ledger`] adds up those of a process, also of what is closed by now. What
//! goes up and down (connections, copies) is not counted here but asked for where it is.

mod ledger;
mod server;
mod store;

pub use ledger::{Counters, Ledger, Totals};
pub use server::ServerCount;
pub use store::{BUCKETS, Count, Direction, Operation, Status, StoreCounters, StoreTotals};

/// All that a process has counted.
#[derive(Default)]
pub struct Metrics {
    /// By namespace; see [`StoreCounters`].
    pub stores: Ledger,
    /// By server; see [`ServerCount`].
    pub servers: Ledger,
}
