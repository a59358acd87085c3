//! What one sentinel says of the master, and what the master says of itself.

use std::sync::Arc;
use std::time::Duration;

use redis::Value;
use tokio::time::{Instant, timeout};

use crate::client::node::Node;
use crate::client::protocol::request::{Request, command};
use crate::client::{Reply, timed_out};
use crate::error::{CHECK_LOGIN, Error, Kind, Result};

/// How long one server is waited for. Whom we ask answers at once, or is away.
const PATIENCE: Duration = Duration::from_secs(1);

/// Which server a sentinel takes for the master, and how new its word is.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct MasterAddress {
    pub(super) host: String,
    pub(super) port: u16,
    /// Raised by each failover.
    pub(super) epoch: u64,
}

/// Asks a sentinel for the master of this name.
pub(super) async fn master_named_by(sentinel: &Arc<Node>, master: &str) -> Result<MasterAddress> {
    let name = master.as_bytes();
    let known = command("SENTINEL", [&b"MASTER"[..], name]);
    // Asked last: an address that is newer than its epoch is looked at again, the other way round an
    // old one would seem new.
    let address = command("SENTINEL", [&b"GET-MASTER-ADDR-BY-NAME"[..], name]);
    let replies = ask(sentinel, Request::resendable([known, address])).await;
    let mut replies = replies.map_err(|error| explained(error, master))?;
    let (address, known) = (replies.pop(), replies.pop());
    let found = known
        .zip(address)
        .and_then(|(known, address)| read(known, address));
    found.ok_or_else(|| unknown(master))
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

fn read(known: Value, address: Value) -> Option<MasterAddress> {
    let fields: Vec<String> = redis::from_redis_value(known).ok()?;
    let epoch = fields
        .chunks_exact(2)
        .find(|pair| pair[0] == "config-epoch")?;
    let (host, port): (String, String) = redis::from_redis_value(address).ok()?;
    Some(MasterAddress {
        host,
        port: port.parse().ok()?,
        epoch: epoch[1].parse().ok()?,
    })
}

/// Whether a server takes itself for a master.
pub(super) async fn is_master(node: &Arc<Node>) -> Result<bool> {
    let role = Request::resendable([redis::cmd("ROLE")]);
    let replies = ask(node, role).await?;
    let Some(Value::Array(role)) = replies.into_iter().next() else {
        return Ok(false);
    };
    Ok(matches!(role.first(), Some(Value::BulkString(role)) if role == b"master"))
}

/// The answers; one that is an error is the error of all.
async fn ask(node: &Arc<Node>, request: Request) -> Result<Vec<Value>> {
    let replies = timeout(PATIENCE, node.attempt(&request, Instant::now() + PATIENCE)).await;
    let replies = replies.map_err(|_| Error::from_redis(&timed_out()))?;
    let replies = replies.map_err(|failed| Error::from_redis(&failed.error))?;
    replies.into_iter().map(Reply::value).collect()
}
