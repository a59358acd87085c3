//! The Redis key-value backend of nano-graphrag: the core, and the Python binding over it.
//!
//! In layer order; imports point down this list, and `tests_py/test_layers.py` sees to it:
//!
//! - `python`: the binding, feature `python`: classes, operations, the bridge to event loops, the JSON codec
//! - [`migration`]: long work between the host's files and the server, a step at a time
//! - [`store`]: [`KvStore`](store::KvStore), the host's contract over bytes: one file an operation or feature
//! - [`client`]: a Redis client for this job: bytes in, replies out; it knows no JSON, no host and no Python
//! - [`near_cache`]: local copies of values, kept right by the server's own invalidation
//! - [`local_single_flight`]: of several tasks that miss one id at once, one makes the value and the others wait
//! - [`log_events`]: lines for the log, kept until someone who can write one comes by
//! - [`metrics`]: what is counted, and the sums over what is closed by now
//! - [`config`]: validated settings, named defaults with units; endpoints, levels of durability
//! - [`value`]: stored bytes <-> JSON bytes: size caps, zstd and LZ4 frames
//! - [`key_layout`]: ids <-> Redis keys
//! - [`files`]: the host's own files, read and written in a stream; the change log beside them
//! - `json`: the grammar of JSON, and documents written anew
//! - `panics`: panics of libraries that are errors to us
//! - `memory`: memory of a value's size, which may be refused
//! - `stack`: what is left of a thread's stack, and a larger one for work that needs more
//! - `fuzz`: inputs of a corpus, mutated; in tests only
//! - [`error`]: the error, its kinds, and the one place that classifies a redis error
//! - `enumeration`: enumerations whose variants are listed once
//! - `mutex`: locks that outlive a panic
//! - [`printable`]: text as it may be shown, whoever wrote it
//!
//! All but `python` builds and tests without Python: `cargo test --no-default-features`.

pub mod client;
pub mod config;
mod enumeration;
pub mod error;
pub mod files;
#[cfg(test)]
mod fuzz;
mod json;
pub mod key_layout;
pub mod local_single_flight;
pub mod log_events;
mod memory;
pub mod metrics;
pub mod migration;
mod mutex;
pub mod near_cache;
#[cfg(feature = "python")]
mod panics;
pub mod printable;
#[cfg(feature = "python")]
mod python;
mod stack;
pub mod store;
pub mod value;

// One program for `make mutants`, which starts it thousands of times.
#[cfg(all(test, mutants))]
extern crate self as nano_graphrag_redis;
#[cfg(all(test, mutants))]
#[path = "../tests"]
mod contract {
    #[path = "contract/main.rs"]
    mod main;
}

#[cfg(feature = "bench")]
#[doc(hidden)]
pub use python::codec;
