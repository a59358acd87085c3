//! What is sent: commands that leave together and whose answers come back together.

use bytes::Bytes;
use redis::{Arg, Cmd};

use super::resp_parser;
use crate::error::Result;
use crate::memory;

/// Bytes of the wire around a word at most: its length, and what ends both.
const HEAD: usize = 32;

/// One or more commands as the bytes of the wire, sent at once and answered in order.
pub(crate) struct Request {
    /// In parts, so that what is large is not copied to have something put before it. A part takes
    /// effect after the one before it; within one, only commands on the same key keep their order.
    pub(in crate::client) wire: Vec<Bytes>,
    pub(in crate::client) replies: usize,
    pub(in crate::client) resendable: bool,
    /// Whether it changes values, so that, sent again, it may undo what another has written since.
    pub(in crate::client) writes: bool,
}

/// Commands from which on a request is a batch.
const BATCH: usize = 16;

/// Whether a command of this name changes values.
fn writes(name: &[u8]) -> bool {
    matches!(name, b"SET" | b"UNLINK" | b"PERSIST")
}

impl Request {
    /// A request that may be sent again when its answer was lost: reads, and writes of one value.
    pub(crate) fn resendable(commands: impl IntoIterator<Item = Cmd>) -> Self {
        let mut packed = Commands::default();
        for command in commands {
            packed.extend([&command]);
        }
        packed.resendable()
    }

    /// A request that is sent once: a second answer would lie about what the first attempt did.
    pub(crate) fn once(command: &Cmd) -> Self {
        let mut packed = Commands::default();
        packed.extend([command]);
        packed.once()
    }

    /// Whether it holds no command. The server says nothing to that, so nobody may wait for it:
    /// a reader that counts answers would never be done, and keep those of others waiting.
    pub(crate) fn is_empty(&self) -> bool {
        self.replies == 0
    }

    /// Whether it asks for more than one or a few ids.
    pub(crate) fn is_batch(&self) -> bool {
        self.replies >= BATCH
    }

    /// This request, to be sent once.
    pub(in crate::client) fn to_be_sent_once(&self) -> Self {
        Self {
            wire: self.wire.clone(),
            resendable: false,
            ..*self
        }
    }
}

/// Commands written straight into the bytes of a request.
#[derive(Default)]
pub(crate) struct Commands {
    wire: Vec<u8>,
    count: usize,
    writes: bool,
}

impl Commands {
    /// For about so many bytes.
    pub(crate) fn with_capacity(bytes: usize) -> Self {
        let mut commands = Self::default();
        // Where they cannot be had, it grows with what comes, as far as it can.
        let _ = commands.reserve(bytes);
        commands
    }

    /// Adds a command on one key, which is given in two parts.
    pub(crate) fn add(&mut self, name: &str, key: (&str, &str), arguments: &[&[u8]]) {
        self.writes |= writes(name.as_bytes());
        let (prefix, id) = key;
        let words = arguments.iter().map(|argument| argument.len() + HEAD);
        let words = words.sum::<usize>() + name.len() + HEAD;
        memory::claim(&mut self.wire, words + prefix.len() + id.len() + 2 * HEAD);
        self.head(b'*', 2 + arguments.len());
        self.head(b'$', name.len());
        self.wire.extend_from_slice(name.as_bytes());
        self.wire.extend_from_slice(b"\r\n");
        self.key(prefix, id);
        for argument in arguments {
            self.head(b'$', argument.len());
            self.wire.extend_from_slice(argument);
            self.wire.extend_from_slice(b"\r\n");
        }
        self.count += 1;
    }

    /// Adds a command of this name on the key of each id, without further arguments.
    pub(crate) fn add_each<'id>(
        &mut self,
        name: &str,
        prefix: &str,
        ids: impl Iterator<Item = &'id str>,
    ) {
        self.writes |= writes(name.as_bytes());
        let mut beginning = Self::default();
        beginning.head(b'*', 2);
        beginning.head(b'$', name.len());
        beginning.wire.extend_from_slice(name.as_bytes());
        beginning.wire.extend_from_slice(b"\r\n");
        for id in ids {
            let bytes = beginning.wire.len() + prefix.len() + id.len() + HEAD;
            memory::claim(&mut self.wire, bytes);
            self.wire.extend_from_slice(&beginning.wire);
            self.key(prefix, id);
            self.count += 1;
        }
    }

    fn key(&mut self, prefix: &str, id: &str) {
        self.head(b'$', prefix.len() + id.len());
        self.wire.extend_from_slice(prefix.as_bytes());
        self.wire.extend_from_slice(id.as_bytes());
        self.wire.extend_from_slice(b"\r\n");
    }

    /// Adds these commands.
    pub(crate) fn extend<'a>(&mut self, commands: impl IntoIterator<Item = &'a Cmd>) {
        for command in commands {
            if let Some(Arg::Simple(name)) = command.args_iter().next() {
                self.writes |= writes(name);
            }
            let words = command.args_iter().map(|word| match word {
                Arg::Simple(word) => word.len() + HEAD,
                _ => 2 * HEAD, // a cursor
            });
            memory::claim(&mut self.wire, words.sum::<usize>() + HEAD);
            command.write_packed_command(&mut self.wire);
            self.count += 1;
        }
    }

    fn head(&mut self, kind: u8, number: usize) {
        self.wire.push(kind);
        let mut digits = itoa::Buffer::new();
        self.wire
            .extend_from_slice(digits.format(number).as_bytes());
        self.wire.extend_from_slice(b"\r\n");
    }

    /// Makes room for so many bytes more, if there is memory for them.
    pub(crate) fn reserve(&mut self, bytes: usize) -> Result<()> {
        memory::reserve(&mut self.wire, bytes)
    }

    /// Adds those of another.
    pub(crate) fn join(&mut self, others: &Self) {
        memory::claim(&mut self.wire, others.wire.len());
        self.wire.extend_from_slice(&others.wire);
        self.count += others.count;
        self.writes |= others.writes;
    }

    /// The argument of this number of each command, whose name is number 0.
    pub(crate) fn arguments(&self, number: usize) -> impl Iterator<Item = &[u8]> {
        resp_parser::words(&self.wire).filter_map(move |words| words.get(number).copied())
    }

    /// See [`Request::resendable`].
    pub(crate) fn resendable(self) -> Request {
        Self::in_order([self])
    }

    /// See [`Request::once`].
    pub(crate) fn once(self) -> Request {
        Request {
            resendable: false,
            ..Self::in_order([self])
        }
    }

    /// One request that may be sent again of several groups of commands: no command takes effect
    /// before those of the groups before its own.
    pub(crate) fn in_order<const GROUPS: usize>(groups: [Self; GROUPS]) -> Request {
        let replies = groups.iter().map(|group| group.count).sum();
        let writes = groups.iter().any(|group| group.writes);
        let filled = groups.into_iter().filter(|group| group.count > 0);
        Request {
            wire: filled.map(|group| group.wire.into()).collect(),
            replies,
            resendable: true,
            writes,
        }
    }
}

/// A command by name, with its arguments.
pub(crate) fn command<'a>(name: &str, arguments: impl IntoIterator<Item = &'a [u8]>) -> Cmd {
    let mut command = redis::cmd(name);
    for argument in arguments {
        command.arg(argument);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_written_straight_are_those_the_redis_crate_writes() {
        let value = b"two\r\nlines".as_slice();
        let mut straight = Commands::default();
        straight.add("SET", ("p:n:", "\u{e9}"), &[value, b"EX", b"60"]);
        straight.add_each("GET", "p:n:", [""].into_iter());
        let request = straight.resendable();
        let mut set = command("SET", ["p:n:\u{e9}".as_bytes(), value]);
        set.arg("EX").arg(60);
        let packed = Request::resendable([set, command("GET", [&b"p:n:"[..]])]);
        assert_eq!(request.wire, packed.wire);
        assert_eq!(request.replies, 2);
        assert!(request.writes && packed.writes && !request.to_be_sent_once().resendable);
        assert!(!Request::resendable([command("GET", [&b"p:n:"[..]])]).writes);
    }

    fn commands(name: &str) -> Commands {
        let mut commands = Commands::default();
        commands.add(name, ("p:", "a"), &[]);
        commands
    }

    #[test]
    fn commands_that_are_joined_are_counted_and_write_if_one_of_them_does() {
        for (names, writing) in [
            (["GET", "SET"], true),
            (["SET", "GET"], true),
            (["GET", "TTL"], false),
        ] {
            let [mut joined, other] = names.map(commands);
            joined.join(&other);
            let request = joined.resendable();
            assert_eq!((request.replies, request.writes), (2, writing), "{names:?}");
            let wire = names.map(|name| commands(name).wire).concat();
            assert_eq!(request.wire, [wire]);
        }
    }

    #[test]
    fn a_group_without_commands_is_no_part_of_what_is_sent() {
        let request =
            Commands::in_order([Commands::default(), commands("GET"), Commands::default()]);
        assert_eq!((request.wire.len(), request.replies), (1, 1));
        assert!(Commands::default().resendable().is_empty());
    }

    #[test]
    fn commands_take_about_as_much_memory_as_their_words_of_any_length() {
        for lengths in (0..16).map(|bits: usize| [0, 1, 2, 3].map(|bit| bits >> bit & 1)) {
            let [name, prefix, id, argument] = lengths.map(|long| "x".repeat(1 + long * 5_000));
            let mut one = Commands::default();
            one.add(&name, (&prefix, &id), &[argument.as_bytes()]);
            let mut each = Commands::default();
            each.add_each(&name, &prefix, [&*id].into_iter());
            let mut packed = Commands::default();
            packed.extend([&command(&name, [id.as_bytes()])]);
            for commands in [one, each, packed] {
                let (length, capacity) = (commands.wire.len(), commands.wire.capacity());
                assert!(capacity <= length + 5 * HEAD, "{capacity} for {length}");
            }
        }
    }

    #[test]
    fn room_that_is_not_to_be_had_is_refused_and_what_is_asked_for_in_advance_is_there() {
        let refused = Commands::default().reserve(usize::MAX);
        assert_eq!(refused.unwrap_err().kind(), crate::error::Kind::Memory);
        assert!(Commands::with_capacity(1_000).wire.capacity() >= 1_000);
    }
}
