//! A look: what the sentinels say, and whether the server they name agrees.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, timeout};

use super::current_master::{Known, Sentinels};
use super::one_sentinel::{self, MasterAddress};
use crate::client::node::Node;
use crate::config::endpoint::Endpoint;
use crate::error::{Error, Kind, Result};
use crate::log_events::Event;

/// How long the others are waited for when one sentinel has answered: theirs may be a newer word.
const OTHERS: Duration = Duration::from_millis(150);

impl Sentinels {
    /// The master by the newest word, which takes the place of the one that is known.
    pub(super) async fn find(self: &Arc<Self>) -> Result<Arc<Node>> {
        let began = Instant::now();
        let found = self.newest_master().await?;
        let before = self.known.lock().master.clone();
        let endpoint = self.config.endpoint.neighbour(&found.host, found.port);
        let endpoint = endpoint.ok_or_else(|| {
            let message = format!("the sentinels name '{}', which is no address", found.host);
            Error::new(Kind::Unavailable, message)
        })?;
        if let Some(master) = &before {
            let same = *master.endpoint() == endpoint;
            // A sentinel that was away may say again what was true before a failover.
            let older = found.epoch <= self.known.lock().epoch;
            if same || (older && one_sentinel::is_master(master).await.unwrap_or(false)) {
                self.keep(found.epoch, began);
                return Ok(Arc::clone(master));
            }
        }
        let node = self.candidate(endpoint);
        match one_sentinel::is_master(&node).await {
            Ok(true) => {}
            Ok(false) => {
                return Err(self.unusable(&node, Kind::Unavailable, "it is a replica itself"));
            }
            Err(error) => return Err(self.unusable(&node, error.kind(), &error.to_string())),
        }
        {
            let mut known = self.known.lock();
            *known = Known {
                master: Some(Arc::clone(&node)),
                epoch: found.epoch,
                term: known.term + 1,
                refreshed: Some(began),
                tried: Some(began),
                suspect: false,
                candidate: None,
            };
        }
        self.entry.breaker.answered();
        match before {
            // Whoever waits there is notified, and asks the new one.
            Some(before) => {
                let (old, new) = (before.endpoint(), node.endpoint());
                let line = format!(
                    "{new} is the master {:?} now, in place of {old}",
                    self.master
                );
                self.notices.push(Event::Failover, line);
                before.abandon();
            }
            None => self.watch(),
        }
        Ok(node)
    }

    fn keep(&self, epoch: u64, began: Instant) {
        let mut known = self.known.lock();
        known.epoch = known.epoch.max(epoch);
        known.refreshed = Some(began);
        known.suspect = false;
    }

    /// The server that may become the master. The same one at each look: it knows how often it has
    /// refused us.
    fn candidate(&self, endpoint: Endpoint) -> Arc<Node> {
        let mut known = self.known.lock();
        let before = known.candidate.take();
        let node = before
            .filter(|node| *node.endpoint() == endpoint)
            .unwrap_or_else(|| Node::new(self.config.at(endpoint)));
        known.candidate = Some(Arc::clone(&node));
        node
    }

    fn unusable(&self, node: &Node, kind: Kind, why: &str) -> Error {
        let message = format!(
            "the sentinels name {} as the master {:?}: {why}",
            node.endpoint(),
            self.master
        );
        Error::new(kind, message)
    }

    /// Asks all sentinels; of those that answer the one whose word is the newest. A word from before the last
    /// failover counts only if most sentinels have none that is newer: after a restart, an old master that one
    /// sentinel still names takes itself for a master.
    async fn newest_master(&self) -> Result<MasterAddress> {
        let known = self.known.lock().epoch;
        let mut answered = 0;
        let mut asked: FuturesUnordered<_> = self
            .asked
            .iter()
            .map(|sentinel| async move {
                let found = one_sentinel::master_named_by(sentinel, &self.master).await;
                found.map_err(|error| (sentinel, error))
            })
            .collect();
        let mut newest: Option<MasterAddress> = None;
        let mut failures = Vec::new();
        loop {
            let patience = match &newest {
                Some(newest) if newest.epoch >= known => OTHERS,
                _ => Duration::MAX,
            };
            match timeout(patience, asked.next()).await {
                Ok(Some(Ok(found))) => {
                    answered += 1;
                    if newest
                        .as_ref()
                        .is_none_or(|newest| found.epoch > newest.epoch)
                    {
                        newest = Some(found);
                    }
                }
                Ok(Some(Err(failure))) => failures.push(failure),
                Ok(None) | Err(_) => break,
            }
        }
        let newest = newest.ok_or_else(|| self.unanswered(&failures))?;
        if newest.epoch < known && answered * 2 <= self.asked.len() {
            return Err(self.outdated(&newest, answered));
        }
        Ok(newest)
    }

    /// What is not believed, and until when.
    fn outdated(&self, named: &MasterAddress, answered: usize) -> Error {
        let message = format!(
            "only {answered} of {} sentinels answer, and name {}:{} as the master {:?}, as before the last failover: start the others",
            self.asked.len(),
            named.host,
            named.port,
            self.master
        );
        Error::new(Kind::Unavailable, message)
    }

    /// Who was asked for what, and what each said.
    fn unanswered(&self, failures: &[(&Arc<Node>, Error)]) -> Error {
        let said: Vec<String> = failures
            .iter()
            .map(|(sentinel, error)| format!("{}: {error}", sentinel.endpoint()))
            .collect();
        let kind = if failures.iter().all(|(_, error)| error.kind() == Kind::Auth) {
            Kind::Auth
        } else {
            Kind::Unavailable
        };
        let message = format!(
            "no sentinel says where the master {:?} is ({})",
            self.master,
            said.join("; ")
        );
        Error::new(kind, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Credentials, Sentinel, ServerConfig};

    fn sentinels() -> Arc<Sentinels> {
        let config = ServerConfig::new("redis://sentinel:1").unwrap();
        let sentinel = Sentinel {
            master: "main".to_owned(),
            credentials: Credentials::default(),
        };
        Sentinels::new(&config, &sentinel)
    }

    #[test]
    fn a_master_that_is_named_again_is_trusted_again_and_no_older_word_counts_from_then_on() {
        let sentinels = sentinels();
        for (epoch, expected) in [(7, 7), (5, 7), (8, 8)] {
            sentinels.known.lock().suspect = true;
            let began = Instant::now();
            sentinels.keep(epoch, began);
            let known = sentinels.known.lock();
            assert_eq!((known.epoch, known.suspect), (expected, false));
            assert_eq!(known.refreshed, Some(began));
        }
    }

    #[test]
    fn a_server_that_may_become_the_master_is_the_same_one_at_each_look() {
        let sentinels = sentinels();
        let at = |port| sentinels.config.endpoint.neighbour("h", port).unwrap();
        let first = sentinels.candidate(at(1));
        assert!(Arc::ptr_eq(&first, &sentinels.candidate(at(1))));
        let second = sentinels.candidate(at(2));
        assert!(*second.endpoint() == at(2) && !Arc::ptr_eq(&first, &second));
        assert!(Arc::ptr_eq(&second, &sentinels.candidate(at(2))));
    }
}
