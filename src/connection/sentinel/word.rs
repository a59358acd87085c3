//! What one sentinel says of the master, and what the master says of itself.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, timeout};

use crate::connection::node::Node;
use crate::connection::request::{Request, command};
use crate::connection::{Answer, timed_out};
use crate::error::{CHECK_LOGIN, Error, Kind, Result};

/// How long one server is waited for. Whom we ask answers at once, or is away.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which server a sentinel takes for the master, and how new its word is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub(super) host: String,
    pub(super) port: u16,
    /// Raised by each failover.
    pub(super) epoch: u64,
}

/// Asks a sentinel for the master of this name.
pub(super) async fn of_sentinel(sentinel: &Arc<Node>, master: &str) -> Result<Word> {
    let name = master.as_bytes();
    let known = command("SENTINEL", [&b"MASTER"[..], name]);
    // Asked last: an address that is newer than its epoch is looked at again, the other way round an
    // old one would seem new.
    let address = command("SENTINEL", [&b"GET-MASTER-ADDR-BY-NAME"[..], name]);
    let answers = ask(sentinel, Request::resendable([known, address])).await;
    let mut answers = answers.map_err(|error| explained(error, master))?;
    let (address, known) = (answers.pop(), answers.pop());
    let word = known
        .zip(address)
        .and_then(|(known, address)| read(known, address));
    word.ok_or_else(|| unknown(master))
}

/// The settings to look at are others here.
fn explained(error: Error, master: &str) -> Error {
    let said = error.to_string();
    if said.contains(CHECK_LOGIN) {
        let own = "check redis_sentinel_username and redis_sentinel_password";
        return Error::new(error.kind(), said.replace(CHECK_LOGIN, own));
    }
    if said.contains("No such master") {
        return unknown(master);
    }
    error
}

fn unknown(master: &str) -> Error {
    let message = format!("it watches no master {master:?}, check redis_sentinel_master");
    Error::new(Kind::Unavailable, message)
}

fn read(known: Value, address: Value) -> Option<Word> {
    let fields: Vec<String> = redis::from_redis_value(known).ok()?;
    let epoch = fields
        .chunks_exact(2)
        .find(|pair| pair[0] == "config-epoch")?;
    let (host, port): (String, String) = redis::from_redis_value(address).ok()?;
    Some(Word {
        host,
        port: port.parse().ok()?,
        epoch: epoch[1].parse().ok()?,
    })
}

/// Whether a server takes itself for a master.
pub(super) async fn is_master(node: &Arc<Node>) -> Result<bool> {
    let role = Request::resendable([redis::cmd("ROLE")]);
    let answers = ask(node, role).await?;
    let Some(Value::Array(role)) = answers.into_iter().next() else {
        return Ok(false);
    };
    Ok(matches!(role.first(), Some(Value::BulkString(role)) if role == b"master"))
}

/// The answers; one that is an error is the error of all.
async fn ask(node: &Arc<Node>, request: Request) -> Result<Vec<Value>> {
    let answers = timeout(PATIENCE, node.attempt(&request, Instant::now() + PATIENCE)).await;
    let answers = answers.map_err(|_| Error::from_redis(&timed_out()))?;
    let answers = answers.map_err(|failed| Error::from_redis(&failed.error))?;
    answers.into_iter().map(Answer::value).collect()
}
