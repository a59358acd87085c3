//! A Redis Cluster: its map, kept up to date, and the way of each command to the primary of its
//! slot.
//!
//! Nothing here is the redis crate's cluster client: over nodes of our own, direct connections, deadlines, what is
//! sent once and whose answers were lost are what they are with one server.

mod hash_slot;
mod map_refresh;
mod redirect;
pub(super) mod routing;
mod scan_cursor;
mod server_trust;
mod slot_map;
mod slot_migrations;
mod slots_reply;

pub(in crate::client) use map_refresh::Cluster;
