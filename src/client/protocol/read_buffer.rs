//! The bytes that have come in on a direct connection, and the answers they hold.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use redis::RedisError;

use super::resp::{Parsed, parse};
use crate::client::Reply;

/// Bytes read at a time: they are decoded while they are in the processor's cache.
const BUFFER: usize = 256 * 1024;

/// Buffers that are kept to be used again: about what a batch has under way.
const KEPT: usize = 8;

/// A buffer that lends its bytes to the answers made of them. It is used again when all of them
/// are gone, as they are once they are decoded; meanwhile another takes its place.
#[derive(Default)]
pub(in crate::client) struct ReadBuffer {
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
    /// Space for the rest of the answer that is begun, and never none.
    pub(in crate::client) fn free_space(&mut self) -> &mut [u8] {
        let held = self.filled - self.taken;
        let least = self.needed.max(held + 1);
        // An array does not say how long it is: doubled, it is not copied at each read.
        let wanted = least
            .max(BUFFER)
            .max(if held < BUFFER { 0 } else { held * 2 });
        let bytes = std::mem::take(&mut self.bytes);
        self.own = match bytes.try_into_mut() {
            Ok(mut own) if own.len() >= least => {
                own.copy_within(self.taken..self.filled, 0);
                own
            }
            Ok(old) => self.moved(&old[self.taken..self.filled], wanted),
            Err(lent) => {
                let own = self.moved(&lent[self.taken..self.filled], wanted);
                if lent.len() == BUFFER {
                    self.lent.truncate(KEPT - 1);
                    self.lent.push_front(lent);
                }
                own
            }
        };
        (self.taken, self.filled) = (0, held);
        &mut self.own[held..]
    }

    /// Whether bytes are left that belong to no whole answer.
    pub(in crate::client) fn has_rest(&self) -> bool {
        self.taken < self.filled
    }

    /// So many bytes were written into the room.
    pub(in crate::client) fn received(&mut self, count: usize) {
        self.filled += count;
        self.bytes = std::mem::take(&mut self.own).freeze();
    }

    /// The next whole answer, if there is one.
    pub(in crate::client) fn reply(&mut self) -> Result<Option<Reply>, RedisError> {
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
    fn moved(&mut self, held: &[u8], size: usize) -> BytesMut {
        let free = self.lent.iter().position(Bytes::is_unique);
        let used = free
            .filter(|_| size == BUFFER)
            .and_then(|free| self.lent.remove(free));
        let used = used.and_then(|lent| lent.try_into_mut().ok());
        let mut own = used.unwrap_or_else(|| BytesMut::zeroed(size));
        own[..held.len()].copy_from_slice(held);
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every answer of these bytes, which come in pieces that are at most so long, and whether
    /// they end in an error.
    fn answers_in(bytes: &[u8], mut piece: impl FnMut() -> usize) -> (String, bool) {
        let (mut read_buffer, mut all) = (ReadBuffer::default(), Vec::new());
        let mut rest = bytes;
        while !rest.is_empty() {
            let free_space = read_buffer.free_space();
            let length = rest.len().min(free_space.len()).min(piece());
            free_space[..length].copy_from_slice(&rest[..length]);
            rest = &rest[length..];
            read_buffer.received(length);
            loop {
                match read_buffer.reply() {
                    Ok(Some(reply)) => all.push(reply),
                    Ok(None) => break,
                    Err(_) => return (format!("{all:?}"), true),
                }
            }
        }
        (format!("{all:?}"), false)
    }

    #[test]
    fn whatever_way_their_bytes_were_cut_answers_are_the_same() {
        let words: [&[u8]; 5] = [b"\r\n", b"$3\r\nabc\r\n", b"+OK\r\n", b"*2\r\n", b":1\r\n"];
        crate::fuzz::fuzz("replies", &words, |bytes, chance| {
            let longest = 1 + chance.below(20);
            let cut = answers_in(bytes, || 1 + chance.below(longest));
            assert_eq!(cut, answers_in(bytes, || usize::MAX));
        });
    }
}
