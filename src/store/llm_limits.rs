//! A rate limit that all workers share: one script over one hash, which decides by the server's clock.
//!
//! One key, so that a cluster runs it where the key is. A request that was answered and whose answer was lost is sent
//! again: it may reserve twice, which costs others a turn and never lets more through.

use std::sync::LazyLock;

use redis::{Script, Value};

use super::{KvStore, first};
use crate::client::{Reply, Request, command};
use crate::error::Result;

/// What the script is and takes stands in it.
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(SOURCE));
const SOURCE: &str = include_str!("llm_limits.lua");

impl KvStore {
    /// Runs the script of the limit of this name; gives what it returns.
    pub async fn limit(&self, name: &str, words: &[String]) -> Result<Vec<i64>> {
        // Beside the namespaces: no value, and no id.
        let key = self.config.keyspace.key_beside(&format!("limit:{name}"));
        let reply = self.run("EVALSHA", SCRIPT.get_hash(), &key, words).await?;
        let reply = if is_unknown_script(&reply) {
            self.run("EVAL", SOURCE, &key, words).await?
        } else {
            reply
        };
        match self.reply(reply)? {
            Value::Array(numbers) => numbers
                .into_iter()
                .map(|number| match number {
                    Value::Int(number) => Ok(number),
                    _ => Err(self.unexpected("EVALSHA")),
                })
                .collect(),
            _ => Err(self.unexpected("EVALSHA")),
        }
    }

    async fn run(&self, name: &str, script: &str, key: &[u8], words: &[String]) -> Result<Reply> {
        let arguments = [script.as_bytes(), b"1", key].into_iter();
        let run = command(name, arguments.chain(words.iter().map(String::as_bytes)));
        Ok(first(self.send(&Request::resendable([run])).await?))
    }
}

/// Whether the server has not seen the script yet, or has forgotten it.
fn is_unknown_script(reply: &Reply) -> bool {
    matches!(reply, Reply::Other(Value::ServerError(error)) if error.code() == "NOSCRIPT")
}
