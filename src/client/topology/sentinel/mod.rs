//! Sentinels: they say which server is the master, and this keeps to it.

mod current_master;
mod discovery;
mod one_sentinel;

pub(in crate::client) use current_master::{Sentinels, cursor, disowned, place};
