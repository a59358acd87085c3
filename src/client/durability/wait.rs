//! The barrier's own connection to one server: a marker, and what waits for it.
//!
//! WAIT and WAITAOF wait for the last write of *their own* connection, and find nothing to wait for
//! on one that has written nothing. What was acknowledged on other connections lies before the
//! marker in the server's one stream of changes, so who has the marker has all of it. They block
//! their connection, hence one of its own.

use std::time::Duration;

use redis::{Cmd, RedisError, Value};

use crate::client::connection::OwnConnection;
use crate::client::protocol::pipeline::Pipeline;
use crate::client::transport::connector::Connector;
use crate::client::{Reply, Request, command, info_field};
use crate::config::ServerConfig;
use crate::config::durability::Durability;
use crate::error::Error;

/// Why an attempt failed.
pub(super) enum AttemptError {
    /// The connection was lost, or this server is none to ask at the moment: another attempt may pass.
    Lost(RedisError),
    /// It would fail again.
    Refused(Error),
}

impl From<RedisError> for AttemptError {
    fn from(error: RedisError) -> Self {
        Self::Lost(error)
    }
}

/// A connection that stays open, so that a server that went away in between is noticed.
pub(super) struct BarrierSession {
    connection: OwnConnection,
}

/// One server process with one history of changes. Two that are equal have lost nothing in between:
/// a process has a `run_id` of its own, and one that followed another server for a while has a new
/// `master_replid` when it takes over again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Incarnation {
    run_id: String,
    replication_id: String,
}

impl BarrierSession {
    pub(super) async fn open(connector: &Connector) -> Result<Self, RedisError> {
        Ok(Self {
            connection: OwnConnection::open(connector, Pipeline::default()).await?,
        })
    }

    /// Which server answers; None where this user may not ask.
    pub(super) async fn incarnation(
        &mut self,
        config: &ServerConfig,
    ) -> Result<Option<Incarnation>, AttemptError> {
        let info = |section: &str| command("INFO", [section.as_bytes()]);
        let asked = [info("server"), info("replication")];
        let [server, replication] = self.ask(asked, config.socket_timeout).await?;
        let (Some(server), Some(replication)) = (facts(server)?, facts(replication)?) else {
            return Ok(None);
        };
        let run_id = server.get("run_id");
        let replication_id = replication.get("master_replid");
        let known = run_id.zip(replication_id);
        Ok(known.map(|(run_id, replication_id)| Incarnation {
            run_id: run_id.to_owned(),
            replication_id: replication_id.to_owned(),
        }))
    }

    /// Waits until all that the server has done so far is as safe as the settings ask.
    pub(super) async fn confirm(
        &mut self,
        config: &ServerConfig,
        marker: &[u8],
    ) -> Result<(), AttemptError> {
        match config.durability {
            Durability::Ack => Ok(()),
            Durability::Replicas(wanted) => self.wait_for_replicas(config, marker, wanted).await,
            Durability::Fsync { replicas } => self.wait_for_disk(config, marker, replicas).await,
            Durability::Snapshot => self.take_snapshot(config).await,
        }
    }

    async fn wait_for_replicas(
        &mut self,
        config: &ServerConfig,
        marker: &[u8],
        wanted: u32,
    ) -> Result<(), AttemptError> {
        let mut wait = redis::cmd("WAIT");
        wait.arg(wanted)
            .arg(milliseconds(config.durability_timeout));
        let patience = config.durability_timeout + config.socket_timeout;
        let [written, replicas] = self.ask([mark(marker), wait], patience).await?;
        checked(written)?;
        let replicas = match checked(replicas)? {
            Value::Int(replicas) => u32::try_from(replicas).unwrap_or(0),
            _ => 0,
        };
        if replicas >= wanted {
            return Ok(());
        }
        let why = format!(
            "{} has no more replicas that keep up within redis_durability_timeout; see whether they run, or lower redis_durability",
            config.endpoint
        );
        let unmet = config.durability.unmet(Durability::Replicas(replicas), why);
        Err(AttemptError::Refused(unmet))
    }

    /// What INFO says of the persistence; None where this user may not ask.
    pub(super) async fn persistence(
        &mut self,
        config: &ServerConfig,
    ) -> Result<Option<Facts>, AttemptError> {
        let info = command("INFO", [&b"persistence"[..]]);
        let [said] = self.ask([info], config.socket_timeout).await?;
        facts(said)
    }

    /// Sends these commands at once, over this connection and no other; an answer for each.
    pub(super) async fn ask<const COUNT: usize>(
        &mut self,
        commands: [Cmd; COUNT],
        patience: Duration,
    ) -> Result<[Value; COUNT], AttemptError> {
        let request = Request::resendable(commands);
        let replies = self.connection.ask(&request, patience).await?;
        let replies = replies.into_iter().map(Reply::raw);
        let replies = replies.collect::<Result<Vec<_>, _>>();
        let replies = replies.map_err(AttemptError::Refused)?;
        let unexpected = |_| std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        Ok(replies
            .try_into()
            .map_err(unexpected)
            .map_err(RedisError::from)?)
    }
}

/// The lines of a section of INFO.
pub(super) struct Facts(pub(super) String);

impl Facts {
    /// What they say under this name.
    fn get(&self, name: &str) -> Option<&str> {
        info_field(&self.0, name)
    }

    /// Whether one of them says this.
    pub(super) fn say(&self, name: &str, value: &str) -> bool {
        self.get(name) == Some(value)
    }
}

/// The answer to INFO; None where this user may not ask.
fn facts(reply: Value) -> Result<Option<Facts>, AttemptError> {
    match reply {
        Value::ServerError(error) if error.code() == "NOPERM" => Ok(None),
        said => {
            let said = redis::from_redis_value(checked(said)?);
            Ok(Some(Facts(said.map_err(RedisError::from)?)))
        }
    }
}

/// The marker is written anew each time, and lies beside the namespaces.
pub(super) fn mark(key: &[u8]) -> Cmd {
    command("SET", [key, std::process::id().to_string().as_bytes()])
}

/// As WAIT takes it, for which 0 is for ever.
pub(super) fn milliseconds(timeout: Duration) -> u64 {
    u64::try_from(timeout.as_millis())
        .unwrap_or(u64::MAX)
        .max(1)
}

/// An answer, or the error the server gave.
pub(super) fn checked(reply: Value) -> Result<Value, AttemptError> {
    let Value::ServerError(error) = reply else {
        return Ok(reply);
    };
    let error = RedisError::from(error);
    // It became a replica, or is no server to ask yet: another may be, or the same one later.
    let elsewhere = matches!(error.code(), Some("READONLY" | "UNBLOCKED" | "MOVED"));
    let reason = Error::from_redis(&error);
    Err(if elsewhere || reason.is_outage() {
        AttemptError::Lost(error)
    } else {
        AttemptError::Refused(reason)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::protocol::resp_parser::{Parsed, parse};

    fn answer(said: &str) -> Value {
        match parse(said.as_bytes()) {
            Ok(Parsed::Whole(value, _)) => value,
            _ => panic!("no answer: {said}"),
        }
    }

    #[test]
    fn info_that_may_not_be_asked_for_is_none_and_any_other_refusal_an_error() {
        assert!(matches!(facts(answer("-NOPERM no\r\n")), Ok(None)));
        for (code, lost) in [
            ("READONLY", true),
            ("UNBLOCKED", true),
            ("MOVED", true),
            ("LOADING", true),
            ("ERR", false),
            ("WRONGTYPE", false),
        ] {
            let refused = facts(answer(&format!("-{code} 1 127.0.0.1:1\r\n")));
            let Err(refused) = refused else {
                panic!("{code} is none to be left out");
            };
            assert_eq!(matches!(refused, AttemptError::Lost(_)), lost, "{code}");
        }
        let told = facts(Value::BulkString(b"# Of it\r\na:1\r\nb:\r\n".to_vec()));
        let Ok(Some(told)) = told else {
            panic!("no facts");
        };
        assert!(told.say("a", "1") && told.say("b", "") && !told.say("c", ""));
    }

    #[test]
    fn wait_is_told_whole_milliseconds_and_never_to_wait_for_ever() {
        let said = [0, 1, 999_999, 1_000_000, 20_000_000_000].map(Duration::from_nanos);
        assert_eq!(said.map(milliseconds), [1, 1, 1, 1, 20_000]);
        assert_eq!(milliseconds(Duration::MAX), u64::MAX);
    }
}
