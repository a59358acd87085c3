//! The classes and functions that Python sees, and what crosses the boundary with them.

pub(super) mod file_work;
pub(super) mod kv_store;
pub(super) mod metrics_dict;
pub(super) mod settings_dict;
pub(super) mod stats_dict;
