//! Answers off the wire: RESP2, what a server speaks to a client that asked for nothing else, and of RESP3 what the
//! connection that listens for changed keys is sent.
//! <https://redis.io/docs/latest/develop/reference/protocol-spec/>

use std::ops::Range;

use bytes::Bytes;
use redis::{ErrorKind, PushKind, RedisError, Value};

use crate::error;

/// Arrays within arrays: no answer to a command of ours comes near it.
const MAX_DEPTH: usize = 16;
/// Bytes of a line that is no bulk string: an error's text, a number.
const MAX_LINE: usize = 64 * 1024;
/// Bytes of one bulk string: the server's own limit.
const MAX_BULK: usize = 512 * 1024 * 1024;

/// What a server said to one command. A text shares the bytes that it came in, and is not copied.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Text(Bytes),
    Other(Value),
    /// None was received, while other commands of the same request may have been answered; or one that
    /// does not tell what became of an attempt before.
    Lost(error::Error),
}

impl Reply {
    /// The answer itself, or why this command has none that is of use.
    pub(crate) fn checked(self) -> error::Result<Self> {
        match self {
            Self::Other(Value::ServerError(error)) => {
                Err(error::Error::from_redis(&RedisError::from(error)))
            }
            Self::Lost(error) => Err(error),
            reply => Ok(reply),
        }
    }

    /// The answer as a value, an error of the server too; a text is copied.
    pub(in crate::client) fn raw(self) -> error::Result<Value> {
        match self {
            Self::Text(text) => Ok(Value::BulkString(text.into())),
            Self::Other(value) => Ok(value),
            Self::Lost(error) => Err(error),
        }
    }

    /// The answer as a value, if it is no error; a text is copied.
    pub(crate) fn value(self) -> error::Result<Value> {
        self.checked()?.raw()
    }
}

impl From<Value> for Reply {
    fn from(value: Value) -> Self {
        match value {
            Value::BulkString(text) => Self::Text(text.into()),
            other => Self::Other(other),
        }
    }
}

impl Default for Reply {
    fn default() -> Self {
        Self::Other(Value::Nil)
    }
}

/// Errors a server gives for every command alike, having done nothing, while it loads its data or
/// runs a script.
pub(in crate::client) fn refuses_for_now(code: &str) -> bool {
    matches!(code, "LOADING" | "BUSY")
}

/// What sections of INFO say under a name.
pub(crate) fn info_field<'info>(info: &'info str, name: &str) -> Option<&'info str> {
    let mut lines = info.lines().filter_map(|line| line.split_once(':'));
    lines.find_map(|(known, value)| (known == name).then(|| value.trim()))
}

/// The bytes that answers to MEMORY USAGE tell. A key that is gone by now, or a user who may not ask, gives none.
pub(crate) fn memory_usages(replies: impl IntoIterator<Item = Reply>) -> Vec<u64> {
    let usages = replies.into_iter().filter_map(|usage| match usage.value() {
        Ok(Value::Int(bytes)) => Some(bytes.unsigned_abs()),
        _ => None,
    });
    usages.collect()
}

/// What the bytes at hand hold.
#[derive(Debug, PartialEq)]
pub(in crate::client) enum Parsed {
    /// A text, where it is and the bytes it took.
    Text(Range<usize>, usize),
    /// Any other whole answer, and the bytes it took.
    Whole(Value, usize),
    /// The beginning of one, which takes at least so many bytes in all.
    Part(usize),
}

/// Reads the answer that `bytes` begins with.
pub(in crate::client) fn parse(bytes: &[u8]) -> Result<Parsed, RedisError> {
    // What most commands that move no values answer.
    if let [b':', digit @ b'0'..=b'9', b'\r', b'\n', ..] = bytes {
        return Ok(Parsed::Whole(Value::Int(i64::from(digit - b'0')), 4));
    }
    let mut reader = Reader { bytes, at: 0 };
    let parsed = if bytes.first() == Some(&b'$') {
        reader.text_or_nil()
    } else {
        let value = reader.value(0);
        value.map(|value| Parsed::Whole(value, reader.at))
    };
    match parsed {
        Ok(parsed) => Ok(parsed),
        Err(Stop::Part(needed)) => Ok(Parsed::Part(needed)),
        Err(Stop::Malformed(error)) => Err(error),
    }
}

/// Where each command in a request of our own is, and its words.
pub(in crate::client) fn commands(wire: &[u8]) -> impl Iterator<Item = (Range<usize>, Vec<&[u8]>)> {
    let mut reader = Reader { bytes: wire, at: 0 };
    std::iter::from_fn(move || {
        let from = reader.at;
        let words = reader.command().ok()?;
        Some((from..reader.at, words))
    })
}

/// The words of each command in a request of our own.
pub(in crate::client) fn words(wire: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    commands(wire).map(|(_, words)| words)
}

enum Stop {
    Part(usize),
    Malformed(RedisError),
}

fn malformed<T>(what: &'static str) -> Result<T, Stop> {
    Err(Stop::Malformed(RedisError::from((ErrorKind::Parse, what))))
}

struct Reader<'wire> {
    bytes: &'wire [u8],
    at: usize,
}

impl<'wire> Reader<'wire> {
    fn value(&mut self, depth: usize) -> Result<Value, Stop> {
        let start = self.at;
        let line = self.line()?;
        let Some((&kind, text)) = line.split_first() else {
            return malformed("an empty line in the place of an answer");
        };
        match kind {
            b'$' => self.bulk(text),
            b'+' if text == b"OK" => Ok(Value::Okay),
            b'+' => Ok(Value::SimpleString(
                String::from_utf8_lossy(text).into_owned(),
            )),
            b':' => Ok(Value::Int(number(text)?)),
            b'*' => self.array(text, depth),
            b'_' if text.is_empty() => Ok(Value::Nil),
            b'%' => self.map(text, depth),
            b'>' => self.push(text, depth),
            // How an error is taken apart is the redis crate's own business.
            // Servers cut what they quote anywhere, in the middle of a character too.
            b'-' => {
                let error = String::from_utf8_lossy(&self.bytes[start..self.at]);
                redis::parse_redis_value(error.as_bytes()).map_err(Stop::Malformed)
            }
            _ => malformed("an answer of an unknown type: is it a Redis server?"),
        }
    }

    fn line(&mut self) -> Result<&'wire [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let Some(end) = rest.iter().take(MAX_LINE).position(|&byte| byte == b'\n') else {
            if rest.len() >= MAX_LINE {
                return malformed("a line without an end: is it a Redis server?");
            }
            return Err(Stop::Part(self.bytes.len() + 1));
        };
        let Some(line) = rest[..end].strip_suffix(b"\r") else {
            return malformed("a line that does not end as the protocol has it");
        };
        self.at += end + 1;
        Ok(line)
    }

    fn bulk(&mut self, length: &[u8]) -> Result<Value, Stop> {
        let Some(length) = size(length)? else {
            return Ok(Value::Nil);
        };
        Ok(Value::BulkString(self.text(length)?.to_vec()))
    }

    fn text_or_nil(&mut self) -> Result<Parsed, Stop> {
        let line = self.line()?;
        let Some(length) = size(&line[1..])? else {
            return Ok(Parsed::Whole(Value::Nil, self.at));
        };
        let from = self.at;
        self.text(length)?;
        Ok(Parsed::Text(from..from + length, self.at))
    }

    fn text(&mut self, length: usize) -> Result<&'wire [u8], Stop> {
        if length > MAX_BULK {
            return malformed("a longer value than a server can hold");
        }
        let end = self.at + length;
        let Some(ending) = self.bytes.get(end..end + 2) else {
            return Err(Stop::Part(end + 2));
        };
        if ending != b"\r\n" {
            return malformed("a value that does not end where it says");
        }
        let text = &self.bytes[self.at..end];
        self.at = end + 2;
        Ok(text)
    }

    /// A command is an array of texts.
    fn command(&mut self) -> Result<Vec<&'wire [u8]>, Stop> {
        let mut words = Vec::new();
        for _ in 0..self.length()? {
            let length = self.length()?;
            words.push(self.text(length)?);
        }
        Ok(words)
    }

    fn length(&mut self) -> Result<usize, Stop> {
        let line = self.line()?;
        size(line.get(1..).unwrap_or_default())?.map_or_else(|| malformed("no length"), Ok)
    }

    fn array(&mut self, length: &[u8], depth: usize) -> Result<Value, Stop> {
        match size(length)? {
            Some(length) => self.items(length, depth).map(Value::Array),
            None => Ok(Value::Nil),
        }
    }

    fn map(&mut self, length: &[u8], depth: usize) -> Result<Value, Stop> {
        let length = size(length)?.and_then(|pairs| pairs.checked_mul(2));
        let Some(length) = length else {
            return malformed("no length");
        };
        let mut items = self.items(length, depth)?.into_iter();
        let pairs = std::iter::from_fn(|| items.next().zip(items.next()));
        Ok(Value::Map(pairs.collect()))
    }

    /// What nobody asked for: its kind, and what there is to say.
    fn push(&mut self, length: &[u8], depth: usize) -> Result<Value, Stop> {
        let Some(length) = size(length)? else {
            return malformed("no length");
        };
        let mut items = self.items(length, depth)?;
        let kind = match items.first() {
            Some(Value::BulkString(kind)) if kind == b"invalidate" => PushKind::Invalidate,
            Some(Value::BulkString(kind)) => {
                PushKind::Other(String::from_utf8_lossy(kind).into_owned())
            }
            _ => return malformed("a push of no kind"),
        };
        let data = items.split_off(1);
        Ok(Value::Push { kind, data })
    }

    fn items(&mut self, length: usize, depth: usize) -> Result<Vec<Value>, Stop> {
        if depth == MAX_DEPTH {
            return malformed("arrays nested too deep");
        }
        // Not made that long ahead: the number is the peer's word, the bytes are not here yet.
        let mut items = Vec::with_capacity(length.min(1024));
        for _ in 0..length {
            items.push(self.value(depth + 1)?);
        }
        Ok(items)
    }
}

fn number(text: &[u8]) -> Result<i64, Stop> {
    let number = std::str::from_utf8(text)
        .ok()
        .and_then(|text| text.parse().ok());
    number.map_or_else(|| malformed("a number that is none"), Ok)
}

/// A length; None for -1, which stands for nil.
fn size(text: &[u8]) -> Result<Option<usize>, Stop> {
    match number(text)? {
        -1 => Ok(None),
        length => usize::try_from(length).map_or_else(
            |_| malformed("a length below zero"),
            |length| Ok(Some(length)),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWERS: &[u8] =
        b"+OK\r\n:-7\r\n$5\r\na\r\nbc\r\n$-1\r\n*2\r\n$1\r\n0\r\n*1\r\n+x\r\n$0\r\n\r\n";

    fn all(mut bytes: &[u8]) -> Vec<Value> {
        let mut values = Vec::new();
        while !bytes.is_empty() {
            let taken = match parse(bytes).unwrap() {
                Parsed::Text(place, taken) => {
                    values.push(Value::BulkString(bytes[place].to_vec()));
                    taken
                }
                Parsed::Whole(value, taken) => {
                    values.push(value);
                    taken
                }
                Parsed::Part(_) => panic!("cut short: {bytes:?}"),
            };
            bytes = &bytes[taken..];
        }
        values
    }

    #[test]
    fn each_type_of_answer_is_read() {
        let text = |bytes: &[u8]| Value::BulkString(bytes.to_vec());
        let nested = Value::Array(vec![Value::SimpleString("x".to_owned())]);
        assert_eq!(
            all(ANSWERS),
            [
                Value::Okay,
                Value::Int(-7),
                text(b"a\r\nbc"),
                Value::Nil,
                Value::Array(vec![text(b"0"), nested]),
                text(b""),
            ]
        );
    }

    #[test]
    fn the_text_of_an_error_may_have_64_kb() {
        let text = "x".repeat(65_000);
        let Parsed::Whole(Value::ServerError(error), _) =
            parse(format!("-ERR {text}\r\n").as_bytes()).unwrap()
        else {
            panic!("no error");
        };
        assert_eq!(error.details(), Some(&*text));
    }

    #[test]
    fn an_error_keeps_its_code() {
        let Parsed::Whole(Value::ServerError(error), 15) = parse(b"-WRONGTYPE no\r\n").unwrap()
        else {
            panic!("no error");
        };
        assert_eq!(error.code(), "WRONGTYPE");
    }

    #[test]
    fn an_answer_cut_anywhere_is_a_part_that_asks_for_more_than_there_is() {
        let mut from = 0;
        while from < ANSWERS.len() {
            let taken = match parse(&ANSWERS[from..]).unwrap() {
                Parsed::Text(_, taken) | Parsed::Whole(_, taken) => taken,
                Parsed::Part(_) => panic!("cut short"),
            };
            for length in 0..taken {
                let Parsed::Part(needed) = parse(&ANSWERS[from..from + length]).unwrap() else {
                    panic!("whole with {length} of {taken} bytes");
                };
                assert!(needed > length && needed <= taken.max(length + 1));
            }
            from += taken;
        }
    }

    #[test]
    fn what_is_no_answer_is_an_error_and_no_panic() {
        let deep = b"*1\r\n".repeat(MAX_DEPTH + 1);
        let long = vec![b'+'; MAX_LINE];
        for bytes in [
            &b"\r\n"[..],
            b"HTTP/1.1\r\n",
            b"+no end\n",
            b":one\r\n",
            b"$-2\r\n",
            b"$1\r\nabc",
            b"$99999999999\r\n",
            b"*-3\r\n",
            b"_x\r\n",
            b"%-1\r\n",
            b">0\r\n",
            &deep,
            &long,
        ] {
            assert!(parse(bytes).is_err(), "{bytes:?}");
        }
    }

    // What the redis crate reads is read alike, except that it knows more types.
    #[test]
    fn whatever_comes_is_a_whole_answer_a_part_of_one_or_an_error() {
        let words: [&[u8]; 7] = [b"\r\n", b"$-1", b"*", b"$", b"+OK", b"2147483648", b"-"];
        crate::fuzz::fuzz("replies", &words, |bytes, chance| match parse(bytes) {
            Ok(Parsed::Part(needed)) => assert!(needed > bytes.len()),
            Ok(whole) => {
                let (value, taken) = match whole {
                    Parsed::Text(place, taken) => (Value::BulkString(bytes[place].to_vec()), taken),
                    Parsed::Whole(value, taken) => (value, taken),
                    Parsed::Part(_) => unreachable!(),
                };
                assert!(taken <= bytes.len());
                let cut = parse(&bytes[..chance.below(taken)]);
                assert!(matches!(cut, Ok(Parsed::Part(_))), "{cut:?}");
                if let Ok(theirs) = redis::parse_redis_value(&bytes[..taken]) {
                    assert_eq!(value, theirs);
                }
            }
            Err(_) => {}
        });
    }

    #[test]
    fn a_value_may_be_as_long_as_a_server_holds_and_no_longer() {
        let Ok(Parsed::Part(needed)) = parse(format!("${MAX_BULK}\r\n").as_bytes()) else {
            panic!("it has only begun");
        };
        assert_eq!(needed, "$536870912\r\n".len() + MAX_BULK + 2);
        assert!(parse(format!("${}\r\n", MAX_BULK + 1).as_bytes()).is_err());
    }

    #[test]
    fn a_push_has_its_kind() {
        for (name, kind) in [
            ("invalidate", PushKind::Invalidate),
            ("news", PushKind::Other("news".to_owned())),
        ] {
            let said = format!(">2\r\n${}\r\n{name}\r\n:1\r\n", name.len());
            let data = vec![Value::Int(1)];
            let push = Value::Push { kind, data };
            assert_eq!(
                parse(said.as_bytes()).unwrap(),
                Parsed::Whole(push, said.len())
            );
        }
    }

    #[test]
    fn a_server_that_loads_its_data_or_runs_a_script_refuses_for_now() {
        let refusing = ["LOADING", "BUSY", "ERR", "BUSYKEY", "OOM"].map(refuses_for_now);
        assert_eq!(refusing, [true, true, false, false, false]);
    }
}
