//! Who has which slots, as a server of the cluster tells it.

use std::sync::Arc;

use super::hash_slot::SLOTS;
use super::slots_reply::Range;
use crate::client::node::Node;
use crate::config::ServerConfig;
use crate::config::endpoint::Endpoint;

/// Stands for no primary.
const NOBODY: u16 = u16::MAX;

/// The primaries and their slots. Never changed: a new one takes its place.
#[derive(Clone)]
pub(super) struct SlotMap {
    /// Counts the maps there have been; 0 for the one before anybody was asked.
    pub(super) version: u32,
    /// Others too that slots are on their way to.
    nodes: Vec<Arc<Node>>,
    /// A number for each of the nodes that no other ever had, from 1.
    numbers: Vec<u32>,
    /// The highest number there has been.
    last_number: u32,
    /// For each slot, the place of its primary among the nodes.
    owners: Box<[u16]>,
    /// For each slot, the version in which it was given to that primary.
    given: Box<[u32]>,
    /// Where else to ask.
    replicas: Vec<Endpoint>,
}

impl SlotMap {
    pub(super) fn unknown() -> Self {
        Self {
            version: 0,
            nodes: Vec::new(),
            numbers: Vec::new(),
            last_number: 0,
            given: vec![0; SLOTS.into()].into(),
            owners: vec![NOBODY; SLOTS.into()].into(),
            replicas: Vec::new(),
        }
    }

    /// The map that follows this one. A server that was in it keeps its connections.
    pub(super) fn next(&self, config: &ServerConfig, ranges: Vec<Range>) -> Self {
        let mut next = Self {
            last_number: self.last_number,
            ..Self::unknown()
        };
        for (first, last, primary, replicas) in ranges {
            let owner = next.place(self, config, primary);
            for slot in first..=last.min(SLOTS - 1) {
                next.owners[usize::from(slot)] = owner;
            }
            next.replicas.extend(replicas);
        }
        next.replicas.sort_by_key(ToString::to_string);
        next.replicas.dedup();
        next.follow(self);
        next
    }

    /// Notes which slots were given to others since the map before.
    fn follow(&mut self, before: &Self) {
        self.version = before.version + 1;
        for slot in 0..SLOTS {
            let place = usize::from(slot);
            let same = match (self.owner(slot), before.owner(slot)) {
                (Some(now), Some(before)) => Arc::ptr_eq(now, before),
                (now, before) => now.is_none() && before.is_none(),
            };
            self.given[place] = if same {
                before.given[place]
            } else {
                self.version
            };
        }
    }

    /// The servers that are known, with their numbers.
    pub(super) fn numbered_nodes(&self) -> impl Iterator<Item = (u32, &Arc<Node>)> {
        self.numbers.iter().copied().zip(&self.nodes)
    }

    /// The highest number that a server has had.
    pub(super) fn last_number(&self) -> u32 {
        self.last_number
    }

    /// The primary of this number.
    pub(super) fn numbered(&self, number: u32) -> Option<&Arc<Node>> {
        let mut nodes = self.numbered_nodes();
        nodes
            .find(|(known, _)| *known == number)
            .map(|(_, node)| node)
    }

    /// This map with slots given to others, as servers say where they redirect.
    pub(super) fn moved(&self, config: &ServerConfig, slots: &[(u16, Endpoint)]) -> Self {
        let mut next = self.clone();
        for (slot, endpoint) in slots {
            let owner = next.place(self, config, endpoint.clone());
            if let Some(slot) = next.owners.get_mut(usize::from(*slot)) {
                *slot = owner;
            }
        }
        next.follow(self);
        next
    }

    /// The place of the primary at `endpoint`, which is made unless it is known.
    fn place(&mut self, before: &Self, config: &ServerConfig, endpoint: Endpoint) -> u16 {
        let place = self
            .nodes
            .iter()
            .position(|node| *node.endpoint() == endpoint);
        let place = place.unwrap_or_else(|| {
            let mut known = before.numbered_nodes();
            let known = known.find(|(_, node)| *node.endpoint() == endpoint);
            let (node, number) = if let Some((number, node)) = known {
                (Arc::clone(node), number)
            } else {
                self.last_number += 1;
                (Node::new(config.at(endpoint)), self.last_number)
            };
            self.nodes.push(node);
            self.numbers.push(number);
            self.nodes.len() - 1
        });
        u16::try_from(place).unwrap_or(NOBODY)
    }

    /// This map with a server that has no slot yet.
    pub(super) fn with(&self, config: &ServerConfig, endpoint: &Endpoint) -> (Self, Arc<Node>) {
        let mut next = self.clone();
        let place = next.place(self, config, endpoint.clone());
        let node = Arc::clone(&next.nodes[usize::from(place)]);
        (next, node)
    }

    /// The server at this place.
    pub(super) fn at(&self, endpoint: &Endpoint) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.endpoint() == endpoint)
    }

    pub(super) fn owner(&self, slot: u16) -> Option<&Arc<Node>> {
        let owner = self.owners.get(usize::from(slot))?;
        self.nodes.get(usize::from(*owner))
    }

    /// The number of a slot's primary.
    pub(super) fn number_of_owner(&self, slot: u16) -> Option<u32> {
        let owner = self.owners.get(usize::from(slot))?;
        self.numbers.get(usize::from(*owner)).copied()
    }

    /// Whether this server has any.
    pub(super) fn has_slots(&self, node: &Arc<Node>) -> bool {
        self.primaries()
            .iter()
            .any(|known| Arc::ptr_eq(known, node))
    }

    /// Those of the servers that have slots.
    pub(super) fn primaries(&self) -> Vec<Arc<Node>> {
        let mut has_slots = vec![false; self.nodes.len()];
        for owner in &self.owners {
            if let Some(has_slots) = has_slots.get_mut(usize::from(*owner)) {
                *has_slots = true;
            }
        }
        let nodes = self.nodes.iter().zip(has_slots);
        nodes
            .filter(|(_, has)| *has)
            .map(|(node, _)| Arc::clone(node))
            .collect()
    }

    /// The servers that are known, of which those that slots are on their way to have none yet.
    pub(super) fn nodes(&self) -> &[Arc<Node>] {
        &self.nodes
    }

    pub(super) fn replicas(&self) -> &[Endpoint] {
        &self.replicas
    }

    /// Whether all slots are still where the map before this one has them.
    pub(super) fn changes_nothing(&self) -> bool {
        self.given.iter().all(|given| *given < self.version)
    }
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;
    use crate::client::topology::cluster::slots_reply::read;
    use crate::client::topology::cluster::slots_reply::tests::{server, text};

    #[test]
    fn a_map_is_read_whatever_the_servers_know_of_their_names() {
        let asked = Endpoint::parse("redis://seed:1").unwrap();
        let reply = Value::Array(vec![
            Value::Array(vec![
                Value::Int(0),
                Value::Int(9),
                server(text(""), 1),
                server(text("r"), 4),
            ]),
            Value::Array(vec![Value::Int(10), Value::Int(19), server(Value::Nil, 2)]),
            Value::Array(vec![
                Value::Int(20),
                Value::Int(16383),
                server(text("?"), 3),
            ]),
        ]);
        let config = ServerConfig::new("redis://seed:1").unwrap();
        let map = SlotMap::unknown().next(&config, read(reply, &asked).unwrap());
        let at = |slot| map.owner(slot).unwrap().endpoint().to_string();
        assert_eq!(at(9), "redis://seed:1/0");
        assert_eq!(at(10), "redis://seed:2/0");
        assert_eq!(at(16383), "redis://seed:3/0");
        assert_eq!((map.nodes().len(), map.replicas().len()), (3, 1));
        let moved = map.moved(&config, &[(9, asked.neighbour("new", 5).unwrap())]);
        assert_eq!(
            moved.owner(9).unwrap().endpoint().to_string(),
            "redis://new:5/0"
        );
        assert!(Arc::ptr_eq(moved.owner(8).unwrap(), map.owner(8).unwrap()));
        assert!(!moved.changes_nothing() && !map.changes_nothing());
        assert!(map.moved(&config, &[]).changes_nothing());
        let another = (0, 9, asked.neighbour("another", 6).unwrap(), Vec::new());
        assert_eq!(
            moved.next(&config, vec![another]).number_of_owner(9),
            Some(5)
        );
        assert_eq!(moved.number_of_owner(9), Some(4));
        assert!(!map.has_slots(moved.owner(9).unwrap()));
        assert!(Arc::ptr_eq(
            moved.numbered(4).unwrap(),
            moved.owner(9).unwrap()
        ));
    }

    #[test]
    fn a_map_names_each_server_by_place_and_number_and_knows_which_have_slots() {
        let config = ServerConfig::new("redis://seed:1").unwrap();
        let at = |port| config.endpoint.neighbour("", port).unwrap();
        let (half, beyond) = (SLOTS / 2, u16::MAX);
        let ranges = vec![
            (0, half - 1, at(1), Vec::new()),
            (half, beyond, at(2), Vec::new()),
        ];
        let map = SlotMap::unknown().next(&config, ranges);
        assert_eq!(
            (SlotMap::unknown().last_number(), map.last_number()),
            (0, 2)
        );
        let numbers = [0, half - 1, half, SLOTS - 1, SLOTS, beyond];
        assert_eq!(
            numbers.map(|slot| map.number_of_owner(slot)),
            [Some(1), Some(1), Some(2), Some(2), None, None]
        );
        let (with, guest) = map.with(&config, &at(3));
        assert!(map.at(&at(3)).is_none());
        assert!(Arc::ptr_eq(with.at(&at(3)).unwrap(), &guest));
        assert_eq!(with.last_number(), 3);
        for (port, has_slots) in [(1, true), (2, true), (3, false)] {
            assert_eq!(with.has_slots(with.at(&at(port)).unwrap()), has_slots);
        }
    }
}
