//! What a server said to one command.

use bytes::Bytes;
use redis::{RedisError, Value};

use crate::error::{Error, Result};

/// An answer. A text shares the bytes that it came in, and is not copied.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    Text(Bytes),
    Other(Value),
}

impl Answer {
    /// The answer itself, or the error the server gave for this command alone.
    pub(crate) fn checked(self) -> Result<Self> {
        match self {
            Self::Other(value) => answer(value).map(Self::Other),
            text @ Self::Text(_) => Ok(text),
        }
    }
}

impl From<Value> for Answer {
    fn from(value: Value) -> Self {
        match value {
            Value::BulkString(text) => Self::Text(text.into()),
            other => Self::Other(other),
        }
    }
}

impl From<Answer> for Value {
    fn from(answer: Answer) -> Self {
        match answer {
            Answer::Text(text) => Self::BulkString(text.into()),
            Answer::Other(value) => value,
        }
    }
}

/// The same of a value.
pub(crate) fn answer(value: Value) -> Result<Value> {
    match value {
        Value::ServerError(error) => Err(Error::from_redis(&RedisError::from(error))),
        value => Ok(value),
    }
}

/// Errors a server gives for every command alike, having done nothing, while it loads its data or
/// runs a script.
pub(super) fn refuses_for_now(code: &str) -> bool {
    matches!(code, "LOADING" | "BUSY")
}
