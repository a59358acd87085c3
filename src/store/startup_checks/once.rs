//! Each look is taken once, by one of the stores over the same connections; one that fails, again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use futures_util::future::join;

use super::server_settings;
use super::working_dir::Origin;
use crate::client::Connections;
use crate::config::StoreConfig;
use crate::error::Result;
use crate::log_events::{Event, Notices};

/// The name of the look at the servers among what stores over the same connections have done.
const SERVERS: &[u8] = b"servers";

/// The looks of one store; each is taken by one of the stores over the same connections.
pub(crate) struct StartupChecks {
    origin: Option<Origin>,
    begun: AtomicBool,
}

impl StartupChecks {
    pub(crate) fn new(config: &StoreConfig) -> Self {
        let key = config.keyspace.key_beside("working_dir");
        let working_dir = config.working_dir.clone();
        Self {
            origin: working_dir.map(|working_dir| Origin::new(key, working_dir)),
            begun: AtomicBool::new(false),
        }
    }

    /// True for the first call.
    pub(crate) fn is_due(&self) -> bool {
        // Loaded first: the line stays shared between cores.
        !self.begun.load(Relaxed) && !self.begun.swap(true, Relaxed)
    }

    /// Takes the looks that no store over these connections has taken. One that fails, or is given
    /// up with its caller, is taken again.
    pub(crate) async fn run(&self, connections: &Arc<Connections>, notices: &Notices) {
        let servers = self.once(
            (SERVERS, Event::ServerAtRisk),
            connections,
            notices,
            server_settings::inspect(connections),
        );
        let origin = async {
            if let Some(origin) = &self.origin {
                let compared = async {
                    let found = origin.compare(connections).await?;
                    Ok(found.into_iter().collect())
                };
                self.once(
                    (&origin.name(), Event::Origin),
                    connections,
                    notices,
                    compared,
                )
                .await;
            }
        };
        join(servers, origin).await;
    }

    async fn once(
        &self,
        (mark, event): (&[u8], Event),
        connections: &Connections,
        notices: &Notices,
        look: impl Future<Output = Result<Vec<String>>>,
    ) {
        if !connections.is_new(mark) {
            return;
        }
        let again = Again {
            mark,
            connections,
            begun: &self.begun,
        };
        if let Ok(lines) = look.await {
            std::mem::forget(again);
            for line in lines {
                notices.push(event, line);
            }
        }
    }
}

/// Lets a look be taken again, when dropped.
struct Again<'a> {
    mark: &'a [u8],
    connections: &'a Connections,
    begun: &'a AtomicBool,
}

impl Drop for Again<'_> {
    fn drop(&mut self) {
        self.connections.forget(self.mark);
        self.begun.store(false, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ServerConfig;

    #[test]
    fn the_looks_are_due_at_the_first_call_alone() {
        let server = ServerConfig::new("redis://localhost").unwrap();
        let checks = StartupChecks::new(&StoreConfig::new(server, "docs").unwrap());
        assert_eq!([(); 3].map(|()| checks.is_due()), [true, false, false]);
    }
}
