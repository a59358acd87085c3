//! The writes of `migrate`: what is copied to the server, what replaces another value there, and how long it lives.

use std::sync::Arc;

use redis::Value;

use super::KvStore;
use crate::client::Commands;
use crate::error::{Error, Kind, Result};
use crate::files::change_log::Mark;
use crate::json::{Layout, rewrite};
use crate::value::admit;

/// What became of a value that was copied to the server.
#[derive(Clone, Debug)]
pub enum Copied {
    /// It was not there.
    Written,
    /// Another value was there; the new one has what was left of its time to live.
    Replaced,
    /// It was there, and was left alone.
    Unchanged,
    /// It cannot be stored.
    Refused(Error),
}

impl KvStore {
    /// Writes those of the values that are not there or differ, without the near cache. An id that
    /// is there keeps its remaining time to live. `dry` writes nothing and tells what it would do.
    pub(crate) async fn copy(
        self: &Arc<Self>,
        ids: &[String],
        values: &[Vec<u8>],
        dry: bool,
    ) -> Result<Vec<Copied>> {
        let found = self.fetch(ids).await?;
        let mut fates = Vec::with_capacity(ids.len());
        for ((id, json), found) in ids.iter().zip(values).zip(found) {
            fates.push(match (admit(json, self.config.max_value_bytes), found) {
                (Err(error), _) => Copied::Refused(error.about(id)),
                (_, Ok(None)) => Copied::Written,
                (_, Ok(Some(there))) if is_same(json, &there) => Copied::Unchanged,
                (_, Ok(Some(_))) => Copied::Replaced,
                // What cannot be read is replaced by what can; a key of another type is not ours.
                (_, Err(error)) if error.kind() == Kind::Corrupt => Copied::Replaced,
                (_, Err(error)) => return Err(error),
            });
        }
        if !dry {
            self.begin_feed();
            self.write_copies(ids, values, &fates).await?;
            if let Some(mut recorded) = self.record("import") {
                for (id, fate) in ids.iter().zip(&fates) {
                    if matches!(fate, Copied::Written | Copied::Replaced) {
                        recorded.id(id);
                    }
                }
            }
        }
        Ok(fates)
    }

    async fn write_copies(
        self: &Arc<Self>,
        ids: &[String],
        values: &[Vec<u8>],
        fates: &[Copied],
    ) -> Result<()> {
        let chosen = |wanted: fn(&Copied) -> bool| {
            let rows = ids.iter().zip(values).zip(fates);
            rows.filter(move |(_, fate)| wanted(fate))
                .map(|(row, _)| row)
        };
        let mut absent: Vec<_> = chosen(|fate| matches!(fate, Copied::Written)).collect();
        let there: Vec<_> = chosen(|fate| matches!(fate, Copied::Replaced)).collect();
        let _change = self.change(there.iter().chain(&absent).map(|(id, _)| id.as_str()));
        if !there.is_empty() {
            let ids: Vec<String> = there.iter().map(|(id, _)| (*id).clone()).collect();
            // Left as it is: an answer does not say whether the value was set.
            let _tracker = self.track_write(Mark::SetAsked, &ids);
            let mut sets = Commands::default();
            for (id, json) in &there {
                let stored = self.config.compression.compress(json)?;
                let key = (self.config.keyspace.prefix(), id.as_str());
                sets.add("SET", key, &[&stored, b"XX", b"KEEPTTL"]);
            }
            let replies = self.send(&sets.resendable()).await?;
            for (row, reply) in there.iter().zip(replies) {
                // It has expired since it was looked at.
                if self.reply(reply)? == Value::Nil {
                    absent.push(*row);
                }
            }
            self.score_anew(there.iter().map(|(id, _)| id.as_str()))
                .await?;
        }
        if !absent.is_empty() {
            let mut batch = super::Batch::new(absent.iter().map(|(_, json)| json.len()).sum());
            for (id, json) in absent {
                batch.add(self, id.clone(), json)?;
            }
            let (_, outcomes) = self.upsert(batch).await;
            outcomes?.into_iter().collect::<Result<()>>()?;
        }
        Ok(())
    }
}

/// Whether two documents are the same to `json.loads`.
fn is_same(json: &[u8], there: &[u8]) -> bool {
    if json == there {
        return true;
    }
    let (mut one, mut other) = (Vec::new(), Vec::new());
    rewrite(json, Layout::Sorted, &mut one).is_ok()
        && rewrite(there, Layout::Sorted, &mut other).is_ok()
        && one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_the_same_however_they_are_written_and_one_that_is_none_is_like_no_other() {
        for (json, there, same) in [
            (r#"{"a":1,"b":[2]}"#, r#"{ "b": [2], "a": 1 }"#, true),
            ("\"\u{e9}\"", r#""\u00e9""#, true),
            ("1", "2", false),
            ("1", "1 x", false),
            ("1", "", false),
            ("[1", "[ 1", false),
            ("1 x", "1", false),
        ] {
            assert_eq!(is_same(json.as_bytes(), there.as_bytes()), same, "{there}");
        }
    }
}
