//! One connection that a caller's own thread drives: no other thread is woken for a call.
//!
//! Requests are answered in the order in which they were sent, so a queue of those who wait is all
//! there is to match. Whoever drives the lane (an event loop that watches the socket, a thread that
//! blocks on it) moves the bytes; whoever waits holds the receiving end of a channel.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Buf, Bytes};
use redis::{ErrorKind, RedisError, Value};
use tokio::sync::oneshot;

use super::quota::Seat;
use super::request::Request;
use super::resp::{Parsed, parse};
use super::socket::Socket;

/// Bytes the buffer of answers begins with, and returns to.
const BUFFER: usize = 256 * 1024;
/// Bytes of requests that are sent in one piece.
const SMALL: usize = 64 * 1024;
/// Bytes read at a time before those who wait are served, and the loop others.
const TURN: usize = 1 << 20;

type Answers = Result<Vec<Value>, RedisError>;

/// A connection that its caller's own thread drives.
pub struct Lane {
    socket: Socket,
    state: Mutex<State>,
    in_flight: AtomicUsize,
    used: AtomicBool,
    closed: AtomicBool,
    seat: Mutex<Option<Seat>>,
}

#[derive(Default)]
struct State {
    /// What is to be sent.
    out: VecDeque<Bytes>,
    /// What was received is between the two.
    input: Vec<u8>,
    taken: usize,
    filled: usize,
    /// Bytes that the answer begun there takes, as far as is known.
    needed: usize,
    waiting: VecDeque<Waiter>,
}

struct Waiter {
    wanted: usize,
    answers: Vec<Value>,
    to: oneshot::Sender<Answers>,
}

impl Lane {
    pub(super) fn new(socket: Socket, seat: Seat) -> Self {
        Self {
            socket,
            state: Mutex::default(),
            in_flight: AtomicUsize::new(0),
            used: AtomicBool::new(true),
            closed: AtomicBool::new(false),
            seat: Mutex::new(Some(seat)),
        }
    }

    /// Queues the commands; the next [`Lane::drive`] sends them.
    pub(super) fn exchange(&self, request: &Request) -> oneshot::Receiver<Answers> {
        let (to, answers) = oneshot::channel();
        let mut state = self.lock();
        state.out.extend(request.wire.iter().cloned());
        state.waiting.push_back(Waiter {
            wanted: request.answers,
            answers: Vec::with_capacity(request.answers),
            to,
        });
        drop(state);
        self.in_flight.fetch_add(1, Relaxed);
        self.used.store(true, Relaxed);
        if self.is_closed() {
            self.fail(None);
        }
        answers
    }

    /// Sends what is queued and hands out what has come, as far as both go without waiting, or
    /// with one wait where the socket has a time to wait.
    pub fn drive(&self) {
        let mut state = self.lock();
        let before = state.waiting.len();
        let outcome = state
            .write(&self.socket)
            .map_err(RedisError::from)
            .and_then(|()| state.read(&self.socket));
        let after = state.waiting.len();
        drop(state);
        self.in_flight.fetch_sub(before - after, Relaxed);
        if let Err(error) = outcome {
            self.fail(Some(&error));
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
        !self.lock().out.is_empty() && !self.is_closed()
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
            self.seat
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
            // One that does not wait any more is not missed.
            let _ = waiter.to.send(Err(error));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while it was held leaves queues that are still valid queues.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn write(&mut self, socket: &Socket) -> Result<(), io::Error> {
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

    fn read(&mut self, socket: &Socket) -> Result<(), RedisError> {
        let mut received = 0;
        while received < TURN {
            let room = self.room();
            let count = match socket.read(room) {
                Ok(0) => return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
                Ok(count) => count,
                Err(error) if waits(&error) => return Ok(()),
                Err(error) => return Err(error.into()),
            };
            let was_filled = count == room.len();
            received += count;
            self.filled += count;
            self.hand_out()?;
            if !was_filled || self.waiting.is_empty() {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Space for the rest of the answer that is begun, and never none.
    fn room(&mut self) -> &mut [u8] {
        let held = self.filled - self.taken;
        let wanted = self.needed.max(held + 1).max(BUFFER);
        if self.input.len() - self.taken < wanted && self.taken > 0 {
            self.input.copy_within(self.taken..self.filled, 0);
            self.filled -= self.taken;
            self.taken = 0;
        }
        if self.input.len() < wanted {
            self.input.resize(wanted, 0);
        }
        &mut self.input[self.filled..]
    }

    /// Gives every whole answer to who waits for it.
    fn hand_out(&mut self) -> Result<(), RedisError> {
        while self.taken < self.filled {
            let (answer, length) = match parse(&self.input[self.taken..self.filled])? {
                Parsed::Whole(answer, length) => (answer, length),
                Parsed::Part(needed) => {
                    self.needed = needed;
                    return Ok(());
                }
            };
            self.taken += length;
            let Some(waiter) = self.waiting.front_mut() else {
                let what = "an answer that nobody asked for: is it a Redis server?";
                return Err((ErrorKind::Parse, what).into());
            };
            waiter.answers.push(answer);
            if waiter.answers.len() == waiter.wanted
                && let Some(waiter) = self.waiting.pop_front()
            {
                // One that does not wait any more is not missed: its answers are taken all the same.
                let _ = waiter.to.send(Ok(waiter.answers));
            }
        }
        (self.taken, self.filled, self.needed) = (0, 0, 0);
        if self.input.len() > BUFFER {
            self.input = Vec::new(); // it held one large value
        }
        Ok(())
    }
}

/// Whether a socket only had nothing to take or to give in time.
fn waits(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

fn closed() -> RedisError {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the connection was closed",
    )
    .into()
}
