//! The registry of a namespace: a sorted set of its ids, kept beside it, so that listing, counting
//! and dropping them costs nothing for the keys of others.

pub(super) mod drift;
pub(super) mod listing;
pub(super) mod maintenance;
mod sorted_set;

pub(super) use sorted_set::{Around, Registry, new_mark, score_of};
