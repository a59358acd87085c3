//! Python values <-> JSON bytes, straight: no tree of values in between.
//!
//! What is accepted and what comes back is what Python's `json` module accepts and gives, with one
//! limit of our own: how deep a value may nest.

#[cfg(feature = "bench")]
pub mod bench_entry;
mod decode;
mod encode;
mod failure;
mod fields;
pub(super) mod loads;
mod python_str;
mod scratch_buffer;

pub(super) use decode::decode;
pub(super) use encode::encoded;
pub(super) use failure::Failure;
pub(super) use fields::{Projected, decode_fields};
