//! A walk over all keys of a cluster by SCAN, one page at a time, its place told by one number.
//!
//! A cursor of SCAN means something to the server that gave it alone. So a walk goes over one
//! primary after the other; where a primary is gone by then, or slots have changed hands since the
//! walk began, who has them now is walked over in another round. A key that was there throughout
//! is met, most of them once.

use std::sync::Arc;

use super::Cluster;
use super::map::Map;
use crate::connection::node::Node;
use crate::error::Result;

/// Bits of a place for the number of a node, and for the version of a map. A process that has seen
/// more of them loses its way: it would take four million changes of the map.
const NODE_BITS: u32 = 20;
const VERSION_BITS: u32 = 22;

/// Where a walk is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::connection) struct Place {
    /// The server's own cursor.
    pub(in crate::connection) cursor: u64,
    node: u32,
    /// The map when the round began, and when the one before it did: only what has changed hands
    /// in between is walked over. 0 in the first round, which is over everything.
    began: u32,
    since: u32,
}

impl Place {
    fn unpack(packed: u128) -> Self {
        let bits = |shift: u32, bits: u32| {
            let mask = (1_u128 << bits) - 1;
            u32::try_from((packed >> shift) & mask).unwrap_or(0)
        };
        Self {
            #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
            cursor: packed as u64,
            node: bits(64, NODE_BITS),
            began: bits(64 + NODE_BITS, VERSION_BITS),
            since: bits(64 + NODE_BITS + VERSION_BITS, VERSION_BITS),
        }
    }

    fn pack(self) -> u128 {
        let part =
            |number: u32, shift: u32, bits: u32| (u128::from(number) & ((1 << bits) - 1)) << shift;
        u128::from(self.cursor)
            | part(self.node, 64, NODE_BITS)
            | part(self.began, 64 + NODE_BITS, VERSION_BITS)
            | part(self.since, 64 + NODE_BITS + VERSION_BITS, VERSION_BITS)
    }
}

impl Cluster {
    /// Where a walk is that was told this number, and the server there. None: it has gone.
    pub(in crate::connection) async fn place(
        self: &Arc<Self>,
        packed: u128,
    ) -> Result<(Place, Option<Arc<Node>>)> {
        let mut place = Place::unpack(packed);
        if packed == 0 {
            // What one server says of all, now: what changes from here on is seen to later.
            self.look().await?;
            let map = self.known();
            place.began = map.version;
            place.node = map.after(0, 0).unwrap_or(0);
        }
        let node = self.known().numbered(place.node).cloned();
        Ok((place, node))
    }

    /// Whether this server has no slot any more, by what the others say now.
    pub(in crate::connection) async fn has_lost(
        self: &Arc<Self>,
        node: &Arc<Node>,
    ) -> Result<bool> {
        self.look().await?;
        let map = self.known();
        Ok(map.nodes().iter().all(|known| !Arc::ptr_eq(known, node)))
    }

    /// The number of the place that comes after this one, whose server has given this cursor; 0 at
    /// the end.
    pub(in crate::connection) async fn next(
        self: &Arc<Self>,
        place: Place,
        cursor: u64,
    ) -> Result<u128> {
        if cursor != 0 {
            return Ok(Place { cursor, ..place }.pack());
        }
        let at = |node, began, since| {
            Place {
                cursor: 0,
                node,
                began,
                since,
            }
            .pack()
        };
        if let Some(node) = self.known().after(place.node, place.since) {
            return Ok(at(node, place.began, place.since));
        }
        self.look().await?;
        let map = self.known();
        let another = map.after(0, place.began);
        Ok(another.map_or(0, |node| at(node, map.version, place.began)))
    }
}

impl Map {
    /// The number of the first primary beyond `number` that has got a slot after version `since`.
    fn after(&self, number: u32, since: u32) -> Option<u32> {
        let owners = self.given_since(since);
        owners.filter(|&owner| owner > number).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_by_a_number_whatever_the_servers_cursor_is() {
        for cursor in [0, 1, u64::MAX] {
            let place = Place {
                cursor,
                node: 7,
                began: 3_000_000,
                since: 12,
            };
            assert_eq!(Place::unpack(place.pack()), place);
        }
    }
}
