//! The Redis key-value backend of nano-graphrag: the core, and the Python binding over it.
//!
//! In layer order; imports point down this list:
//!
//! - `python`: the binding, feature `python`: pyclasses, the bridge to event loops, the JSON codec
//! - [`migration`]: long work between files and the server, a step at a time
//! - [`store`]: [`KvStore`](store::KvStore), the storage contract over bytes
//! - `first_use`: what is looked at once and told in the log
//! - [`outage`]: what a failure means to the caller: raised, or a counted miss
//! - [`connection`]: one handle over the servers: pool, deadlines, retries, breaker, tracking
//! - [`single_flight`]: who of this process waits for whose answer to the same miss
//! - [`near_cache`]: local copies of values, kept right by the server's own invalidation
//! - [`notices`]: lines for the log, kept until someone who can write one comes by
//! - [`metrics`]: what is counted, and the sums over what is closed by now
//! - [`config`]: validated settings, named defaults with units
//! - [`durability`]: what a barrier waits for, and what no barrier has passed yet
//! - [`endpoint`]: where a server is
//! - [`value`]: stored bytes <-> JSON bytes: size caps, zstd and LZ4 frames
//! - [`keyspace`]: ids <-> Redis keys
//! - [`json_files`]: the host's own files, read and written in a stream
//! - `json_text`: the grammar of JSON, and documents written anew
//! - `stack`: what is left of a thread's stack, and a larger one for work that needs more
//! - `fuzz`: inputs of a corpus, mutated; in tests only
//! - [`error`]: the error, its kinds, and the one place that classifies a redis error
//! - [`visible`]: text as it may be shown, whoever wrote it
//!
//! All but `python` builds and tests without Python: `cargo test --no-default-features`.

pub mod config;
pub mod connection;
pub mod durability;
pub mod endpoint;
pub mod error;
mod first_use;
#[cfg(test)]
mod fuzz;
pub mod json_files;
mod json_text;
pub mod keyspace;
pub mod metrics;
pub mod migration;
pub mod near_cache;
pub mod notices;
pub mod outage;
#[cfg(feature = "python")]
mod python;
#[cfg(feature = "bench")]
#[doc(hidden)]
pub use python::codec;
pub mod single_flight;
mod stack;
pub mod store;
pub mod value;
pub mod visible;
