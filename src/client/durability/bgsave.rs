//! The level `snapshot`: a BGSAVE that began after the writes and has ended well.

use std::time::Duration;

use redis::Value;
use tokio::time::{sleep, timeout};

use super::wait::{AttemptError, BarrierSession, checked};
use crate::config::ServerConfig;
use crate::config::durability::Durability;

/// Pause between two checks whether the snapshot has ended.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

impl BarrierSession {
    pub(super) async fn take_snapshot(
        &mut self,
        config: &ServerConfig,
    ) -> Result<(), AttemptError> {
        let unmet = |why: &str| {
            let why = format!("{}: {why}", config.endpoint);
            AttemptError::Refused(config.durability.unmet(Durability::Ack, why))
        };
        let taken = timeout(config.durability_timeout, async {
            // One that is under way began before what it is to hold.
            while !self.begins(config).await? {
                sleep(POLL_INTERVAL).await;
            }
            loop {
                let Some(facts) = self.persistence(config).await? else {
                    return Err(unmet(
                        "whether a snapshot has ended is told by INFO, which this user may not ask: grant it",
                    ));
                };
                if facts.say("rdb_bgsave_in_progress", "0") {
                    return if facts.say("rdb_last_bgsave_status", "ok") {
                        Ok(())
                    } else {
                        Err(unmet(
                            "the snapshot failed: see its log, as a rule the disk is full",
                        ))
                    };
                }
                sleep(POLL_INTERVAL).await;
            }
        });
        taken.await.unwrap_or_else(|_| {
            Err(unmet(
                "no snapshot has ended within redis_durability_timeout: raise it to more than a BGSAVE takes",
            ))
        })
    }

    /// Begins a snapshot; false while another one, or a rewrite of the append-only file, is under
    /// way.
    async fn begins(&mut self, config: &ServerConfig) -> Result<bool, AttemptError> {
        let [reply] = self
            .ask([redis::cmd("BGSAVE")], config.socket_timeout)
            .await?;
        match &reply {
            Value::ServerError(error)
                if error
                    .details()
                    .is_some_and(|said| said.contains("progress") || said.contains("child")) =>
            {
                Ok(false)
            }
            _ => checked(reply).map(|_| true),
        }
    }
}
