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
