//! Walking over all keys, page by page, whatever the topology.

use std::sync::Arc;

use super::{Topology, sentinel};
use crate::client::protocol::request::{Request, command};
use crate::client::{Connections, Reply};
use crate::error::{Error, Kind, Result};

impl Topology {
    /// See [`Connections::scan`].
    pub(in crate::client) async fn scan(
        &self,
        connections: &Arc<Connections>,
        place: u128,
        arguments: &[&[u8]],
    ) -> Result<(u128, Vec<Vec<u8>>)> {
        let cluster = match self {
            Self::Cluster(cluster) => cluster,
            Self::One(_) => {
                let cursor = u64::try_from(place).unwrap_or(0);
                let page = connections.send(&scan_from(cursor, arguments)).await?;
                return read_page(cursor, page).map(|(cursor, keys)| (cursor.into(), keys));
            }
            Self::Sentinel(sentinels) => loop {
                // A cursor means something to the server that gave it: another is begun with anew.
                let term = sentinels.term();
                let cursor = sentinel::cursor(place, term);
                let page = connections.send(&scan_from(cursor, arguments)).await?;
                let page = read_page(cursor, page)?;
                if sentinels.term() == term {
                    return Ok((sentinel::place(page.0, term), page.1));
                }
            },
        };
        let page = cluster.page(connections, place).await?;
        let (mut cursor, mut keys) = (0, Vec::new());
        if let Some(node) = &page.node {
            match connections
                .send_to(node, &scan_from(page.cursor(), arguments))
                .await
            {
                Ok(replies) => (cursor, keys) = read_page(page.cursor(), replies)?,
                // Who has its slots now is walked over in the next pass.
                Err(error) if error.found_no_server() && cluster.has_lost(node).await? => {}
                Err(error) => return Err(error),
            }
            page.keep_new(&mut keys);
        }
        Ok((cluster.after(connections, &page, cursor).await?, keys))
    }
}

fn scan_from(cursor: u64, arguments: &[&[u8]]) -> Request {
    let cursor = cursor.to_string();
    let arguments = std::iter::once(cursor.as_bytes()).chain(arguments.iter().copied());
    Request::resendable([command("SCAN", arguments)])
}

/// The page that begins at cursor `asked`, and the cursor of the next one. Cursors of a walk only grow, in an order of
/// the server's own, so that one which leads to itself would be walked for ever.
fn read_page(asked: u64, replies: Vec<Reply>) -> Result<(u64, Vec<Vec<u8>>)> {
    let page = replies.into_iter().next().unwrap_or_default().value()?;
    let (next, keys) = redis::from_redis_value(page).map_err(|_| {
        let message = "the server answered SCAN with another type: is it a Redis server?";
        Error::new(Kind::Operation, message)
    })?;
    if next == asked && next != 0 {
        let message = format!(
            "SCAN {asked} led to {next} again, so that the walk would never end: is it a Redis server?"
        );
        return Err(Error::new(Kind::Operation, message));
    }
    Ok((next, keys))
}
