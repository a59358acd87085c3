//! The histogram of how long calls took: its bounds, and the bucket of a call.

/// Upper bounds of the histogram of durations, in nanoseconds; a longer call is in none.
pub const BUCKETS: [u64; 17] = [
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    10_000_000_000,
];

/// Buckets, with that of what is longer than every bound.
pub(super) const HISTOGRAM: usize = BUCKETS.len() + 1;

/// The bucket of a call that took so long: the first whose bound is not below.
pub(super) fn bucket_of(nanoseconds: u64) -> usize {
    BUCKETS.partition_point(|bound| *bound < nanoseconds)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::error::Kind;
    use crate::metrics::{Ledger, Operation, Status, StoreCounters, StoreTotals};

    #[test]
    fn a_call_is_in_the_first_bucket_that_it_fits() {
        let (ledger, store) = (Ledger::default(), StoreCounters::new("docs"));
        ledger.keep(store.counters());
        for nanoseconds in [1, 25_000, 25_001, 10_000_000_000, 10_000_000_001] {
            let took = Duration::from_nanos(nanoseconds);
            store.call(Operation::GetKey, Status::Failed(Kind::Closed), took);
        }
        let totals = ledger.totals();
        let totals = StoreTotals(&totals["docs"]);
        let mut histogram = [0; BUCKETS.len() + 1];
        (histogram[0], histogram[1]) = (2, 1);
        (histogram[BUCKETS.len() - 1], histogram[BUCKETS.len()]) = (1, 1);
        assert_eq!(totals.histogram(Operation::GetKey), histogram);
        assert_eq!(
            totals.took(Operation::GetKey),
            Duration::from_nanos(20_000_050_003)
        );
        assert_eq!(
            totals.calls(Operation::GetKey, Status::Failed(Kind::Closed)),
            5
        );
    }
}
