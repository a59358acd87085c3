//! What is sent: commands that leave together and whose answers come back together.

use redis::{Cmd, Pipeline, RedisError, Value};

use crate::error::{Error, Result};

/// One or more commands, sent at once over one connection and answered in order.
pub(crate) struct Request {
    pub(super) pipeline: Pipeline,
    pub(super) resendable: bool,
}

impl Request {
    /// A request that may be sent again when its answer was lost: reads, and writes of one value.
    pub(crate) fn resendable(commands: impl IntoIterator<Item = Cmd>) -> Self {
        let mut pipeline = Pipeline::new();
        for command in commands {
            pipeline.add_command(command);
        }
        Self {
            pipeline,
            resendable: true,
        }
    }

    /// A request that is sent once: a second answer would lie about what the first attempt did.
    pub(crate) fn once(command: Cmd) -> Self {
        Self {
            resendable: false,
            ..Self::resendable([command])
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

/// The answer of one command: a value, or the error the server gave for this command alone.
pub(crate) fn answer(value: Value) -> Result<Value> {
    match value {
        Value::ServerError(error) => Err(Error::from_redis(&RedisError::from(error))),
        value => Ok(value),
    }
}
