//! Dual writing: what the server has confirmed goes into a log beside the host's file, and from time
//! to time the log is compacted into the file.

pub(super) mod compaction;
mod lock_patience;
mod log_writes;
pub(super) mod reads_in_outage;

pub(super) use log_writes::DualWrite;
pub use log_writes::DualWriteStats;
