//! What `index_done_callback` waits for, by `redis_durability`.
//!
//! - [`barrier`]: one at a time, shared by all who arrive meanwhile; what was acknowledged before is looked at again
//! - [`acknowledged_writes`]: what that is
//! - [`barrier_connections`]: its own connections, one to each primary; [`wait`]: one of them, and WAIT; [`aof`]: the append-only file;
//!   [`bgsave`]: BGSAVE

pub(crate) mod acknowledged_writes;
mod aof;
mod barrier;
mod barrier_connections;
mod bgsave;
mod wait;

pub(super) use barrier::Barrier;
pub(crate) use barrier::UnderWay;
