//! The core on real servers and without Python: the contract that `tests_py/contract` holds the package to, and what only
//! the core's own caller can see. One program, since each takes as long to link as the core.

#![allow(clippy::unwrap_used, reason = "a test that meets an error ends there")]

mod barriers;
mod cluster;
mod connections;
mod files;
mod registry;
mod replacing;
mod sentinels;
mod settings;
mod single_flight;
mod store;
mod support;
