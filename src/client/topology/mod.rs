//! Which servers there are, and which of them a request goes to.

pub(super) mod cluster;
mod scan;
pub(super) mod sentinel;
mod shared_refresh;

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use tokio::time::Instant;

use super::Reply;
use super::node::Node;
use super::protocol::request::Request;
use crate::config::ServerConfig;
use crate::error::{Error, Result};
use crate::log_events::Notice;
use crate::memory;
use cluster::Cluster;
use sentinel::Sentinels;

/// The servers behind one handle. A server may be replaced by another at any time, so a node is
/// asked for anew at each attempt.
pub(super) enum Topology {
    /// One server, for ever.
    One(Arc<Node>),
    /// Many, each with some of the keys.
    Cluster(Arc<Cluster>),
    /// One at a time, of which sentinels say which.
    Sentinel(Arc<Sentinels>),
}

/// Bytes of a command from which it is not copied to be sent beside others.
const LARGE: usize = 16 * 1024;

/// What leaves together: all of a request, or what of it may take effect in any order.
pub(super) struct Part<'request> {
    wire: &'request [Bytes],
    pub(super) replies: usize,
    pub(super) resendable: bool,
    /// The server that is asked, where it is no matter of keys.
    fixed: Option<&'request Arc<Node>>,
    /// One by one, once some of them go a way of their own.
    commands: OnceLock<Vec<Command>>,
}

/// A command as bytes of the wire, and the slot of its key.
pub(super) struct Command {
    wire: Bytes,
    slot: Option<u16>,
}

/// Where commands go.
pub(super) enum Route {
    To(Arc<Node>),
    /// To a server that takes them after an ASKING only.
    Asking(Arc<Node>),
    /// To different servers, by their places.
    Split(Vec<Vec<usize>>),
    /// No server has them for now.
    Nowhere(Error),
}

/// What it means that a server has not executed a command.
pub(super) enum Meaning {
    /// Another has it: this one for this once, or the one that the map names by now. The error is for where no
    /// server owns up to it.
    Elsewhere(Option<Arc<Node>>, Error),
    /// It is to be asked again in a moment.
    Later,
    /// The server is not to be asked any more.
    Refused(Error),
}

impl<'request> Part<'request> {
    fn new(
        wire: &'request [Bytes],
        replies: usize,
        request: &Request,
        fixed: Option<&'request Arc<Node>>,
    ) -> Self {
        Self {
            wire,
            replies,
            resendable: request.resendable,
            fixed,
            commands: OnceLock::new(),
        }
    }

    fn commands(&self) -> &[Command] {
        self.commands.get_or_init(|| {
            self.wire
                .iter()
                .flat_map(cluster::routing::commands)
                .collect()
        })
    }

    /// Some of the commands as a request of their own.
    pub(super) fn request(&self, commands: &[usize], asking: bool) -> Request {
        let whole = !asking && commands.len() == self.replies;
        let wire = if whole {
            self.wire.to_vec()
        } else {
            let all = self.commands();
            joined(commands.iter().map(|place| &all[*place].wire), asking)
        };
        Request {
            wire,
            replies: commands.len() * if asking { 2 } else { 1 },
            resendable: self.resendable,
            writes: false,
        }
    }
}

/// The bytes of commands, each after an ASKING if `asking`; what is large is not copied.
fn joined<'command>(commands: impl Iterator<Item = &'command Bytes>, asking: bool) -> Vec<Bytes> {
    let (mut parts, mut small) = (Vec::new(), Vec::new());
    for command in commands {
        if asking {
            small.extend_from_slice(b"*1\r\n$6\r\nASKING\r\n");
        }
        if command.len() < LARGE {
            memory::claim(&mut small, command.len());
            small.extend_from_slice(command);
        } else {
            if !small.is_empty() {
                parts.push(std::mem::take(&mut small).into());
            }
            parts.push(command.clone());
        }
    }
    if !small.is_empty() {
        parts.push(small.into());
    }
    parts
}

impl Topology {
    /// Opens nothing.
    pub(super) fn new(config: &ServerConfig) -> Self {
        if config.cluster {
            return Self::Cluster(Cluster::new(config));
        }
        if let Some(sentinel) = &config.sentinel {
            return Self::Sentinel(Sentinels::new(config, sentinel));
        }
        Self::One(Node::new(config.clone()))
    }

    /// The servers that hold values.
    pub(super) async fn primaries(&self) -> Result<Vec<Arc<Node>>> {
        match self {
            Self::One(node) => Ok(vec![Arc::clone(node)]),
            Self::Cluster(cluster) => cluster.primaries().await,
            Self::Sentinel(sentinels) => Ok(vec![sentinels.node().await?]),
        }
    }

    /// Has it asked anew which servers hold values, though no call waits for that.
    pub(super) fn refresh_soon(&self) {
        match self {
            Self::One(_) => {}
            Self::Cluster(cluster) => cluster.refresh_soon(),
            Self::Sentinel(sentinels) => sentinels.refresh_soon(),
        }
    }

    /// The parts of a request, which leave one after the other: those of one server all at once.
    pub(super) fn parts<'request>(
        &self,
        fixed: Option<&'request Arc<Node>>,
        request: &'request Request,
    ) -> Vec<Part<'request>> {
        match self {
            Self::Cluster(_) if fixed.is_none() => {
                let parts = request.wire.iter().map(|wire| {
                    let mut part = Part::new(std::slice::from_ref(wire), 0, request, None);
                    part.replies = part.commands().len();
                    part
                });
                parts.collect()
            }
            _ => vec![Part::new(&request.wire, request.replies, request, fixed)],
        }
    }

    /// Where these commands of a part go now.
    pub(super) async fn route(&self, part: &Part<'_>, commands: &[usize]) -> Result<Route> {
        Ok(Route::To(match (self, part.fixed) {
            (Self::Cluster(cluster), None) => {
                let all = part.commands();
                return cluster
                    .route(commands.iter().map(|place| &all[*place]))
                    .await;
            }
            (Self::One(node), None) | (Self::One(_) | Self::Cluster(_), Some(node)) => {
                Arc::clone(node)
            }
            // The only one there is, whatever has become of the one that was.
            (Self::Sentinel(sentinels), _) => sentinels.node().await?,
        }))
    }

    /// What those replies of a node mean that are none, by the places of their commands, which were not executed.
    pub(super) fn meanings(
        &self,
        node: &Arc<Node>,
        replies: &[Reply],
    ) -> Vec<(Meaning, Vec<usize>)> {
        match self {
            Self::One(_) => Vec::new(),
            Self::Cluster(cluster) => cluster.meanings(node, replies),
            Self::Sentinel(sentinels) => sentinels.meanings(node, replies),
        }
    }

    /// A key that begins with `beginning` and is kept by this node; None if none is.
    pub(super) fn key_on(&self, node: &Arc<Node>, beginning: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Cluster(cluster) => cluster.key_on(node, beginning),
            Self::One(_) | Self::Sentinel(_) => Some(beginning.to_owned()),
        }
    }

    /// The cluster, for who has to hear of each of its servers.
    pub(super) fn cluster(&self) -> Option<&Arc<Cluster>> {
        match self {
            Self::Cluster(cluster) => Some(cluster),
            Self::One(_) | Self::Sentinel(_) => None,
        }
    }

    /// What the log is to be told.
    pub(super) fn notices(&self) -> Vec<Notice> {
        match self {
            Self::Sentinel(sentinels) => sentinels.notices.take(),
            Self::One(_) | Self::Cluster(_) => Vec::new(),
        }
    }

    /// An attempt at this node failed: it may not be the one to ask any more.
    pub(super) fn failed(&self, node: &Arc<Node>, was_stale: bool) {
        match self {
            Self::Cluster(cluster) => cluster.refresh_soon(),
            // A connection that was lost while idle says nothing of the server.
            Self::Sentinel(sentinels) if !was_stale => sentinels.suspect(node),
            Self::One(_) | Self::Sentinel(_) => {}
        }
    }

    /// Whether an answer to what was sent then comes from who may give one.
    pub(super) async fn believes(&self, node: &Arc<Node>, sent: Instant) -> bool {
        match self {
            Self::One(_) | Self::Cluster(_) => true,
            Self::Sentinel(sentinels) => sentinels.believes(node, sent).await,
        }
    }

    /// Whether calls that were refused on account of this node may pass again.
    pub(super) async fn has_recovered(&self, node: &Arc<Node>) -> bool {
        match self {
            Self::One(_) => node.answers_ping().await,
            Self::Cluster(cluster) => cluster.has_recovered(node).await,
            Self::Sentinel(sentinels) => sentinels.has_recovered(node).await,
        }
    }

    /// Looks after what is idle.
    pub(super) async fn maintain(&self) {
        match self {
            Self::One(_) => {}
            Self::Cluster(cluster) => cluster.refresh_soon(),
            Self::Sentinel(sentinels) => sentinels.refresh_soon(),
        }
        for node in self.nodes() {
            node.maintain().await;
        }
    }

    /// The servers that are in use now.
    pub(super) fn nodes(&self) -> Vec<Arc<Node>> {
        match self {
            Self::One(node) => vec![Arc::clone(node)],
            Self::Cluster(cluster) => cluster.nodes(),
            Self::Sentinel(sentinels) => sentinels.master().into_iter().collect(),
        }
    }

    /// By whose name the servers are known where this one answers.
    pub(super) fn face<'node>(&'node self, node: &'node Arc<Node>) -> &'node Arc<Node> {
        match self {
            Self::Cluster(cluster) => cluster.entry(),
            Self::One(_) | Self::Sentinel(_) => node,
        }
    }

    /// What stands for the servers where none of them is known.
    pub(super) fn entry(&self) -> &Arc<Node> {
        match self {
            Self::One(node) => node,
            Self::Cluster(cluster) => cluster.entry(),
            Self::Sentinel(sentinels) => sentinels.entry(),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::Handle;

    use super::*;
    use crate::config::{Credentials, Sentinel};
    use crate::log_events::Event;

    /// At a place where nobody is.
    fn config() -> ServerConfig {
        ServerConfig::new("unix:///nobody/server").unwrap()
    }

    fn of_a_cluster() -> (Topology, Arc<Cluster>) {
        let mut config = config();
        config.cluster = true;
        let topology = Topology::new(&config);
        let cluster = Arc::clone(topology.cluster().unwrap());
        (topology, cluster)
    }

    fn of_sentinels() -> (Topology, Arc<Sentinels>) {
        let mut config = config();
        config.sentinel = Some(Sentinel {
            master: "main".to_owned(),
            credentials: Credentials::default(),
        });
        let topology = Topology::new(&config);
        let Topology::Sentinel(sentinels) = &topology else {
            panic!("there are sentinels");
        };
        let sentinels = Arc::clone(sentinels);
        (topology, sentinels)
    }

    #[test]
    fn what_is_large_is_not_copied_to_be_sent_beside_others() {
        let command = |length: usize| Bytes::from(vec![b'x'; length]);
        for (lengths, expected) in [
            (vec![], vec![]),
            (vec![3, LARGE - 1, 4], vec![LARGE + 6]),
            (vec![3, LARGE, 4], vec![3, LARGE, 4]),
            (vec![LARGE, LARGE + 1], vec![LARGE, LARGE + 1]),
            (vec![LARGE + 1, 4, 5], vec![LARGE + 1, 9]),
        ] {
            let commands: Vec<_> = lengths.into_iter().map(command).collect();
            let parts = joined(commands.iter(), false);
            let found: Vec<_> = parts.iter().map(Bytes::len).collect();
            assert_eq!(found, expected);
            let is_large = |command: &&Bytes| command.len() >= LARGE;
            for large in commands.iter().filter(is_large) {
                assert!(parts.iter().any(|part| part.as_ptr() == large.as_ptr()));
            }
            let asking = joined(commands.iter(), true);
            let more = commands.len() * b"*1\r\n$6\r\nASKING\r\n".len();
            let length = |parts: &[Bytes]| parts.iter().map(Bytes::len).sum::<usize>();
            assert_eq!(length(&asking), length(&parts) + more);
        }
    }

    #[test]
    fn a_part_of_a_request_to_a_cluster_leaves_after_the_one_before_it() {
        let part = |key: &str| Bytes::from(format!("*2\r\n$3\r\nGET\r\n$1\r\n{key}\r\n"));
        let both = [part("a"), part("b")].concat();
        let request = Request {
            wire: vec![both.into(), part("c")],
            replies: 3,
            resendable: true,
            writes: false,
        };
        let (cluster, _) = of_a_cluster();
        let node = Node::new(config());
        let replies = |topology: &Topology, fixed| {
            let parts = topology.parts(fixed, &request).into_iter();
            parts.map(|part| part.replies).collect::<Vec<_>>()
        };
        assert_eq!(replies(&cluster, None), [2, 1]);
        assert_eq!(replies(&cluster, Some(&node)), [3]);
        assert_eq!(replies(&Topology::new(&config()), None), [3]);
        assert_eq!(replies(&of_sentinels().0, None), [3]);
    }

    #[test]
    fn any_key_is_on_the_only_server_there_is() {
        let node = Node::new(config());
        for topology in [Topology::new(&config()), of_sentinels().0] {
            assert_eq!(topology.key_on(&node, b"docs").unwrap(), b"docs");
            assert!(topology.cluster().is_none());
        }
        assert_eq!(of_a_cluster().0.key_on(&node, b"docs"), None);
    }

    #[test]
    fn what_the_sentinels_note_is_told_once() {
        let (topology, sentinels) = of_sentinels();
        sentinels
            .notices
            .push(Event::Failover, "another".to_owned());
        let told: Vec<_> = topology.notices().iter().map(|said| said.event).collect();
        assert_eq!(told, [Event::Failover]);
        assert!(topology.notices().is_empty());
    }

    #[tokio::test]
    async fn who_serves_is_asked_anew_at_any_word_that_it_may_have_changed() {
        let node = Node::new(config());
        let is_asked = |word: &dyn Fn(&Topology), topology: Topology| {
            let tasks = || Handle::current().metrics().num_alive_tasks();
            let before = tasks();
            word(&topology);
            tasks() > before
        };
        let failed = |topology: &Topology| topology.failed(&node, true);
        assert!(is_asked(&Topology::refresh_soon, of_a_cluster().0));
        assert!(is_asked(&Topology::refresh_soon, of_sentinels().0));
        assert!(!is_asked(&Topology::refresh_soon, Topology::new(&config())));
        assert!(is_asked(&failed, of_a_cluster().0));
        // A connection that was lost while idle says nothing of the master.
        assert!(!is_asked(&failed, of_sentinels().0));
        assert!(!is_asked(&failed, Topology::new(&config())));
    }

    #[tokio::test]
    async fn calls_pass_again_only_where_a_server_answers() {
        let node = Node::new(config());
        let all = [Topology::new(&config()), of_a_cluster().0, of_sentinels().0];
        for topology in all {
            assert!(!topology.has_recovered(&node).await);
        }
    }

    #[tokio::test]
    async fn an_answer_of_a_server_that_no_sentinel_names_is_not_believed() {
        let node = Node::new(config());
        let now = Instant::now();
        assert!(Topology::new(&config()).believes(&node, now).await);
        assert!(of_a_cluster().0.believes(&node, now).await);
        assert!(!of_sentinels().0.believes(&node, now).await);
    }
}
