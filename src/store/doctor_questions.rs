//! What a diagnosis asks of the server: read-only, but for the one repair that is a command.

use redis::Value;

use super::{KvStore, batches, first};
use crate::client::{Request, command};
use crate::error::Result;

/// What a server says about a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspected {
    /// `string` for every value of ours; `none` for a key that is gone.
    pub kind: String,
    /// Milliseconds that it still lives; None is for ever.
    pub ttl: Option<u64>,
}

impl KvStore {
    /// A section of INFO from each primary: its address and the text.
    pub async fn info(&self, section: &str) -> Result<Vec<(String, String)>> {
        let info = Request::resendable([command("INFO", [section.as_bytes()])]);
        let mut sections = Vec::new();
        for node in self.primaries().await? {
            let reply = self.reply(first(self.send_to(&node, &info).await?))?;
            let text = redis::from_redis_value(reply).map_err(|_| self.unexpected("INFO"))?;
            sections.push((node.endpoint().to_string(), text));
        }
        Ok(sections)
    }

    /// The type and the time to live of each key, whatever namespace it is of.
    pub async fn inspect(&self, keys: Vec<Vec<u8>>) -> Result<Vec<Inspected>> {
        let mut looked = Vec::with_capacity(keys.len());
        for chunk in batches(&keys) {
            let asked = chunk
                .iter()
                .flat_map(|key| [command("TYPE", [&**key]), command("PTTL", [&**key])]);
            let mut replies = self.send(&Request::resendable(asked)).await?.into_iter();
            while let (Some(kind), Some(ttl)) = (replies.next(), replies.next()) {
                let kind = redis::from_redis_value(self.reply(kind)?)
                    .map_err(|_| self.unexpected("TYPE"))?;
                let Value::Int(ttl) = self.reply(ttl)? else {
                    return Err(self.unexpected("PTTL"));
                };
                let ttl = u64::try_from(ttl).ok(); // -1: it lives for ever; -2: it is gone
                looked.push(Inspected { kind, ttl });
            }
        }
        Ok(looked)
    }

    /// Takes the time to live from the ids, and counts those that had one.
    pub async fn persist(&self, ids: Vec<String>) -> Result<u64> {
        self.begin_feed();
        let mut recorded = self.record("persist");
        let mut changed = 0;
        for chunk in batches(&ids) {
            let persist = chunk.iter().map(|id| command("PERSIST", [&*self.key(id)]));
            let replies = self.send(&Request::resendable(persist)).await?;
            for (id, reply) in chunk.iter().zip(replies) {
                if self.reply(reply)? == Value::Int(1) {
                    changed += 1;
                    if let Some(recorded) = &mut recorded {
                        recorded.id(id);
                    }
                }
            }
        }
        Ok(changed)
    }
}
