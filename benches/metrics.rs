//! What counting a call costs: `cargo bench --no-default-features --bench metrics`.

use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;

use nano_graphrag_redis::client::SharedConnections;
use nano_graphrag_redis::config::{ServerConfig, StoreConfig};
use nano_graphrag_redis::error::Result;
use nano_graphrag_redis::metrics::{Direction, Operation, Status};
use nano_graphrag_redis::store::{Call, KvStore};

const ROUNDS: usize = 11;
const CALLS: u32 = 200_000;

fn main() -> Result<()> {
    let shared = SharedConnections::default();
    let config = StoreConfig::new(ServerConfig::new("redis://localhost")?, "docs")?;
    let store = KvStore::new(config, &shared);
    let counted = median(|| {
        let call = Call::begin(Arc::clone(&store), Operation::GetById);
        call.counters().moved(Direction::Read, 4700, 4700);
        call.counters().found(true);
        call.end(Status::Ok);
        black_box(call);
    });
    let bare = median(|| drop(black_box(Arc::clone(&store))));
    println!("a read, counted: {counted:.0} ns; the same without: {bare:.0} ns");
    Ok(())
}

/// Nanoseconds of one call, of the median round.
fn median(call: impl Fn()) -> f64 {
    let mut rounds = [0.0; ROUNDS];
    for round in &mut rounds {
        let began = Instant::now();
        for _ in 0..CALLS {
            call();
        }
        *round = began.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS);
    }
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}
