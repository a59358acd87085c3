//! The registry of a namespace: a sorted set of its ids, kept beside it, so that listing, counting
//! and dropping them costs nothing for the keys of others.

pub(super) mod adopt_sweep_repair;
mod delete_marks;
pub(super) mod drift;
pub(super) mod listing;
mod sorted_set;

pub(super) use delete_marks::new_mark;
pub(super) use sorted_set::{Around, Registry, score_of};
