//! A request's commands on their ways to the primaries of their slots, and their answers' way back.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use redis::Value;
use tokio::time::sleep;

use super::Cluster;
use super::hash_slot::{key_of, slot_of};
use super::redirect::Redirect;
use crate::client::node::{FailedAttempt, Node};
use crate::client::protocol::request::Request;
use crate::client::protocol::resp;
use crate::client::retry::RetryState;
use crate::client::{Connections, Reply};
use crate::error::{Error, Kind, Result};

/// Bytes of a command from which it is not copied to be sent beside others.
const LARGE: usize = 16 * 1024;

/// Commands of one part of a request, by their places in it, and how they have fared so far.
struct Group<'config> {
    commands: Vec<usize>,
    retry_state: RetryState<'config>,
    /// Where a server has sent them for this once.
    asked: Option<Arc<Node>>,
}

impl Group<'_> {
    /// How many answers there are to each of its commands: one comes before it, to its ASKING.
    fn answers_each(&self) -> usize {
        if self.asked.is_some() { 2 } else { 1 }
    }
}

/// A group's next step, and what it has come to.
enum Step<'config> {
    Wait(Duration, Group<'config>),
    Send(Arc<Node>, Request, Group<'config>),
}

enum Event<'config> {
    Waited(Group<'config>),
    Answered(Arc<Node>, Group<'config>, Result<Vec<Reply>, FailedAttempt>),
}

async fn take(step: Step<'_>) -> Event<'_> {
    match step {
        Step::Wait(pause, group) => {
            if !pause.is_zero() {
                sleep(pause).await;
            }
            Event::Waited(group)
        }
        Step::Send(node, request, group) => {
            let outcome = node.attempt(&request, group.retry_state.deadline).await;
            Event::Answered(node, group, outcome)
        }
    }
}

/// A command as bytes of the wire, and the slot of its key.
struct Command {
    wire: Bytes,
    slot: Option<u16>,
}

impl Cluster {
    /// Sends each command to where its key is, and waits for the answers. A part of the request
    /// leaves when the one before it was answered.
    pub(in crate::client) async fn send(
        self: &Arc<Self>,
        connections: &Arc<Connections>,
        request: &Request,
    ) -> Result<Vec<Reply>> {
        let retry_state = RetryState::new(&self.config);
        let mut replies = Vec::with_capacity(request.replies);
        for wire in &request.wire {
            let part = Part {
                cluster: self,
                connections,
                commands: commands(wire),
                wire,
                resendable: request.resendable,
            };
            let (answered, lost) = part.send(retry_state.clone()).await;
            replies.extend(answered);
            if let Some(error) = lost {
                // What has to come after this part does not come.
                replies.resize(request.replies, Reply::Lost(error));
                break;
            }
        }
        match all_lost(&replies) {
            Some(error) => Err(error.clone()),
            None => Ok(replies),
        }
    }
}

fn commands(wire: &Bytes) -> Vec<Command> {
    let commands = resp::commands(wire);
    let commands = commands.map(|(place, words)| Command {
        wire: wire.slice(place),
        slot: key_of(&words).map(slot_of),
    });
    commands.collect()
}

struct Part<'request> {
    cluster: &'request Arc<Cluster>,
    connections: &'request Arc<Connections>,
    commands: Vec<Command>,
    wire: &'request Bytes,
    resendable: bool,
}

impl<'request> Part<'request> {
    /// The answers, and the reason if none of them was received.
    async fn send(&self, retry_state: RetryState<'request>) -> (Vec<Reply>, Option<Error>) {
        let mut replies: Vec<Option<Reply>> = vec![None; self.commands.len()];
        let mut under_way = FuturesUnordered::new();
        let all = Group {
            commands: (0..self.commands.len()).collect(),
            retry_state,
            asked: None,
        };
        let mut steps = self.steps(all, &mut replies).await;
        loop {
            under_way.extend(steps.into_iter().map(take));
            let Some(event) = under_way.next().await else {
                break;
            };
            steps = match event {
                Event::Waited(group) => self.steps(group, &mut replies).await,
                Event::Answered(node, group, Ok(received)) => {
                    node.answered();
                    self.settle(&node, group, received, &mut replies)
                }
                Event::Answered(node, group, Err(failed)) => {
                    self.resume(&node, group, &failed, &mut replies)
                }
            };
        }
        let replies = replies.into_iter().map(Option::unwrap_or_default);
        let replies = replies.collect::<Vec<_>>();
        let lost = all_lost(&replies).cloned();
        (replies, lost)
    }

    /// Sends the commands of a group again whose attempt failed, where that is allowed.
    fn resume(
        &self,
        node: &Arc<Node>,
        mut group: Group<'request>,
        failed: &FailedAttempt,
        replies: &mut [Option<Reply>],
    ) -> Vec<Step<'request>> {
        self.cluster.refresh_soon();
        let every = group.answers_each();
        let received = failed.replies.iter().skip(every - 1).step_by(every);
        for (&command, reply) in group.commands.iter().zip(received) {
            replies[command] = Some(reply.clone());
        }
        if let Some(pause) = group.retry_state.pause_after(self.resendable, failed) {
            self.connections.count_retry();
            group.asked = None;
            return vec![Step::Wait(pause, group)];
        }
        let retry_state = &group.retry_state;
        let error = retry_state.give_up(&node.config, self.resendable, failed);
        self.connections.count_failure(node, error.is_outage());
        lose(&group, &error, replies);
        Vec::new()
    }

    /// Sends the commands of a group on: those for one server together.
    async fn steps(
        &self,
        mut group: Group<'request>,
        replies: &mut [Option<Reply>],
    ) -> Vec<Step<'request>> {
        if let Some(node) = group.asked.clone() {
            return vec![Step::Send(node, self.request(&group), group)];
        }
        let entry = self.cluster.entry();
        if entry.breaker.is_open() {
            lose(&group, &entry.refused(), replies);
            return Vec::new();
        }
        let map = match self.cluster.map().await {
            Ok(map) => map,
            Err(error) => {
                if let Some(pause) = group.retry_state.pause_after_failure(error.is_outage()) {
                    self.connections.count_retry();
                    return vec![Step::Wait(pause, group)];
                }
                self.connections.count_failure(entry, error.is_outage());
                lose(&group, &error, replies);
                return Vec::new();
            }
        };
        let mut nodes: Vec<(Option<&Arc<Node>>, Vec<usize>)> = Vec::new();
        for command in group.commands {
            let node = match self.commands[command].slot {
                Some(slot) => map.owner(slot),
                None => map.nodes().first(),
            };
            let same = |known: Option<&Arc<Node>>| known.map(Arc::as_ptr) == node.map(Arc::as_ptr);
            match nodes.iter_mut().find(|(known, _)| same(*known)) {
                Some((_, commands)) => commands.push(command),
                None => nodes.push((node, vec![command])),
            }
        }
        let mut steps = Vec::with_capacity(nodes.len());
        for (node, commands) in nodes {
            let mut group = Group {
                commands,
                retry_state: group.retry_state.clone(),
                asked: None,
            };
            match node {
                Some(node) if node.breaker.is_open() => {
                    self.cluster.refresh_soon();
                    lose(&group, &node.refused(), replies);
                }
                Some(node) => {
                    steps.push(Step::Send(Arc::clone(node), self.request(&group), group));
                }
                None => {
                    self.cluster.refresh_soon();
                    match group.retry_state.pause_unless_over() {
                        Some(pause) => steps.push(Step::Wait(pause, group)),
                        None => lose(&group, &self.unserved(), replies),
                    }
                }
            }
        }
        steps
    }

    /// Notes answers; what was not executed goes on its way again.
    fn settle(
        &self,
        node: &Arc<Node>,
        group: Group<'request>,
        received: Vec<Reply>,
        replies: &mut [Option<Reply>],
    ) -> Vec<Step<'request>> {
        let every = group.answers_each();
        let received = received.into_iter().skip(every - 1).step_by(every);
        let (mut moved, mut elsewhere, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let mut asked: Vec<(Arc<Node>, Vec<usize>)> = Vec::new();
        for (command, reply) in group.commands.into_iter().zip(received) {
            match Redirect::read(&reply, node.endpoint()) {
                None => {}
                Some(Redirect::Moved(slot, endpoint)) => {
                    moved.push((slot, endpoint));
                    elsewhere.push(command);
                }
                Some(Redirect::Ask(endpoint)) => {
                    let node = self.cluster.at(&endpoint);
                    match asked
                        .iter_mut()
                        .find(|(known, _)| Arc::ptr_eq(known, &node))
                    {
                        Some((_, commands)) => commands.push(command),
                        None => asked.push((node, vec![command])),
                    }
                }
                Some(Redirect::Wait) => later.push(command),
            }
            replies[command] = Some(group.retry_state.answered(reply));
        }
        if !moved.is_empty() {
            self.cluster.moved(&moved);
        }
        if !later.is_empty() {
            let mut said = later
                .iter()
                .filter_map(|&command| replies[command].as_ref());
            if said.any(is_down) {
                self.cluster.suspect(node);
            }
            self.cluster.refresh_soon();
        }
        let mut steps = Vec::new();
        let asked = asked
            .into_iter()
            .map(|(node, commands)| (Some(node), commands, false));
        for (asked, commands, waits) in asked.chain([(None, elsewhere, false), (None, later, true)])
        {
            if commands.is_empty() {
                continue;
            }
            let mut retry_state = group.retry_state.clone();
            let pause = if waits {
                retry_state.pause_unless_over()
            } else {
                retry_state.pause_after_redirect()
            };
            let group = Group {
                commands,
                retry_state,
                asked,
            };
            match pause {
                Some(pause) => {
                    self.connections.count_retry();
                    steps.push(Step::Wait(pause, group));
                }
                None if waits => {} // without time left, what the server said is the answer
                None => lose(&group, &self.disagreed(), replies),
            }
        }
        steps
    }

    /// The commands of a group as a request of their own.
    fn request(&self, group: &Group<'_>) -> Request {
        let asking = group.asked.is_some();
        let whole = !asking && group.commands.len() == self.commands.len();
        let wire = if whole {
            vec![self.wire.clone()]
        } else {
            joined(
                group
                    .commands
                    .iter()
                    .map(|&command| &self.commands[command].wire),
                asking,
            )
        };
        Request {
            wire,
            replies: group.commands.len() * group.answers_each(),
            resendable: self.resendable,
            writes: false,
        }
    }

    fn disagreed(&self) -> Error {
        let message = format!(
            "{}: not done, since the servers of the cluster sent it to and fro for as long as redis_operation_timeout; see CLUSTER NODES on each, they disagree on who has a slot",
            self.cluster.entry().endpoint()
        );
        Error::new(Kind::Unavailable, message)
    }

    fn unserved(&self) -> Error {
        let message = format!(
            "{}: no server of the cluster has this slot; see CLUSTER INFO, and give the slots that are without a primary one",
            self.cluster.entry().endpoint()
        );
        Error::new(Kind::Unavailable, message)
    }
}

/// The bytes of commands, each after an ASKING if `asking`; what is large is not copied.
fn joined<'command>(commands: impl Iterator<Item = &'command Bytes>, asking: bool) -> Vec<Bytes> {
    let (mut parts, mut small) = (Vec::new(), Vec::new());
    for command in commands {
        if asking {
            small.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
        }
        if command.len() < LARGE {
            small.extend_from_slice(command);
        } else {
            if !small.is_empty() {
                parts.push(std::mem::take(&mut small).into());
            }
            parts.push(command.clone());
        }
    }
    if !small.is_empty() {
        parts.push(small.into());
    }
    parts
}

/// Whether the cluster is down for the server that gave this answer.
fn is_down(reply: &Reply) -> bool {
    matches!(reply, Reply::Other(Value::ServerError(error)) if error.code() == "CLUSTERDOWN")
}

/// Why the first answer was not received, if none was.
fn all_lost(replies: &[Reply]) -> Option<&Error> {
    let mut errors = replies.iter().map(|reply| match reply {
        Reply::Lost(error) => Some(error),
        _ => None,
    });
    let first = errors.next()??;
    errors.all(|error| error.is_some()).then_some(first)
}

/// The commands of a group are not sent again. What an earlier attempt was told is done stays so.
fn lose(group: &Group<'_>, error: &Error, replies: &mut [Option<Reply>]) {
    let error = group.retry_state.ended_by(error.clone());
    for &command in &group.commands {
        let done = match &replies[command] {
            Some(Reply::Text(_)) => true,
            Some(Reply::Other(value)) => !matches!(value, Value::ServerError(_)),
            Some(Reply::Lost(_)) | None => false,
        };
        if !done {
            replies[command] = Some(Reply::Lost(error.clone()));
        }
    }
}
