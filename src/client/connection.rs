//! One pipelined connection: a socket, the [`Pipeline`] over it, and whoever drives the two.
//!
//! A caller's own thread drives a direct connection, so that no other thread is woken for a call: an event loop that
//! watches the socket, or a thread that blocks on it. A task of the runtime drives a shared one.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::task::Poll;
use std::time::Duration;

use redis::RedisError;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::connection_permits::Permit;
use super::protocol::pipeline::{PartialReply, Pipeline, Replies};
use super::protocol::request::Request;
use super::transport::connector::Connector;
use super::transport::socket::{Socket, Waiting, waits};
use super::{Reply, deadline, timed_out};
use crate::mutex::Mutex;

/// How late a call may return. A deadline that is looked at later than that is late already, and may be forgiven.
const LATE: Duration = Duration::from_millis(50);
/// How often a late look is forgiven: a thread that is always late would wait for ever.
const FORGIVEN: usize = 3;

/// A connection that many requests share.
pub struct Connection {
    socket: Socket,
    pipeline: Mutex<Pipeline>,
    in_flight: AtomicUsize,
    used: AtomicBool,
    closed: AtomicBool,
    permit: Mutex<Option<Permit>>,
    /// Wakes the task that drives it, if one does, to send what the socket did not take at once.
    held_back: Notify,
}

impl Connection {
    pub(super) fn new(socket: Socket, pipeline: Pipeline, permit: Option<Permit>) -> Arc<Self> {
        let connection = Arc::new(Self {
            socket,
            pipeline: Mutex::new(pipeline),
            in_flight: AtomicUsize::new(0),
            used: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            permit: Mutex::new(permit),
            held_back: Notify::new(),
        });
        if connection.socket.is_of_runtime() {
            tokio::spawn(Arc::clone(&connection).keep_driven());
        }
        connection
    }

    /// Drives it to its end.
    async fn keep_driven(self: Arc<Self>) {
        while !self.is_closed() {
            {
                let mut ready = pin!(self.socket.ready(self.has_more_to_send()));
                let mut held_back = pin!(self.held_back.notified());
                poll_fn(|context| {
                    let woken = ready.as_mut().poll(context).is_ready()
                        | held_back.as_mut().poll(context).is_ready();
                    if woken {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
            }
            while self.drive() {}
        }
    }

    /// Sends the commands, and waits for the answer of each, but not beyond `limit`.
    pub(super) async fn exchange_until(&self, request: &Request, limit: Instant) -> Replies {
        self.used.store(true, Relaxed);
        self.exchange_within(request, limit).await
    }

    async fn exchange_within(&self, request: &Request, mut limit: Instant) -> Replies {
        let mut replies = pin!(self.exchange(request));
        let mut forgiven = 0;
        loop {
            if let Ok(replies) = timeout_at(limit, &mut replies).await {
                deadline::postpone(limit.elapsed());
                return replies;
            }
            // The thread that drives a direct connection may have been kept from it by work of its own, with the
            // answers waiting in the socket: time in which it did not look does not count.
            let late = limit.elapsed();
            if late < LATE || forgiven == FORGIVEN || self.socket.is_of_runtime() {
                break;
            }
            limit = Instant::now() + late / 2;
            forgiven += 1;
        }
        // Who waits on a connection that ends learns it at once, and what has come of the answers.
        self.close();
        replies.await.map_err(|partial| PartialReply {
            error: timed_out(),
            ..partial
        })
    }

    async fn exchange(&self, request: &Request) -> Replies {
        let replies = {
            let mut pipeline = self.pipeline.lock();
            let replies = pipeline.send(request);
            self.in_flight.store(pipeline.in_flight(), Relaxed);
            replies
        };
        if self.is_closed() {
            self.fail(None);
        } else if self.socket.is_of_runtime() {
            self.send();
        }
        replies.await.unwrap_or_else(|_| {
            let error = std::io::Error::from(std::io::ErrorKind::ConnectionAborted).into();
            let replies = Vec::new();
            Err(PartialReply { error, replies })
        })
    }

    /// An answer for each command, or why there is none; does not count as use of the connection.
    pub(super) async fn ask(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<Vec<Reply>, RedisError> {
        let replies = self.exchange_within(request, Instant::now() + patience);
        replies.await.map_err(|partial| partial.error)
    }

    /// Sends what is queued and hands out what has come, as far as both go without waiting, or
    /// with one wait where the socket has a time to wait. True if more may have come.
    pub fn drive(&self) -> bool {
        let mut pipeline = self.pipeline.lock();
        let outcome = match self.write(&mut pipeline) {
            Ok(()) => self.read(&mut pipeline, Socket::read),
            Err(error) => Err(self.ended(&mut pipeline, error)),
        };
        self.in_flight.store(pipeline.in_flight(), Relaxed);
        drop(pipeline);
        match outcome {
            Ok(more) => more,
            Err(error) => {
                self.fail(Some(&error));
                false
            }
        }
    }

    /// Sends what is queued, without looking for answers.
    pub fn send(&self) {
        let mut pipeline = self.pipeline.lock();
        let outcome = self.write(&mut pipeline);
        let outcome = outcome.map_err(|error| self.ended(&mut pipeline, error));
        let held_back = pipeline.has_output();
        drop(pipeline);
        if let Err(error) = outcome {
            self.fail(Some(&error));
        } else if self.socket.is_of_runtime() && (held_back || self.socket.holds_back()) {
            self.held_back.notify_one();
        }
    }

    /// Whether bytes are left that the socket did not take.
    #[must_use]
    pub fn has_more_to_send(&self) -> bool {
        let waits = self.pipeline.lock().has_output() || self.socket.holds_back();
        waits && !self.is_closed()
    }

    /// Whether nobody waits for anything on it, and nothing came that nobody waited for.
    pub(super) fn is_at_rest(&self) -> bool {
        self.pipeline.lock().is_at_rest() && !self.is_closed()
    }

    /// Requests that wait for answers.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Whether a request used it since the last time this was asked.
    pub(super) fn was_used(&self) -> bool {
        self.used.swap(false, Relaxed)
    }

    /// Whether it was lost, or ended: it carries nothing more.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Acquire)
    }

    /// Ends the connection; who still waits on it fails. Called from any thread.
    pub fn close(&self) {
        self.fail(None);
    }

    /// Its file descriptor, for who watches it.
    #[must_use]
    #[cfg(unix)]
    pub fn descriptor(&self) -> std::os::fd::RawFd {
        self.socket.descriptor()
    }

    fn write(&self, pipeline: &mut Pipeline) -> Result<(), RedisError> {
        self.socket.flush()?;
        while let Some(bytes) = pipeline.output() {
            match self.socket.write(bytes) {
                Ok(count) => pipeline.sent(count),
                Err(error) if waits(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Reads once; true if there may be more.
    fn read(
        &self,
        pipeline: &mut Pipeline,
        read: fn(&Socket, &mut [u8]) -> std::io::Result<usize>,
    ) -> Result<bool, RedisError> {
        let free_space = pipeline.free_space()?;
        let (received, space) = (read(&self.socket, free_space), free_space.len());
        pipeline.received(received.as_ref().map_or(0, |count| *count))?;
        match received {
            Ok(0) => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => Ok(count == space),
            Err(error) if waits(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// A peer that takes nothing more may have answered before: that is read first.
    fn ended(&self, pipeline: &mut Pipeline, error: RedisError) -> RedisError {
        while matches!(self.read(pipeline, Socket::read_what_is_left), Ok(true)) {}
        error
    }

    fn fail(&self, error: Option<&RedisError>) {
        // First: whoever sees that it is closed opens another, perhaps with this very permit.
        drop(self.permit.lock().take());
        if !self.closed.swap(true, Release) {
            self.socket.shut();
            self.held_back.notify_one();
        }
        let mut pipeline = self.pipeline.lock();
        pipeline.end(error);
        self.in_flight.store(pipeline.in_flight(), Relaxed);
    }
}

/// A connection of one owner, driven by the runtime and ended with its owner.
pub(super) struct OwnConnection(Arc<Connection>);

impl OwnConnection {
    /// Opens one that takes no permit.
    pub(super) async fn open(
        connector: &Connector,
        pipeline: Pipeline,
    ) -> Result<Self, RedisError> {
        let socket = Socket::new(connector.connect().await?, Waiting::Runtime)?;
        Ok(Self(Connection::new(socket, pipeline, None)))
    }

    /// The answer to each command, or why there is none.
    pub(super) async fn ask(
        &self,
        request: &Request,
        patience: Duration,
    ) -> Result<Vec<Reply>, RedisError> {
        self.0.ask(request, patience).await
    }
}

impl Drop for OwnConnection {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(unix)]
#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixStream;

    use super::*;
    use crate::client::command;
    use crate::client::transport::stream::Stream;

    #[tokio::test]
    async fn a_peer_that_takes_nothing_more_has_its_replies_read_first() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let socket = Socket::new(Stream::Unix(ours), Waiting::Never).unwrap();
        let connection = Connection::new(socket, Pipeline::default(), None);
        let limit = Instant::now() + Duration::from_secs(10);
        let ping = Request::resendable([redis::cmd("PING")]);
        let mut answered = Box::pin(connection.exchange_until(&ping, limit));
        assert!(answered.as_mut().now_or_never().is_none());
        connection.send();
        theirs.write_all(b"+PONG\r\n").await.unwrap();
        drop(theirs);
        let mut refused = Box::pin(connection.exchange_until(&ping, limit));
        assert!(refused.as_mut().now_or_never().is_none());
        connection.drive();
        assert!(answered.await.is_ok());
        assert!(refused.await.is_err());
    }

    // Who sends over a shared connection meets its end before the runtime has heard of the answers in it.
    #[tokio::test]
    async fn the_runtime_need_not_know_of_replies_for_them_to_be_read_first() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        theirs.writable().await.unwrap();
        let socket = Socket::new(Stream::Unix(ours), Waiting::Runtime).unwrap();
        socket.ready(true).await;
        let connection = Connection::new(socket, Pipeline::default(), None);
        let limit = Instant::now() + Duration::from_secs(10);
        let ping = Request::resendable([redis::cmd("PING")]);
        let mut answered = Box::pin(connection.exchange_until(&ping, limit));
        assert!(answered.as_mut().now_or_never().is_none());
        theirs.try_write(b"+PONG\r\n").unwrap();
        drop(theirs);
        let refused = connection.exchange_until(&ping, limit).now_or_never();
        assert!(refused.is_some_and(|replies| replies.is_err()));
        assert!(answered.await.is_ok());
    }

    fn pair(waiting: Waiting) -> (Arc<Connection>, UnixStream) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let socket = Socket::new(Stream::Unix(ours), waiting).unwrap();
        (Connection::new(socket, Pipeline::default(), None), theirs)
    }

    #[tokio::test(start_paused = true)]
    async fn a_thread_that_was_kept_from_its_sockets_looks_at_them_before_it_gives_up() {
        let limit = Duration::from_secs(1);
        let ping = Request::resendable([redis::cmd("PING")]);
        let prompt = LATE.saturating_sub(Duration::from_millis(1));
        // How late each look is, and whether it is the last one.
        for (waiting, looks) in [
            (Waiting::Never, &[prompt][..]),
            (Waiting::Never, &[LATE, prompt]),
            (Waiting::Never, &[LATE, LATE, LATE, LATE]),
            (Waiting::Never, &[4 * LATE, LATE / 2]),
            (Waiting::Runtime, &[LATE]),
            (Waiting::Runtime, &[4 * LATE]),
        ] {
            let (connection, _theirs) = pair(waiting);
            let mut answer = Box::pin(connection.exchange_until(&ping, Instant::now() + limit));
            assert!(answer.as_mut().now_or_never().is_none());
            let mut left = limit;
            for (place, late) in looks.iter().enumerate() {
                tokio::time::advance(left + *late).await;
                let given_up = answer.as_mut().now_or_never();
                let is_last = place + 1 == looks.len();
                assert_eq!(given_up.is_some(), is_last, "{waiting:?} {looks:?} {place}");
                assert_eq!(connection.is_closed(), is_last);
                left = *late / 2;
            }
        }
    }

    #[tokio::test]
    async fn a_request_larger_than_what_the_socket_takes_is_sent_as_there_is_room() {
        let (connection, mut theirs) = pair(Waiting::Runtime);
        let limit = Instant::now() + Duration::from_secs(5);
        let ping = Request::resendable([redis::cmd("PING")]);
        let value = vec![b'x'; 4 << 20];
        let large = command("SET", [&b"key"[..], &value]);
        let bytes = large.get_packed_command().len();
        let large = Request::resendable([large]);
        for (request, mut bytes) in [(&ping, 14), (&large, bytes)] {
            let peer = async {
                let mut came = vec![0; 64 << 10];
                while bytes > 0 {
                    let count = theirs.read(&mut came).await.unwrap();
                    assert_ne!(count, 0, "it gave up");
                    bytes -= count;
                }
                theirs.write_all(b"+OK\r\n").await.unwrap();
            };
            let (answer, ()) = tokio::join!(connection.exchange_until(request, limit), peer);
            assert_eq!(answer.unwrap().len(), 1);
        }
        assert!(!connection.has_more_to_send() && connection.is_at_rest());
    }

    #[tokio::test]
    async fn a_connection_that_is_reset_is_lost_and_one_that_is_silent_is_not() {
        let (connection, mut theirs) = pair(Waiting::Never);
        let limit = Instant::now() + Duration::from_secs(20);
        let ping = Request::resendable([redis::cmd("PING")]);
        assert!(!connection.drive() && !connection.is_closed());
        let mut answered = Box::pin(connection.exchange_until(&ping, limit));
        assert!(answered.as_mut().now_or_never().is_none());
        theirs.write_all(b"+PONG\r\n").await.unwrap();
        assert!(!connection.drive(), "that was all");
        assert!(answered.await.is_ok());
        drop(theirs); // with a question in its socket, which resets it
        assert!(!connection.drive() && connection.is_closed());
    }

    #[tokio::test]
    async fn the_peer_learns_at_once_that_a_connection_was_closed_or_its_owner_is_gone() {
        let (connection, mut theirs) = pair(Waiting::Never);
        connection.close();
        let ended = timeout_at(Instant::now() + Duration::from_secs(20), theirs.read_u8());
        assert!(ended.await.unwrap().is_err());
        let (connection, mut theirs) = pair(Waiting::Runtime);
        drop(OwnConnection(connection));
        let ended = timeout_at(Instant::now() + Duration::from_secs(20), theirs.read_u8());
        assert!(ended.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn an_answer_that_is_there_while_more_is_to_be_sent_is_read() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"+OK\r\n").await.unwrap();
        let socket = Socket::new(Stream::Unix(ours), Waiting::Runtime).unwrap();
        socket.ready(false).await;
        let connection = Connection::new(socket, Pipeline::default(), None);
        let large = command("SET", [&b"key"[..], &vec![b'x'; 4 << 20]]);
        let large = Request::resendable([large]);
        let limit = Instant::now() + Duration::from_secs(5);
        assert!(connection.exchange_until(&large, limit).await.is_ok());
        assert!(connection.has_more_to_send());
    }
}
