//! The levels `fsync`: what the server has in its append-only file, on the disk.
//!
//! WAITAOF alone is not believed. Redis from 7.2.2 on until 8.0, and Valkey up to 9.1 at least,
//! answer it before the file is synced when `appendfsync` is `everysec`
//! (<https://github.com/redis/redis/pull/13793>), and Redis 7.0 has none. So it is asked where there
//! is one, for what it refuses and for the replicas, and the file itself is watched through INFO.

use std::time::Duration;

use redis::{RedisError, ServerError, Value};
use tokio::time::{Instant, sleep, timeout_at};

use super::wait::{AttemptError, BarrierSession, Facts, checked, mark, milliseconds};
use crate::client::command;
use crate::config::ServerConfig;
use crate::config::durability::Durability;

/// Time after which `everysec` has a sync begun, a turn of the server's clock included.
const EVERY_SECOND: Duration = Duration::from_millis(1100);
/// Pause between two checks while the file is being synced.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

const OFF: &str = "its append-only file is off: CONFIG SET appendonly yes, and the same in its configuration file";
const FAILED: &str =
    "its last write to the append-only file failed: see its log, as a rule the disk is full";
const UNKNOWN: &str = "it has no WAITAOF, and this user may not ask for appendfsync, so that whether its append-only file is ever synced is unknown: grant CONFIG|GET, or use Redis 7.2 or newer or Valkey";
const FORBIDDEN: &str = "whether its append-only file is synced is told by INFO, which this user may not ask: grant INFO, or grant CONFIG|GET and set appendfsync always";
const LATE: &str = "the append-only file was not synced within redis_durability_timeout, of which appendfsync everysec takes a second or two";

impl BarrierSession {
    pub(super) async fn wait_for_disk(
        &mut self,
        config: &ServerConfig,
        marker: &[u8],
        replicas: u32,
    ) -> Result<(), AttemptError> {
        let unmet = |achieved, why: &str| {
            let why = format!("{}: {why}", config.endpoint);
            AttemptError::Refused(config.durability.unmet(achieved, why))
        };
        let deadline = Instant::now() + config.durability_timeout;
        let mut wait = redis::cmd("WAITAOF");
        wait.arg(1)
            .arg(replicas)
            .arg(milliseconds(config.durability_timeout));
        let setting = |name: &str| command("CONFIG", [b"GET", name.as_bytes()]);
        let asked = [
            mark(marker),
            setting("appendonly"),
            setting("appendfsync"),
            setting("no-appendfsync-on-rewrite"),
            wait,
        ];
        let patience = config.durability_timeout + config.socket_timeout;
        let [written, file, when, rewriting, synced] = self.ask(asked, patience).await?;
        checked(written)?;
        if value_of(file).as_deref() == Some("no") {
            return Err(unmet(Durability::Ack, OFF));
        }
        let mut has_waitaof = true;
        match synced {
            Value::ServerError(error) if says(&error, "unknown command") => {
                has_waitaof = false;
                if replicas > 0 {
                    let why = "it has no WAITAOF, so that what its replicas have on their disks is unknown: use Redis 7.2 or newer or Valkey, or redis_durability=fsync";
                    return Err(unmet(Durability::Ack, why));
                }
            }
            Value::ServerError(error) if says(&error, "appendonly is disabled") => {
                return Err(unmet(Durability::Ack, OFF));
            }
            reply => {
                let confirmed = redis::from_redis_value(checked(reply)?);
                let (here, there): (u32, u32) = confirmed.map_err(RedisError::from)?;
                if here == 0 {
                    return Err(unmet(Durability::Replicas(there), LATE));
                }
                if there < replicas {
                    let why = "no more of its replicas have it on their disks within redis_durability_timeout: see whether they run with appendonly yes and keep up";
                    return Err(unmet(Durability::Fsync { replicas: there }, why));
                }
            }
        }
        let when = value_of(when);
        if when.is_none() && !has_waitaof {
            return Err(unmet(Durability::Ack, UNKNOWN));
        }
        let leaves_out = value_of(rewriting).is_none_or(|said| said != "no");
        match when.as_deref() {
            // The marker was answered after the file was synced.
            Some("always") if !leaves_out => return Ok(()),
            Some("no") => {
                let why = "appendfsync is no, so that the system decides when the file is synced: set it to always, or to everysec";
                return Err(unmet(Durability::Ack, why));
            }
            _ => {}
        }
        let unmet = |why: &str| unmet(Durability::Ack, why);
        let watched = timeout_at(deadline, self.watch(config, leaves_out, &unmet)).await;
        watched.unwrap_or_else(|_| Err(unmet(LATE)))
    }

    /// Waits until what the server has done so far is in the file and the file is synced.
    ///
    /// Of Redis 6.2 to 8 and Valkey: a reply leaves after the server has written to its file, unless
    /// a sync is under way, which holds the write back; and after it has asked for a sync, if one is
    /// due, `everysec` a second after the last, and none is under way. So after one look that sees
    /// no sync, the marker is in the file. Of two such looks in a row, a second later, the first
    /// had the sync asked for, if it was not done already, and the second saw it done.
    async fn watch(
        &mut self,
        config: &ServerConfig,
        leaves_out: bool,
        unmet: &impl Fn(&str) -> AttemptError,
    ) -> Result<(), AttemptError> {
        self.see_no_sync(1, config, leaves_out, unmet).await?;
        sleep(EVERY_SECOND).await;
        self.see_no_sync(2, config, leaves_out, unmet).await
    }

    /// Looks until so many looks in a row have seen no sync under way.
    async fn see_no_sync(
        &mut self,
        in_a_row: u32,
        config: &ServerConfig,
        leaves_out: bool,
        unmet: &impl Fn(&str) -> AttemptError,
    ) -> Result<(), AttemptError> {
        let mut seen = 0;
        while seen < in_a_row {
            let facts = self.persistence(config).await?;
            let facts = facts.ok_or_else(|| unmet(FORBIDDEN))?;
            if shows_no_sync(&facts, leaves_out).map_err(unmet)? {
                seen += 1;
            } else {
                seen = 0;
                sleep(POLL_INTERVAL).await;
            }
        }
        Ok(())
    }
}

/// Whether what INFO says shows no sync under way; an error if none is to come.
fn shows_no_sync(facts: &Facts, leaves_out: bool) -> Result<bool, &'static str> {
    if !facts.say("aof_enabled", "1") {
        return Err(OFF);
    }
    if !facts.say("aof_last_write_status", "ok") {
        return Err(FAILED);
    }
    // Some settings leave syncs out for as long as a child writes a file.
    let child =
        !facts.say("aof_rewrite_in_progress", "0") || !facts.say("rdb_bgsave_in_progress", "0");
    Ok(facts.say("aof_pending_bio_fsync", "0") && !(leaves_out && child))
}

fn says(error: &ServerError, text: &str) -> bool {
    error.details().is_some_and(|said| said.contains(text))
}

/// What CONFIG GET says; None where this user may not ask.
fn value_of(reply: Value) -> Option<String> {
    let mut said: Vec<String> = redis::from_redis_value(reply).ok()?;
    (said.len() == 2).then(|| said.remove(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_sync_is_seen_where_all_is_written_and_no_child_keeps_the_file_from_being_synced() {
        let quiet = [
            ("aof_enabled", "1"),
            ("aof_last_write_status", "ok"),
            ("aof_rewrite_in_progress", "0"),
            ("rdb_bgsave_in_progress", "0"),
            ("aof_pending_bio_fsync", "0"),
        ];
        let seen = |changed: &[(&str, &str)], leaves_out| {
            let lines = quiet.map(|(name, value)| {
                let change = changed.iter().find(|(of, _)| *of == name);
                format!("{name}:{}\r\n", change.map_or(value, |(_, value)| value))
            });
            shows_no_sync(&Facts(lines.concat()), leaves_out)
        };
        for leaves_out in [false, true] {
            assert_eq!(seen(&[], leaves_out), Ok(true));
            assert_eq!(seen(&[("aof_enabled", "0")], leaves_out), Err(OFF));
            let failed = seen(&[("aof_last_write_status", "err")], leaves_out);
            assert_eq!(failed, Err(FAILED));
            let pending = seen(&[("aof_pending_bio_fsync", "1")], leaves_out);
            assert_eq!(pending, Ok(false));
            let rewriting = ("aof_rewrite_in_progress", "1");
            let saving = ("rdb_bgsave_in_progress", "1");
            for children in [&[rewriting][..], &[saving], &[rewriting, saving]] {
                assert_eq!(seen(children, leaves_out), Ok(!leaves_out), "{children:?}");
            }
        }
        assert_eq!(shows_no_sync(&Facts(String::new()), false), Err(OFF));
    }
}
