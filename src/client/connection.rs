//! One connection that a caller's own thread drives: no other thread is woken for a call.
//!
//! Requests are answered in the order in which they were sent, so a queue of those who wait is all
//! there is to match. Whoever drives the direct connection (an event loop that watches the socket, a thread that
//! blocks on it) moves the bytes; whoever waits holds the receiving end of a channel.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use redis::{ErrorKind, RedisError};
use tokio::sync::oneshot;

use super::Reply;
use super::permits::Permit;
use super::protocol::read_buffer::ReadBuffer;
use super::protocol::request::Request;
use super::transport::socket::{Socket, waits};

/// Bytes of requests that are sent in one write.
const SMALL: usize = 64 * 1024;

type Replies = Result<Vec<Reply>, PartialReply>;

/// Why a request was not answered in full, and the answers that came: of its first commands.
pub(super) struct PartialReply {
    pub(super) error: RedisError,
    pub(super) replies: Vec<Reply>,
}

impl From<RedisError> for PartialReply {
    fn from(error: RedisError) -> Self {
        Self {
            error,
            replies: Vec::new(),
        }
    }
}

/// A connection that its caller's own thread drives.
pub struct Connection {
    socket: Socket,
    state: Mutex<State>,
    in_flight: AtomicUsize,
    used: AtomicBool,
    closed: AtomicBool,
    permit: Mutex<Option<Permit>>,
}

#[derive(Default)]
struct State {
    /// What is to be sent.
    out: VecDeque<Bytes>,
    read_buffer: ReadBuffer,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    wanted: usize,
    replies: Vec<Reply>,
    to: oneshot::Sender<Replies>,
}

impl Connection {
    pub(super) fn new(socket: Socket, permit: Permit) -> Self {
        Self {
            socket,
            state: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            used: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            permit: Mutex::new(Some(permit)),
        }
    }

    /// Queues the commands; the next [`Connection::drive`] sends them.
    pub(super) fn exchange(&self, request: &Request) -> oneshot::Receiver<Replies> {
        let (to, replies) = oneshot::channel();
        self.in_flight.fetch_add(1, Relaxed);
        let mut state = self.lock();
        state.out.extend(request.wire.iter().cloned());
        state.waiting.push_back(Waiter {
            wanted: request.replies,
            replies: Vec::with_capacity(request.replies),
            to,
        });
        drop(state);
        self.used.store(true, Relaxed);
        if self.is_closed() {
            self.fail(None);
        }
        replies
    }

    /// Sends what is queued and hands out what has come, as far as both go without waiting, or
    /// with one wait where the socket has a time to wait. True if more may have come.
    pub fn drive(&self) -> bool {
        let mut state = self.lock();
        let before = state.waiting.len();
        let outcome = state
            .write(&self.socket)
            .map_err(RedisError::from)
            .and_then(|()| state.read(&self.socket));
        let after = state.waiting.len();
        drop(state);
        self.in_flight.fetch_sub(before - after, Relaxed);
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
        let outcome = self.lock().write(&self.socket);
        if let Err(error) = outcome {
            self.fail(Some(&error.into()));
        }
    }

    /// Whether bytes are left that the socket did not take.
    #[must_use]
    pub fn has_more_to_send(&self) -> bool {
        let waits = !self.lock().out.is_empty() || self.socket.holds_back();
        waits && !self.is_closed()
    }

    /// Whether nobody waits for anything on it, and nothing came that nobody waited for.
    pub(super) fn is_at_rest(&self) -> bool {
        let state = self.lock();
        state.waiting.is_empty() && !state.read_buffer.has_rest() && !self.is_closed()
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
        self.closed.load(Relaxed)
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

    fn fail(&self, error: Option<&RedisError>) {
        if !self.closed.swap(true, Relaxed) {
            self.socket.shut();
        }
        drop(
            self.permit
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let mut state = self.lock();
        let waiting = std::mem::take(&mut state.waiting);
        state.out.clear();
        drop(state);
        self.in_flight.fetch_sub(waiting.len(), Relaxed);
        for waiter in waiting {
            let error = error.cloned().unwrap_or_else(closed);
            let replies = waiter.replies;
            // One that does not wait any more is not missed.
            let _ = waiter.to.send(Err(PartialReply { error, replies }));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves queues that are still valid queues.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, socket: &Socket) -> Result<(), io::Error> {
        socket.flush()?;
        self.join_small();
        while let Some(next) = self.out.front_mut() {
            match socket.write(next) {
                Ok(count) if count == next.len() => drop(self.out.pop_front()),
                Ok(count) => next.advance(count),
                Err(error) if waits(&error) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Small requests leave in one go: a system call costs more than a copy.
    fn join_small(&mut self) {
        let bytes = self.out.iter().map(Bytes::len).sum::<usize>();
        if self.out.len() > 1 && bytes <= SMALL {
            let mut joined = Vec::with_capacity(bytes);
            for request in self.out.drain(..) {
                joined.extend_from_slice(&request);
            }
            self.out.push_back(joined.into());
        }
    }

    /// Reads once; true if there may be more.
    fn read(&mut self, socket: &Socket) -> Result<bool, RedisError> {
        let free_space = self.read_buffer.free_space();
        let (received, space) = (socket.read(free_space), free_space.len());
        self.read_buffer
            .received(received.as_ref().map_or(0, |count| *count));
        match received {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => self.hand_out().map(|()| count == space),
            Err(error) if waits(&error) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Gives every whole answer to who waits for it.
    fn hand_out(&mut self) -> Result<(), RedisError> {
        while let Some(reply) = self.read_buffer.reply()? {
            let Some(waiter) = self.waiting.front_mut() else {
                let what = "an answer that nobody asked for: is it a Redis server?";
                return Err((ErrorKind::Parse, what).into());
            };
            waiter.replies.push(reply);
            if waiter.replies.len() == waiter.wanted
                && let Some(waiter) = self.waiting.pop_front()
            {
                // One that does not wait any more is not missed: its answers are taken all the same.
                let _ = waiter.to.send(Ok(waiter.replies));
            }
        }
        Ok(())
    }
}

/// Whether a socket only had nothing to take or to give in time.
fn closed() -> RedisError {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the connection was closed",
    )
    .into()
}
