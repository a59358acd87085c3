//! What is counted: calls and their durations, hits and misses, bytes, retries, the breaker.
//!
//! Every number is an atomic that only grows, in [`Counters`] that one store or one set of
//! connections owns. A [`Ledger`] adds up those of a process, also of what is closed by now. What
//! goes up and down (connections, copies) is not counted here but asked for where it is.

mod latency_histogram;
mod process_totals;
mod server_counters;
mod store_counters;

pub use latency_histogram::BUCKETS;
pub use process_totals::{Counters, Ledger, Totals};
pub use server_counters::ServerCount;
pub use store_counters::{Count, Direction, Operation, Status, StoreCounters, StoreTotals};

/// All that a process has counted.
#[derive(Default)]
pub struct Metrics {
    /// By namespace; see [`StoreCounters`].
    pub stores: Ledger,
    /// By server; see [`ServerCount`].
    pub servers: Ledger,
}
