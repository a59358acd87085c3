//! Validated settings of one store, the named defaults with their units, and a `Debug` that hides secrets.

use std::fmt;
use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use super::durability::Durability;
use super::endpoint::Endpoint;
use crate::error::{Error, Kind, Result};
use crate::files::Paths;
use crate::key_layout::Keyspace;
use crate::value::Compression;

/// Bytes a stored value may take.
pub const MAX_VALUE_BYTES: usize = 64 * 1024 * 1024;
/// Time to open a connection, handshake included.
pub const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// Time one attempt may wait for its answer.
pub const SOCKET_TIMEOUT: Duration = Duration::from_secs(5);
/// Time one operation may take, retries and reconnects included.
pub const OPERATION_TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two checks at idle connections; zero is never.
pub const HEALTH_CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// Time that a barrier waits for what its level asks: more than the two seconds in which a server
/// with `appendfsync everysec` syncs its file.
pub const DURABILITY_TIMEOUT: Duration = Duration::from_secs(3);
/// Longest pause between two probes of an unreachable server.
pub const BREAKER_RECOVERY: Duration = Duration::from_secs(1);

/// Longest wait for the answer of another caller that has missed the same id.
pub const SINGLE_FLIGHT_WAIT: Duration = Duration::from_secs(60);

/// What callers do that miss one id at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SingleFlight {
    /// Each makes the value itself.
    Off,
    /// Each makes the value itself, and it is counted how many need not.
    Observe,
    /// One makes it, and the others wait for at most so long.
    On(Duration),
}

/// Who is said to have made a change, beside the number of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes {
    /// The name of this machine.
    pub host: String,
    /// A name that the deployment chose; empty for none.
    pub name: String,
}

/// What happens when the server fails an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutagePolicy {
    /// The caller gets the error.
    Raise,
    /// Reads miss, writes are dropped; both are counted and the change is logged.
    Miss,
    /// While the breaker is open, reads come from the files that dual writing keeps.
    Json,
}

/// A user and a password, never shown.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct Credentials {
    /// ACL user; None is the server's `default` user.
    pub username: Option<String>,
    /// Its password.
    pub password: Option<String>,
    /// The file that holds its password instead, read at each login.
    pub password_file: Option<PathBuf>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (&self.password, &self.password_file) {
            (None, None) => "Credentials(none)",
            _ => "Credentials(***)",
        })
    }
}

/// What to ask sentinels for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sentinel {
    /// The name under which they watch the master.
    pub master: String,
    /// Who we are to them: they know other users than the servers.
    pub credentials: Credentials,
}

/// What a server's certificate is checked against, and what we show it: PEM files, read again for
/// new connections. The certificate is checked whatever they say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct TlsFiles {
    /// The certificates trusted to sign the server's; None for those that the system trusts.
    pub ca: Option<PathBuf>,
    /// This client's certificate, and those that lead to the one the server trusts.
    pub cert: Option<PathBuf>,
    /// The key of this client's certificate.
    pub key: Option<PathBuf>,
}

/// All that decides which set of connections a store uses: equal settings share one set.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServerConfig {
    /// Where the server is, or the first one to ask.
    pub endpoint: Endpoint,
    /// Where else to ask for the others.
    pub seeds: Vec<Endpoint>,
    /// Whether the servers are a cluster.
    pub cluster: bool,
    /// Set if the endpoint and the seeds are sentinels.
    pub sentinel: Option<Sentinel>,
    /// Who we are.
    pub credentials: Credentials,
    /// Files for a server that speaks TLS.
    pub tls: TlsFiles,
    /// Connections kept open when idle.
    pub min_connections: usize,
    /// Connections never exceeded.
    pub max_connections: usize,
    /// Open the minimum at first use, not one by one.
    pub prewarm: bool,
    /// See [`CONNECTION_TIMEOUT`].
    pub connection_timeout: Duration,
    /// See [`SOCKET_TIMEOUT`].
    pub socket_timeout: Duration,
    /// See [`OPERATION_TIMEOUT`].
    pub operation_timeout: Duration,
    /// Whether an attempt that timed out may be repeated, where repeating is safe.
    pub retry_on_timeout: bool,
    /// Repetitions after the first attempt.
    pub max_retries: u32,
    /// See [`HEALTH_CHECK_INTERVAL`].
    pub health_check_interval: Duration,
    /// Operations in a row that must fail for want of a server to open the breaker.
    pub breaker_failures: u32,
    /// See [`BREAKER_RECOVERY`].
    pub breaker_recovery: Duration,
    /// What a barrier waits for.
    pub durability: Durability,
    /// See [`DURABILITY_TIMEOUT`].
    pub durability_timeout: Duration,
}

impl ServerConfig {
    /// The defaults, for a server at `url`.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Self {
            endpoint: Endpoint::parse(url)?,
            seeds: Vec::new(),
            cluster: false,
            sentinel: None,
            credentials: Credentials::default(),
            tls: TlsFiles::default(),
            min_connections: 0,
            max_connections: 50,
            prewarm: false,
            connection_timeout: CONNECTION_TIMEOUT,
            socket_timeout: SOCKET_TIMEOUT,
            operation_timeout: OPERATION_TIMEOUT,
            retry_on_timeout: true,
            max_retries: 3,
            health_check_interval: HEALTH_CHECK_INTERVAL,
            breaker_failures: 5,
            breaker_recovery: BREAKER_RECOVERY,
            durability: Durability::Ack,
            durability_timeout: DURABILITY_TIMEOUT,
        })
    }

    /// These settings, for one of the servers.
    pub(crate) fn at(&self, endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            ..self.clone()
        }
    }

    fn validate(&self) -> Result<()> {
        let refuse = |message: &str| Err(Error::new(Kind::Config, message));
        if self.cluster && self.endpoint.database != 0 {
            return refuse("redis_url names a database, and a cluster has none but 0");
        }
        if !self.cluster && self.sentinel.is_none() && !self.seeds.is_empty() {
            return refuse("redis_url names several servers, which takes redis_cluster");
        }
        if self.cluster && self.sentinel.is_some() {
            return refuse("redis_cluster needs no sentinels");
        }
        if self.max_connections == 0 {
            return refuse("redis_max_connections must be at least 1");
        }
        if self.min_connections > self.max_connections {
            return refuse("redis_min_connections must not exceed redis_max_connections");
        }
        if self.breaker_failures == 0 {
            return refuse("redis_breaker_failures must be at least 1");
        }
        if self.credentials.password.is_some() && self.credentials.password_file.is_some() {
            return refuse("redis_password and redis_password_file are one setting: keep one");
        }
        if self.tls.cert.is_some() != self.tls.key.is_some() {
            return refuse("redis_tls_cert_file and redis_tls_key_file need each other");
        }
        if self.tls != TlsFiles::default() && !self.endpoint.secure {
            return refuse("redis_tls_* files are of no use to a redis_url without TLS: rediss://");
        }
        for (setting, time) in [
            ("redis_connection_timeout", self.connection_timeout),
            ("redis_socket_timeout", self.socket_timeout),
            ("redis_operation_timeout", self.operation_timeout),
            ("redis_breaker_recovery", self.breaker_recovery),
            ("redis_durability_timeout", self.durability_timeout),
        ] {
            if time.is_zero() {
                return refuse(&format!("{setting} must be more than 0 seconds"));
            }
        }
        Ok(())
    }
}

/// The validated settings of one store: one namespace on one server.
#[derive(Clone, Debug)]
pub struct StoreConfig {
    /// The host's partition.
    pub namespace: String,
    /// Its keys.
    pub keyspace: Keyspace,
    /// Seconds a value lives; None is for ever.
    pub ttl: Option<NonZeroU64>,
    /// Seconds that reads may prolong its life to in all; None: they prolong nothing.
    pub ttl_max_age: Option<NonZeroU64>,
    /// What a failure means to the caller.
    pub outage_policy: OutagePolicy,
    /// See [`MAX_VALUE_BYTES`].
    pub max_value_bytes: usize,
    /// What values are stored as.
    pub compression: Compression,
    /// Bytes that local copies may take, those of other namespaces included; 0 keeps none.
    pub near_cache_bytes: usize,
    /// What callers do that miss one id at once.
    pub single_flight: SingleFlight,
    /// Whether the ids are kept in a registry beside the namespace.
    pub registry: bool,
    /// Who writes, where changes are recorded in a stream beside the namespace; None: they are not.
    pub changes: Option<Changes>,
    /// Whether a drop waits for the values that take the place of the old ones.
    pub deferred_drop: bool,
    /// The host's files, which are kept up with what is written; None: they are not.
    pub dual_write: Option<Paths>,
    /// The working directory that fills the keyspace; None where several may.
    pub working_dir: Option<String>,
    /// The server.
    pub server: ServerConfig,
}

impl StoreConfig {
    /// A store of `namespace` under the default key prefix: no workspace, no TTL, errors raised,
    /// values stored as plain JSON, no registry.
    pub fn new(server: ServerConfig, namespace: &str) -> Result<Self> {
        server.validate()?;
        Ok(Self {
            namespace: namespace.to_owned(),
            keyspace: Keyspace::new("nano_graphrag", "", namespace)?,
            ttl: None,
            ttl_max_age: None,
            outage_policy: OutagePolicy::Raise,
            max_value_bytes: MAX_VALUE_BYTES,
            compression: Compression::default(),
            near_cache_bytes: 0,
            single_flight: SingleFlight::Off,
            registry: false,
            changes: None,
            deferred_drop: false,
            dual_write: None,
            working_dir: None,
            server,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_shows_no_password() {
        let mut server = ServerConfig::new("redis://localhost").unwrap();
        server.credentials.password = Some("canary".to_owned());
        assert!(!format!("{server:?}").contains("canary"));
    }

    #[test]
    fn limits_that_contradict_each_other_are_refused_by_name() {
        let mut server = ServerConfig::new("redis://localhost").unwrap();
        server.min_connections = 51;
        let error = StoreConfig::new(server, "docs").unwrap_err();
        assert!(error.to_string().contains("redis_min_connections"));
    }
}
