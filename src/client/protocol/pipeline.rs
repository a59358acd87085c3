//! One pipelined connection as a state machine without I/O: requests become bytes to send, bytes that came become
//! replies.
//!
//! A server answers in the order of the requests, so that a queue of those who wait is all there is to match. Who has
//! left meanwhile keeps its place: its replies are taken off the wire and thrown away.

use std::collections::VecDeque;
use std::io;

use bytes::{Buf, Bytes, BytesMut};
use redis::{ErrorKind, PushKind, RedisError, Value};
use tokio::sync::oneshot;

use super::request::Request;
use super::resp_parser::{Parsed, Reply, parse};
use crate::error::{Error, Kind, Result};
use crate::memory;

/// Bytes of requests that are sent in one write.
const SMALL: usize = 64 * 1024;

/// Bytes read at a time: they are decoded while they are in the processor's cache.
const BUFFER: usize = 256 * 1024;

/// Bytes of a large buffer that are made ready at a time. A server may say that much comes and send nothing: memory
/// that is not used is not to be touched.
const STEP: usize = 1024 * 1024;

/// Buffers that are kept to be used again: about what a batch has under way.
const KEPT: usize = 8;

pub(in crate::client) type Replies = Result<Vec<Reply>, PartialReply>;

/// Hears what the server says unasked; nothing, once the connection has ended. It must not wait.
pub(in crate::client) type OnPush = Box<dyn FnMut(Option<(PushKind, Vec<Value>)>) + Send>;

/// Why a request was not answered in full, and the answers that came: of its first commands.
#[derive(Debug)]
pub(in crate::client) struct PartialReply {
    pub(in crate::client) error: RedisError,
    pub(in crate::client) replies: Vec<Reply>,
}

#[derive(Default)]
pub(in crate::client) struct Pipeline {
    /// What is to be sent.
    out: VecDeque<Bytes>,
    read_buffer: ReadBuffer,
    waiting: VecDeque<Waiter>,
    on_push: Option<OnPush>,
}

struct Waiter {
    wanted: usize,
    replies: Vec<Reply>,
    to: oneshot::Sender<Replies>,
}

impl Pipeline {
    /// One on which the server may speak unasked.
    pub(in crate::client) fn with_push(on_push: OnPush) -> Self {
        Self {
            on_push: Some(on_push),
            ..Self::default()
        }
    }

    /// Queues a request; its replies come over the channel.
    pub(in crate::client) fn send(&mut self, request: &Request) -> oneshot::Receiver<Replies> {
        let (to, replies) = oneshot::channel();
        self.out.extend(request.wire.iter().cloned());
        self.waiting.push_back(Waiter {
            wanted: request.replies,
            replies: Vec::with_capacity(request.replies),
            to,
        });
        replies
    }

    /// The bytes to send next, if any. Small requests leave in one go: a system call costs more than a copy.
    pub(in crate::client) fn output(&mut self) -> Option<&[u8]> {
        if self.out.len() > 1 {
            let bytes = self.out.iter().map(Bytes::len).sum::<usize>();
            if bytes <= SMALL {
                let mut joined = Vec::with_capacity(bytes);
                for request in self.out.drain(..) {
                    joined.extend_from_slice(&request);
                }
                self.out.push_back(joined.into());
            }
        }
        self.out.front().map(|bytes| &**bytes)
    }

    /// So many of the bytes of [`Self::output`] were sent.
    pub(in crate::client) fn sent(&mut self, count: usize) {
        if let Some(next) = self.out.front_mut() {
            next.advance(count);
            if next.is_empty() {
                self.out.pop_front();
            }
        }
    }

    /// Whether bytes wait to be sent.
    pub(in crate::client) fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Space for what comes next, if there is memory for it.
    pub(in crate::client) fn free_space(&mut self) -> Result<&mut [u8]> {
        self.read_buffer.free_space()
    }

    /// So many bytes came into the free space; every whole reply goes to who waits for it.
    pub(in crate::client) fn received(&mut self, count: usize) -> Result<(), RedisError> {
        self.read_buffer.received(count);
        while let Some(reply) = self.read_buffer.reply()? {
            if matches!(reply, Reply::Other(Value::Push { .. })) {
                self.hear(reply)?;
                continue;
            }
            let Some(waiter) = self.waiting.front_mut() else {
                return Err(unasked());
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

    #[cold]
    fn hear(&mut self, said: Reply) -> Result<(), RedisError> {
        match (said, &mut self.on_push) {
            (Reply::Other(Value::Push { kind, data }), Some(on_push)) => {
                on_push(Some((kind, data)));
                Ok(())
            }
            _ => Err(unasked()),
        }
    }

    /// Ends it: nothing more is sent, and who still waits is told why, and what came of its replies.
    pub(in crate::client) fn end(&mut self, error: Option<&RedisError>) {
        self.out.clear();
        // It is the first one's value that there is no memory for; the others have only lost the connection.
        let of_the_first =
            error.is_some_and(|error| Error::from_redis(error).kind() == Kind::Memory);
        for (place, waiter) in std::mem::take(&mut self.waiting).into_iter().enumerate() {
            let own = error.filter(|_| place == 0 || !of_the_first);
            let error = own.cloned().unwrap_or_else(closed);
            let replies = waiter.replies;
            // One that does not wait any more is not missed.
            let _ = waiter.to.send(Err(PartialReply { error, replies }));
        }
        if let Some(mut on_push) = self.on_push.take() {
            on_push(None);
        }
    }

    /// Requests that wait for answers.
    pub(in crate::client) fn in_flight(&self) -> usize {
        self.waiting.len()
    }

    /// Whether nobody waits for anything, and nothing came that nobody waited for.
    pub(in crate::client) fn is_at_rest(&self) -> bool {
        self.waiting.is_empty() && !self.read_buffer.has_rest()
    }
}

fn unasked() -> RedisError {
    let what = "an answer that nobody asked for: is it a Redis server?";
    (ErrorKind::Parse, what).into()
}

fn closed() -> RedisError {
    io::Error::new(
        io::ErrorKind::ConnectionAborted,
        "the connection was closed",
    )
    .into()
}

/// A buffer that lends its bytes to the answers made of them. It is used again when all of them
/// are gone, as they are once they are decoded; meanwhile another takes its place.
#[derive(Default)]
struct ReadBuffer {
    bytes: Bytes,
    lent: VecDeque<Bytes>,
    own: BytesMut,
    /// What was received and is no answer yet is between the two.
    taken: usize,
    filled: usize,
    /// Bytes that the answer begun there takes, as far as is known.
    needed: usize,
}

impl ReadBuffer {
    /// Space for the rest of the answer that is begun, and never none; an error if there is no memory for it.
    fn free_space(&mut self) -> Result<&mut [u8]> {
        let held = self.filled - self.taken;
        let least = self.needed.max(held + 1);
        // An array does not say how long it is: doubled, it is not copied at each read.
        let wanted = least
            .max(BUFFER)
            .max(if held < BUFFER { 0 } else { held * 2 });
        let bytes = std::mem::take(&mut self.bytes);
        let (taken, filled) = (self.taken, self.filled);
        // Without memory what was received is lost, and the connection with it.
        (self.taken, self.filled) = (0, 0);
        self.own = match bytes.try_into_mut() {
            Ok(mut own) if own.capacity() >= least => {
                if taken > 0 {
                    own.copy_within(taken..filled, 0);
                }
                own
            }
            Ok(old) => self.moved(&old[taken..filled], wanted)?,
            Err(lent) => {
                let own = self.moved(&lent[taken..filled], wanted)?;
                if lent.len() == BUFFER {
                    self.lent.truncate(KEPT - 1);
                    self.lent.push_front(lent);
                }
                own
            }
        };
        self.filled = held;
        let ready = self.own.capacity().min(held + STEP);
        self.own.resize(ready.max(self.own.len()), 0);
        Ok(&mut self.own[held..])
    }

    /// Whether bytes are left that belong to no whole answer.
    fn has_rest(&self) -> bool {
        self.taken < self.filled
    }

    /// So many bytes were written into the free space.
    fn received(&mut self, count: usize) {
        self.filled += count;
        self.bytes = std::mem::take(&mut self.own).freeze();
    }

    /// The next whole answer, if there is one.
    fn reply(&mut self) -> Result<Option<Reply>, RedisError> {
        self.needed = 0;
        if self.taken == self.filled {
            if self.bytes.len() > BUFFER {
                *self = Self::default(); // it held one large value, which owns the bytes from now on
            }
            return Ok(None);
        }
        let start = self.taken;
        let (reply, length) = match parse(&self.bytes[start..self.filled])? {
            Parsed::Text(place, length) => {
                let text = self.bytes.slice(start + place.start..start + place.end);
                (Reply::Text(text), length)
            }
            Parsed::Whole(value, length) => (Reply::Other(value), length),
            Parsed::Part(needed) => {
                self.needed = needed;
                return Ok(None);
            }
        };
        self.taken += length;
        Ok(Some(reply))
    }

    /// A buffer of so many bytes that begins with these.
    fn moved(&mut self, held: &[u8], size: usize) -> Result<BytesMut> {
        let free = self.lent.iter().position(Bytes::is_unique);
        let used = free
            .filter(|_| size == BUFFER)
            .and_then(|free| self.lent.remove(free));
        let used = used.and_then(|lent| lent.try_into_mut().ok());
        let mut own = match used {
            Some(used) => used,
            None => with_capacity(size)?,
        };
        let (over, beyond) = held.split_at(held.len().min(own.len()));
        own[..over.len()].copy_from_slice(over);
        own.extend_from_slice(beyond);
        Ok(own)
    }
}

/// Memory for so many bytes, if it can be had; it stays when the buffer lends its bytes and has them back.
fn with_capacity(size: usize) -> Result<BytesMut> {
    let mut bytes = Vec::new();
    memory::reserve(&mut bytes, size)?;
    Ok(BytesMut::from(Bytes::from(bytes)))
}

#[cfg(test)]
mod tests;
