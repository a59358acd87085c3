//! Whatever a store asks of servers goes through here, with all that goes along with a question: nothing is sent for no
//! command, the near cache's tracking, the barrier's connections and the checks at the start begin, an outage ends.

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::{OptionFuture, join, lazy};
use redis::Value;

use super::KvStore;
use super::batch_sizes::KEY_BATCH;
use crate::client::{Commands, Node, Reply, Request, deadline};
use crate::error::{Error, Kind, Result};
use crate::log_events::Event;
use crate::memory;

/// Bytes of the wire around a key: lengths, the command's name.
pub(super) const GET_FRAME: usize = 48;

impl KvStore {
    /// One command of this name for each id. No command has two keys, which may be of two servers.
    pub(super) fn commands<'id>(
        &self,
        name: &str,
        ids: impl ExactSizeIterator<Item = &'id str> + Clone,
    ) -> Commands {
        let prefix = self.config.keyspace.prefix();
        let bytes = ids.clone().map(str::len).sum::<usize>();
        let mut commands = Commands::with_capacity(bytes + ids.len() * (prefix.len() + GET_FRAME));
        commands.add_each(name, prefix, ids);
        commands
    }

    /// Whether each server answers, within the operation's deadline.
    pub async fn ping(&self) -> Result<()> {
        let ping = Request::resendable([redis::cmd("PING")]);
        for node in self.primaries().await? {
            self.reply(first(self.send_to(&node, &ping).await?))?;
        }
        Ok(())
    }

    /// Sends a request and waits for its answers.
    pub(super) async fn send(&self, request: &Request) -> Result<Vec<Reply>> {
        if request.is_empty() {
            return Ok(Vec::new()); // no server has answered, so that an outage is not over
        }
        if request.is_batch() {
            self.memory_for_batch()?;
        }
        self.asked(self.connections.send(request)).await
    }

    /// An error unless there is memory for a batch of ids and what is answered for each.
    pub(super) fn memory_for_batch(&self) -> Result<()> {
        memory::look_for_batch().map_err(|error| error.in_namespace(&self.config.namespace))
    }

    /// Sends a request that is no key's to a node, and waits for its answers.
    pub(super) async fn send_to(&self, node: &Arc<Node>, request: &Request) -> Result<Vec<Reply>> {
        self.asked(self.connections.send_to(node, request)).await
    }

    /// The servers that hold values.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Node>>> {
        self.asked(self.connections.primaries()).await
    }

    /// What was asked of the servers, with all that goes along with a question.
    pub(super) fn asked<T>(
        &self,
        answered: impl Future<Output = Result<T>>,
    ) -> impl Future<Output = Result<T>> {
        let asked = lazy(move |_| {
            if self.near.is_some() {
                self.connections.track(&self.notices);
            }
            self.connections.prepare_barriers();
            // Beside the question, so that a first call takes no longer than any other; apart from it
            // in memory, which every call would have to take.
            let look = || Box::pin(self.startup_checks.run(&self.connections, &self.notices));
            let look = self.startup_checks.is_due().then(look);
            join(answered, OptionFuture::from(look))
        });
        asked.flatten().map(|(reply, _)| {
            let reply = reply.map_err(|error| error.in_namespace(&self.config.namespace))?;
            if let Some(line) = self.outage.answered() {
                self.report(Event::OutageEnded, &line);
            }
            Ok(reply)
        })
    }

    pub(super) fn reply(&self, reply: Reply) -> Result<Value> {
        reply
            .value()
            .map_err(|error| error.in_namespace(&self.config.namespace))
    }

    pub(super) fn unexpected(&self, command: &str) -> Error {
        let message =
            format!("the server answered {command} with another type: is it a Redis server?");
        Error::new(Kind::Operation, message).in_namespace(&self.config.namespace)
    }
}

/// So many of these as one request takes that moves no values. Each batch has the whole time of a call, since the one
/// before it was answered.
pub(super) fn batches<T>(items: &[T]) -> impl Iterator<Item = &[T]> {
    items.chunks(KEY_BATCH).inspect(|_| deadline::restart())
}

/// The answer of a request of one command.
pub(super) fn first(replies: Vec<Reply>) -> Reply {
    replies.into_iter().next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use crate::error::Kind;
    use crate::store::tests::{open, settings};

    #[tokio::test]
    async fn a_server_that_is_away_answers_no_ping() {
        let error = open(settings()).ping().await.unwrap_err();
        assert_eq!(error.kind(), Kind::Unavailable, "{error}");
        assert_eq!(error.namespace(), Some("docs"));
    }
}
