//! Python values <-> JSON bytes, straight: no tree of values in between.
//!
//! What is accepted and what comes back is what Python's `json` module accepts and gives, with one
//! limit of our own: [`MAX_DEPTH`].

mod decode;
mod encode;
mod keys;

pub(super) use decode::decode;
pub(super) use encode::encode;

/// Levels of nesting a value may have: what `json` itself survives on every Python.
const MAX_DEPTH: usize = 900;
