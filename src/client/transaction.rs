//! Commands that take effect all at once or not at all, on one server, and only as long as nobody else has taken over.
//!
//! They leave between MULTI and EXEC over a connection of their own: what WATCH watches, and what is queued, is the
//! connection's, so that it cannot be shared. A [`Fence`] is a key that holds the token of whoever may go on. It is
//! watched, and the transaction itself puts another value there. So none takes effect after somebody else has
//! written the fence, none takes effect twice however often it is sent, and where an answer was lost the key tells.

use std::sync::Arc;

use redis::Value;
use tokio::time::{Instant, sleep, timeout_at};

use super::connection::OwnConnection;
use super::node::{FailedAttempt, Node};
use super::protocol::pipeline::Pipeline;
use super::protocol::request::{Commands, Request, command};
use super::retry_loop::RetryState;
use super::topology::{Topology, sentinel};
use super::{Connections, Reply, deadline, timed_out};
use crate::error::{Error, Kind, Result, is_unknown_command};

/// Milliseconds that a fence lives: longer than anybody may be at work behind it.
const LIFE: &[u8] = b"3600000";

/// The key that says who may go on, and what it holds before and after.
pub(crate) struct Fence {
    key: Vec<u8>,
    token: Vec<u8>,
    done: Vec<u8>,
}

/// A connection on which the fence is watched, and commands are queued.
pub(crate) struct Transaction {
    node: Arc<Node>,
    connection: OwnConnection,
}

/// What became of a transaction.
pub(crate) enum Executed {
    /// It was done. The replies to its commands; None where they were lost, and the fence told.
    Done(Option<Vec<Reply>>),
    /// Nothing of it was done, nor will be: another has the fence.
    Overtaken,
}

/// What was found at the beginning of an attempt.
pub(crate) enum Begun {
    /// The fence is ours.
    Ready(Transaction),
    /// An attempt before this one was done.
    Done,
    /// Another has the fence.
    Overtaken,
    /// The server, or a proxy before it, lets this user have no transactions.
    Forbidden(Error),
}

impl Fence {
    /// One that nobody has written.
    pub(crate) fn new(key: Vec<u8>, token: &str) -> Self {
        Self {
            key,
            token: token.into(),
            done: format!("{token} done").into(),
        }
    }

    /// Takes over: from here on, whoever had it cannot go on.
    pub(crate) fn take(&self) -> Request {
        Request::resendable([command("SET", [&*self.key, &self.token, b"PX", LIFE])])
    }

    fn begin(&self) -> Request {
        let key = [&*self.key];
        Request::resendable([
            command("WATCH", key),
            command("GET", key),
            redis::cmd("MULTI"),
        ])
    }

    fn end(&self) -> Request {
        let done = command("SET", [&*self.key, &self.done, b"PX", LIFE]);
        Request::resendable([done, redis::cmd("EXEC")])
    }
}

impl Transaction {
    async fn open(node: Arc<Node>, until: Instant) -> Result<Self, FailedAttempt> {
        let opened = OwnConnection::open(&node.pool.connector, Pipeline::default());
        let opened = timeout_at(until, opened).await;
        let connection = opened
            .map_err(|_| FailedAttempt::unsent(node.pool.connector.not_in_time()))?
            .map_err(FailedAttempt::unsent)?;
        Ok(Self { node, connection })
    }

    async fn ask(&self, request: &Request, until: Instant) -> Result<Vec<Reply>, FailedAttempt> {
        let patience = until.saturating_duration_since(Instant::now());
        let patience = patience.min(self.node.config.socket_timeout);
        let replies = self.connection.ask(request, patience).await;
        replies.map_err(FailedAttempt::unsent)
    }
}

impl Connections {
    /// Whether one server has all keys, so that a transaction may be of any of them.
    pub(crate) fn has_one_server(&self) -> bool {
        !matches!(self.topology, Topology::Cluster(_))
    }

    /// The replies to WATCH of this key, MULTI and EXEC, with nothing between them: what this user is refused.
    pub(crate) async fn try_transaction(self: &Arc<Self>, key: &[u8]) -> Result<Vec<Reply>> {
        let until = deadline::current(self.config.operation_timeout);
        let request = Request::resendable([
            command("WATCH", [key]),
            redis::cmd("MULTI"),
            redis::cmd("EXEC"),
        ]);
        let node = self.first_server().await?;
        let asked = async {
            let transaction = Transaction::open(node, until).await?;
            transaction.ask(&request, until).await
        };
        let asked = asked.await;
        asked.map_err(|failed| Error::from_redis(&failed.error))
    }

    /// Begins a transaction behind a fence that was taken.
    pub(crate) async fn begin_transaction(self: &Arc<Self>, fence: &Fence) -> Result<Begun> {
        let mut retry = RetryState::new(&self.config);
        loop {
            match self.try_to_begin(fence, retry.deadline).await? {
                Ok(begun) => return Ok(begun),
                Err(failed) => self.pause_or_give_up(&mut retry, &failed).await?,
            }
        }
    }

    /// Queues the commands, some at a time, and has them done. Each group has the whole time of a call.
    pub(crate) async fn execute(
        self: &Arc<Self>,
        begun: Transaction,
        fence: &Fence,
        groups: Vec<Commands>,
    ) -> Result<Executed> {
        let groups: Vec<Request> = groups.into_iter().map(Commands::resendable).collect();
        let mut retry = RetryState::new(&self.config);
        let mut begun = Some(Begun::Ready(begun));
        let mut unknown = None;
        loop {
            deadline::restart();
            retry.deadline = deadline::current(self.config.operation_timeout);
            let found = match begun.take() {
                Some(begun) => Ok(begun),
                None => self.try_to_begin(fence, retry.deadline).await?,
            };
            let failed = match found {
                Ok(Begun::Ready(transaction)) => {
                    // Whoever asks for no retries asks that nothing lands after what others have written since.
                    if unknown.is_some() && self.config.max_retries == 0 {
                        return Err(unknown_outcome(&transaction.node, unknown));
                    }
                    match self.try_to_execute(&transaction, fence, &groups).await {
                        Ok(Some(replies)) => return Ok(Executed::Done(Some(replies))),
                        // The fence was written meanwhile: it tells by whom.
                        Ok(None) => match retry.pause_unless_over() {
                            Some(pause) => {
                                sleep(pause).await;
                                continue;
                            }
                            None => FailedAttempt::unsent(timed_out()),
                        },
                        Err(failed) => {
                            self.topology.failed(&transaction.node, failed.stale);
                            failed
                        }
                    }
                }
                Ok(Begun::Done) => return Ok(Executed::Done(None)),
                Ok(Begun::Overtaken) if unknown.is_some() => {
                    return Err(unknown_outcome(self.topology.entry(), unknown));
                }
                Ok(Begun::Overtaken) => return Ok(Executed::Overtaken),
                Ok(Begun::Forbidden(error)) => {
                    return Err(error.after_sending(unknown.is_some()));
                }
                Err(failed) => failed,
            };
            if failed.sent {
                unknown = Some(Error::from_redis(&failed.error));
                if self.config.max_retries == 0 && retry.failed == 0 {
                    retry.failed = 1; // one look at what became of it
                    continue;
                }
            }
            if let Err(error) = self.pause_or_give_up(&mut retry, &failed).await {
                return Err(match unknown {
                    Some(_) => unknown_outcome(self.topology.entry(), unknown),
                    None => error,
                });
            }
        }
    }

    async fn pause_or_give_up(
        self: &Arc<Self>,
        retry: &mut RetryState<'_>,
        failed: &FailedAttempt,
    ) -> Result<()> {
        // Sent again, it is done once: the fence sees to that.
        if let Some(pause) = retry.pause_after(true, failed) {
            self.count_retry();
            sleep(pause).await;
            return Ok(());
        }
        let entry = self.topology.entry();
        let error = retry.give_up(&entry.config, true, failed);
        self.count_failure(entry, error.is_outage());
        Err(error)
    }

    /// Opens a connection, and sees whether the fence is still ours.
    async fn try_to_begin(
        self: &Arc<Self>,
        fence: &Fence,
        until: Instant,
    ) -> Result<Result<Begun, FailedAttempt>> {
        let node = self.first_server().await?;
        Ok(Self::try_to_watch(node, fence, until).await)
    }

    async fn first_server(&self) -> Result<Arc<Node>> {
        let nodes = self.topology.primaries().await?;
        match nodes.into_iter().next() {
            Some(node) if node.breaker.is_open() => Err(node.refused()),
            Some(node) => Ok(node),
            None => Err(Error::new(Kind::Unavailable, "no server is known")),
        }
    }

    async fn try_to_watch(
        node: Arc<Node>,
        fence: &Fence,
        until: Instant,
    ) -> Result<Begun, FailedAttempt> {
        let transaction = Transaction::open(node, until).await?;
        let replies = transaction.ask(&fence.begin(), until).await?;
        for reply in &replies {
            if let Reply::Other(Value::ServerError(error)) = reply {
                let unknown = error.details().is_some_and(is_unknown_command);
                let forbidden = error.code() == "NOPERM" || unknown;
                let error = error.clone().into();
                if forbidden {
                    return Ok(Begun::Forbidden(Error::from_redis(&error)));
                }
                return Err(FailedAttempt::unsent(error));
            }
        }
        Ok(match replies.get(1) {
            Some(Reply::Text(found)) if *found == fence.token => Begun::Ready(transaction),
            Some(Reply::Text(found)) if *found == fence.done => Begun::Done,
            _ => Begun::Overtaken,
        })
    }

    /// The replies to the commands; None if the fence was written meanwhile, and nothing done.
    async fn try_to_execute(
        self: &Arc<Self>,
        transaction: &Transaction,
        fence: &Fence,
        groups: &[Request],
    ) -> Result<Option<Vec<Reply>>, FailedAttempt> {
        let node = &transaction.node;
        for group in groups.iter().filter(|group| !group.is_empty()) {
            let until = deadline::current(self.config.operation_timeout);
            let replies = transaction.ask(group, until).await?;
            self.all_queued(node, &replies)?;
            deadline::restart();
        }
        let until = deadline::current(self.config.operation_timeout);
        let sent = Instant::now();
        let lost = |failed| FailedAttempt {
            sent: true,
            ..failed
        };
        let mut replies = transaction.ask(&fence.end(), until).await.map_err(lost)?;
        if !self.topology.believes(node, sent).await {
            return Err(sentinel::disowned());
        }
        node.answered();
        let executed = replies.pop().unwrap_or_default();
        match executed {
            Reply::Other(Value::Array(mut done)) => {
                done.pop(); // of the fence
                Ok(Some(done.into_iter().map(Reply::from).collect()))
            }
            Reply::Other(Value::Nil) => Ok(None),
            executed => {
                replies.push(executed);
                self.all_queued(node, &replies)?;
                let message = "the server answered EXEC with another type: is it a Redis server?";
                Err(lost(FailedAttempt::unsent(
                    Error::new(Kind::Operation, message).into(),
                )))
            }
        }
    }

    /// An error if the server has refused one of these commands, and so all of them.
    fn all_queued(&self, node: &Arc<Node>, replies: &[Reply]) -> Result<(), FailedAttempt> {
        let refused = replies.iter().find_map(|reply| match reply {
            Reply::Other(Value::ServerError(error)) => Some(error.clone()),
            _ => None,
        });
        let Some(refused) = refused else {
            return Ok(());
        };
        // It is no master any more: another is, or will be.
        let elsewhere = !self.topology.meanings(node, replies).is_empty();
        let mut error = redis::RedisError::from(refused);
        if elsewhere {
            let said = Error::from_redis(&error).to_string();
            error = Error::new(Kind::Unavailable, said).into();
        }
        Err(FailedAttempt::unsent(error))
    }
}

fn unknown_outcome(node: &Node, lost: Option<Error>) -> Error {
    let lost = lost.map_or_else(String::new, |error| format!(" ({error})"));
    let message = format!(
        "{}: the answer was lost, so whether all values were replaced or none is unknown: write them again{lost}",
        node.config.endpoint
    );
    Error::new(Kind::Timeout, message).after_sending(true)
}
