//! Where the commands of a request go, and what the servers say of where they are to go instead.

use std::sync::Arc;

use bytes::Bytes;
use redis::Value;

use super::Cluster;
use super::hash_slot::{key_of, slot_of};
use super::redirect::Redirect;
use crate::client::Reply;
use crate::client::node::Node;
use crate::client::protocol::resp_parser;
use crate::client::topology::{Command, Meaning, Route};
use crate::error::{Error, Kind, Result};

/// The commands of the wire, each with the slot of its key.
pub(in crate::client) fn commands(wire: &Bytes) -> impl Iterator<Item = Command> {
    resp_parser::commands(wire).map(|(place, words)| Command {
        wire: wire.slice(place),
        slot: key_of(&words).map(slot_of),
    })
}

impl Cluster {
    /// The primary of these commands' slots; several primaries part them.
    pub(in crate::client) async fn route(
        self: &Arc<Self>,
        commands: impl Iterator<Item = &Command>,
    ) -> Result<Route> {
        if self.entry.breaker.is_open() {
            return Err(self.entry.refused());
        }
        let map = self.map().await?;
        let mut owners: Vec<(Option<&Arc<Node>>, Vec<usize>)> = Vec::new();
        for (place, command) in commands.enumerate() {
            let owner = match command.slot {
                Some(slot) => map.owner(slot),
                None => map.nodes().first(),
            };
            let same = |known: Option<&Arc<Node>>| known.map(Arc::as_ptr) == owner.map(Arc::as_ptr);
            match owners.iter_mut().find(|(known, _)| same(*known)) {
                Some((_, places)) => places.push(place),
                None => owners.push((owner, vec![place])),
            }
        }
        if let [(owner, _)] = *owners {
            if owner.is_none_or(|owner| owner.breaker.is_open()) {
                self.refresh_soon();
            }
            return Ok(match owner {
                Some(owner) => Route::To(Arc::clone(owner)),
                None => Route::Nowhere(self.unserved()),
            });
        }
        let places = owners.into_iter().map(|(_, places)| places);
        Ok(Route::Split(places.collect()))
    }

    /// What those replies mean that are none, by the places of the commands that were not executed.
    pub(in crate::client) fn meanings(
        self: &Arc<Self>,
        node: &Node,
        replies: &[Reply],
    ) -> Vec<(Meaning, Vec<usize>)> {
        let (mut moved, mut elsewhere, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let mut asked: Vec<(Arc<Node>, Vec<usize>)> = Vec::new();
        for (place, reply) in replies.iter().enumerate() {
            match Redirect::read(reply, node.endpoint()) {
                None => {}
                Some(Redirect::Moved(slot, endpoint)) => {
                    moved.push((slot, endpoint));
                    elsewhere.push(place);
                }
                Some(Redirect::Ask(endpoint)) => {
                    let node = self.at(&endpoint);
                    match asked
                        .iter_mut()
                        .find(|(known, _)| Arc::ptr_eq(known, &node))
                    {
                        Some((_, places)) => places.push(place),
                        None => asked.push((node, vec![place])),
                    }
                }
                Some(Redirect::Wait) => later.push(place),
            }
        }
        if !moved.is_empty() {
            self.moved(&moved);
        }
        if !later.is_empty() {
            if later.iter().any(|place| is_down(&replies[*place])) {
                self.suspect(node);
            }
            self.refresh_soon();
        }
        let asked = asked.into_iter().map(|(node, places)| (Some(node), places));
        let elsewhere = asked.chain([(None, elsewhere)]);
        let elsewhere = elsewhere
            .map(|(node, places)| (Meaning::Elsewhere(node, self.disagreed()), places))
            .chain([(Meaning::Later, later)]);
        elsewhere.filter(|(_, places)| !places.is_empty()).collect()
    }

    fn disagreed(&self) -> Error {
        let message = format!(
            "{}: not done, since the servers of the cluster sent it to and fro for as long as redis_operation_timeout; see CLUSTER NODES on each, they disagree on who has a slot",
            self.entry().endpoint()
        );
        Error::new(Kind::Unavailable, message)
    }

    fn unserved(&self) -> Error {
        let message = format!(
            "{}: no server of the cluster has this slot; see CLUSTER INFO, and give the slots that are without a primary one",
            self.entry().endpoint()
        );
        Error::new(Kind::Unavailable, message)
    }
}

/// Whether the cluster is down for the server that gave this answer.
fn is_down(reply: &Reply) -> bool {
    matches!(reply, Reply::Other(Value::ServerError(error)) if error.code() == "CLUSTERDOWN")
}

#[cfg(test)]
mod tests {
    use super::super::map_refresh::tests::{halved, place};
    use super::*;

    fn command(slot: Option<u16>) -> Command {
        Command {
            wire: Bytes::new(),
            slot,
        }
    }

    fn said(text: &str) -> Reply {
        let text = format!("-{text}\r\n");
        Reply::from(redis::parse_redis_value(text.as_bytes()).unwrap())
    }

    #[tokio::test]
    async fn commands_part_where_their_slots_are_at_different_servers_and_else_stay_together() {
        let cluster = halved();
        for (slots, expected) in [
            (vec![Some(0), Some(8_191), None], Ok("one")),
            (vec![Some(8_192), Some(16_383)], Ok("two")),
            (
                vec![Some(9_000), Some(1), Some(9_001), None, Some(2)],
                Err(vec![vec![0, 2], vec![1, 3, 4]]),
            ),
        ] {
            let commands: Vec<_> = slots.into_iter().map(command).collect();
            match (cluster.route(commands.iter()).await.unwrap(), expected) {
                (Route::To(node), Ok(name)) => assert_eq!(*node.endpoint(), place(name)),
                (Route::Split(places), Err(expected)) => assert_eq!(places, expected),
                (_, expected) => panic!("they are to go otherwise: {expected:?}"),
            }
        }
    }

    #[tokio::test]
    async fn a_server_for_which_the_cluster_is_down_is_suspected_and_one_that_is_busy_is_not() {
        for (codes, is_suspected) in [
            (vec!["TRYAGAIN wait"], false),
            (vec!["ERR no", "WRONGTYPE no"], false),
            (vec!["CLUSTERDOWN no"], true),
            (vec!["TRYAGAIN wait", "ERR no", "CLUSTERDOWN no"], true),
        ] {
            let cluster = halved();
            let one = Arc::clone(&cluster.nodes()[0]);
            let replies: Vec<_> = codes.iter().map(|code| said(code)).collect();
            let meanings = cluster.meanings(&one, &replies);
            let later = meanings.into_iter().flat_map(|(meaning, places)| {
                assert!(matches!(meaning, Meaning::Later));
                places
            });
            let waits =
                |place: &usize| !codes[*place].ends_with(" no") || is_down(&replies[*place]);
            let expected: Vec<_> = (0..codes.len()).filter(waits).collect();
            assert_eq!(later.collect::<Vec<_>>(), expected);
            let suspected = cluster.suspected.lock().contains(one.endpoint());
            assert_eq!(suspected, is_suspected, "{codes:?}");
        }
    }

    #[tokio::test]
    async fn the_map_learns_where_slots_have_moved_from_who_had_them() {
        let redis = |port: u16| {
            crate::config::endpoint::Endpoint::parse(&format!("redis://h:{port}")).unwrap()
        };
        let mut config = super::super::map_refresh::tests::config();
        config.endpoint = redis(1);
        let cluster = Cluster::new(&config);
        let one = cluster.at(&redis(1));
        let replies = [
            "MOVED 7 h:2",
            "ERR no",
            "ASK 8 h:3",
            "MOVED 9 h:2",
            "ASK 8 h:3",
        ]
        .map(said);
        let meanings = cluster.meanings(&one, &replies);
        let mut found: Vec<_> = meanings
            .into_iter()
            .map(|(meaning, places)| {
                let Meaning::Elsewhere(node, _) = meaning else {
                    panic!("they are to go elsewhere");
                };
                (node.map(|node| node.endpoint().clone()), places)
            })
            .collect();
        found.sort_by_key(|(_, places)| places[0]);
        assert_eq!(found, [(None, vec![0, 3]), (Some(redis(3)), vec![2, 4])]);
        let known = cluster.known();
        let owner = |slot| known.owner(slot).map(|node| node.endpoint().clone());
        assert_eq!([7, 8, 9].map(owner), [Some(redis(2)), None, Some(redis(2))]);
    }
}
