//! What a store counts: its calls by outcome and duration, what they found, the bytes they moved.

use std::sync::Arc;
use std::time::Duration;

use super::latency_histogram::{BUCKETS, HISTOGRAM, bucket_of};
use super::{Counters, Totals};
use crate::enumeration::enumeration;
use crate::error::Kind;

enumeration! {
    /// A public call, by the name that it has in Python.
    #[expect(missing_docs, reason = "the text beside each says which method it is")]
    Operation {
        GetById: "get_by_id",
        GetByIds: "get_by_ids",
        FilterKeys: "filter_keys",
        Upsert: "upsert",
        DeleteById: "delete_by_id",
        DeleteByIds: "delete_by_ids",
        Drop: "drop",
        AllKeys: "all_keys",
        IndexDone: "index_done_callback",
        CheckHealth: "check_health",
        GetStats: "get_stats",
        RepairRegistry: "repair_registry",
        Scan: "scan",
        GetKey: "get_key",
        Info: "info",
        Memory: "memory",
        Look: "look",
        Persist: "persist",
        Forbidden: "forbidden",
        RegistryDrift: "registry_drift",
        MigrationStep: "migration_step",
        Limit: "limit",
        Changes: "changes",
    }
}

enumeration! {
    /// A number that a store counts beside its calls.
    Count {
        /// Reads of an id that had a value.
        Hits: "hits",
        /// Reads of an id that had none.
        Misses: "misses",
        /// Bytes of values sent, as JSON.
        JsonWritten: "json_bytes_written",
        /// Bytes of values sent, as they lie on the server: fewer where they were compressed.
        StoredWritten: "stored_bytes_written",
        /// Bytes of values received, as they lie on the server.
        StoredRead: "stored_bytes_read",
        /// Bytes of values received, as JSON.
        JsonRead: "json_bytes_read",
        /// Reads that a local copy answered.
        NearHits: "near_cache_hits",
        /// Reads that went to the server although there are local copies.
        NearMisses: "near_cache_misses",
        /// Misses that were given the lease: their callers make the value, and others wait for it.
        Leases: "single_flight_leases",
        /// Misses that waited for the answer of another.
        Waits: "single_flight_waits",
        /// Misses that were given the answer of another.
        Saved: "single_flight_saved",
        /// Misses that waited, and were given the lease when its holder had failed.
        Promoted: "single_flight_promoted",
        /// Misses that waited for as long as one may.
        TimedOut: "single_flight_timed_out",
        /// Misses that would have waited if single flight did more than observe.
        WouldWait: "single_flight_would_wait",
        /// Calls of a language model that a shared limit permitted.
        Permits: "permits",
        /// Calls that a share of the limit permitted, without asking the server.
        LocalPermits: "local_permits",
        /// Milliseconds that calls waited for a permit.
        PermitWait: "permit_wait_milliseconds",
        /// Pauses that a provider asked for.
        Pauses: "pauses",
        /// Times that all values were replaced, as a deferred drop asks for.
        Swaps: "swaps",
        /// Entries that the stream of changes has taken.
        ChangesRecorded: "changes_recorded",
        /// Entries that it has not, or not known to.
        ChangesLost: "changes_lost",
        /// Deferred drops that no write followed, so that the values stayed.
        DropsKept: "drops_kept",
        /// Values that were given their time to live anew, since they were read.
        TtlRenewals: "ttl_renewals",
    }
}

/// Which way values went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To the server.
    Written,
    /// From the server.
    Read,
}

/// How a call ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// It gave its result.
    Ok,
    /// It gave a result although something failed, as the outage policy says.
    Forgiven,
    /// Its caller left before it ended.
    Cancelled,
    /// Code of the caller's raised in the midst of it.
    Raised,
    /// It failed.
    Failed(Kind),
}

/// Statuses that are no kind of failure, in the order of their places.
const OTHERS: [Status; 4] = [
    Status::Ok,
    Status::Forgiven,
    Status::Cancelled,
    Status::Raised,
];
const STATUSES: usize = OTHERS.len() + Kind::ALL.len();

impl Status {
    /// Every one, in the order of their places.
    pub fn all() -> impl Iterator<Item = Self> {
        let failed = Kind::ALL.iter().copied().map(Self::Failed);
        OTHERS.into_iter().chain(failed)
    }

    /// Its name in a snapshot.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Forgiven => "forgiven",
            Self::Cancelled => "cancelled",
            Self::Raised => "raised",
            Self::Failed(kind) => kind.name(),
        }
    }

    fn place(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Forgiven => 1,
            Self::Cancelled => 2,
            Self::Raised => 3,
            Self::Failed(kind) => OTHERS.len() + kind.place(),
        }
    }
}

// Of each operation: for each status a histogram with what is in no bucket, so that one number
// counts both; its nanoseconds. Then the other numbers, and what was forgiven by kind.
const NANOSECONDS: usize = STATUSES * HISTOGRAM;
const OF_OPERATION: usize = NANOSECONDS + 1;
const COUNTS: usize = OF_OPERATION * Operation::ALL.len();
const FORGIVEN: usize = COUNTS + Count::ALL.len();
const SIZE: usize = FORGIVEN + Kind::ALL.len();

fn of(operation: Operation) -> usize {
    operation.place() * OF_OPERATION
}

/// The counters of one store, by the name of its namespace.
#[derive(Clone)]
pub struct StoreCounters(Arc<Counters>);

impl StoreCounters {
    /// Zeros.
    #[must_use]
    pub fn new(namespace: &str) -> Self {
        Self(Counters::new(namespace, SIZE))
    }

    /// For a ledger.
    #[must_use]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.0
    }

    /// Counts a call.
    pub fn call(&self, operation: Operation, status: Status, took: Duration) {
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let start = of(operation);
        let bucket = bucket_of(nanoseconds);
        self.0.add(start + status.place() * HISTOGRAM + bucket, 1);
        self.0.add(start + NANOSECONDS, nanoseconds);
    }

    /// Counts what came of reading an id.
    pub fn found(&self, found: bool) {
        self.count(if found { Count::Hits } else { Count::Misses }, 1);
    }

    /// Counts bytes of values, as JSON and as they are stored.
    pub fn moved(&self, direction: Direction, json: usize, stored: usize) {
        let (of_json, of_stored) = match direction {
            Direction::Written => (Count::JsonWritten, Count::StoredWritten),
            Direction::Read => (Count::JsonRead, Count::StoredRead),
        };
        self.count(of_json, json as u64);
        self.count(of_stored, stored as u64);
    }

    /// Counts one of the other numbers.
    pub fn count(&self, what: Count, number: u64) {
        self.0.add(COUNTS + what.place(), number);
    }

    /// One of the other numbers.
    #[must_use]
    pub fn get(&self, what: Count) -> u64 {
        self.0.get(COUNTS + what.place())
    }

    /// Counts a failure that the caller was not told of; gives how many of its kind there were before.
    pub(crate) fn forgave(&self, kind: Kind) -> u64 {
        self.0.add(FORGIVEN + kind.place(), 1)
    }

    /// How many failures of this kind were forgiven.
    #[must_use]
    pub fn forgiven(&self, kind: Kind) -> u64 {
        self.0.get(FORGIVEN + kind.place())
    }
}

/// The sums over the stores of one namespace.
pub struct StoreTotals<'a>(pub &'a Totals);

impl StoreTotals<'_> {
    /// Calls that ended so.
    #[must_use]
    pub fn calls(&self, operation: Operation, status: Status) -> u64 {
        let start = of(operation) + status.place() * HISTOGRAM;
        let calls = self.0.among(start..start + HISTOGRAM);
        calls.iter().map(|(_, number)| number).sum()
    }

    /// Calls by duration: of each bucket of [`BUCKETS`], not of those below it too; then the rest.
    #[must_use]
    pub fn histogram(&self, operation: Operation) -> [u64; BUCKETS.len() + 1] {
        let start = of(operation);
        let mut calls = [0; HISTOGRAM];
        for (place, number) in self.0.among(start..start + NANOSECONDS) {
            calls[(place - start) % HISTOGRAM] += number;
        }
        calls
    }

    /// How long all calls took together.
    #[must_use]
    pub fn took(&self, operation: Operation) -> Duration {
        Duration::from_nanos(self.0.get(of(operation) + NANOSECONDS))
    }

    /// One of the other numbers.
    #[must_use]
    pub fn get(&self, what: Count) -> u64 {
        self.0.get(COUNTS + what.place())
    }

    /// Failures of this kind that callers were not told of.
    #[must_use]
    pub fn forgiven(&self, kind: Kind) -> u64 {
        self.0.get(FORGIVEN + kind.place())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Ledger;

    #[test]
    fn no_two_numbers_share_a_place() {
        let (ledger, store) = (Ledger::default(), StoreCounters::new("docs"));
        ledger.keep(store.counters());
        for operation in Operation::ALL {
            for status in Status::all() {
                store.call(*operation, status, Duration::ZERO);
            }
        }
        for count in Count::ALL {
            store.count(*count, 1);
        }
        for kind in Kind::ALL {
            store.forgave(*kind);
        }
        let totals = ledger.totals();
        let counted = totals["docs"].among(0..SIZE);
        assert!(counted.iter().all(|(_, total)| *total == 1));
        let totals = StoreTotals(&totals["docs"]);
        for operation in Operation::ALL {
            assert!(Status::all().all(|status| totals.calls(*operation, status) == 1));
            let calls = totals.histogram(*operation).iter().sum::<u64>();
            assert_eq!(calls, STATUSES as u64);
        }
        assert!(Count::ALL.iter().all(|count| totals.get(*count) == 1));
        assert!(Kind::ALL.iter().all(|kind| totals.forgiven(*kind) == 1));
    }
}
