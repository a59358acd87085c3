//! Stored bytes <-> JSON bytes: the size cap, and the frames a stored value may be wrapped in, without holding up the
//! threads that drive the sockets.

mod compression;
mod frame_errors;
mod lz4;
mod size_cap;
mod zstd;

pub use compression::{Codec, Compression, MIN_BYTES, aside};
pub use size_cap::{admit, open, too_large};
