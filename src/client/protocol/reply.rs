//! What a server said to one command.

use bytes::Bytes;
use redis::{RedisError, Value};

use crate::error::{Error, Result};

/// An answer. A text shares the bytes that it came in, and is not copied.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    Text(Bytes),
    Other(Value),
    /// None was received, while other commands of the same request may have been answered; or one that
    /// does not tell what became of an attempt before.
    Lost(Error),
}

impl Reply {
    /// The answer itself, or why this command has none that is of use.
    pub(crate) fn checked(self) -> Result<Self> {
        match self {
            Self::Other(Value::ServerError(error)) => {
                Err(Error::from_redis(&RedisError::from(error)))
            }
            Self::Lost(error) => Err(error),
            reply => Ok(reply),
        }
    }

    /// The same as a value; a text is copied.
    pub(crate) fn value(self) -> Result<Value> {
        Ok(match self.checked()? {
            Self::Text(text) => Value::BulkString(text.into()),
            Self::Other(value) => value,
            Self::Lost(error) => return Err(error),
        })
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
