//! The validated settings that `RedisConfig.core_settings` hands over, as a [`StoreConfig`].

use std::num::NonZeroU64;
use std::path::PathBuf;
use std::time::Duration;

use pyo3::prelude::*;

use crate::config::durability::Durability;
use crate::config::endpoint::Endpoint;
use crate::config::{
    Changes, Credentials, OutagePolicy, Sentinel, ServerConfig, SingleFlight, StoreConfig, TlsFiles,
};
use crate::error::{Error, Kind, Result};
use crate::files::Paths;
use crate::key_layout::Keyspace;
use crate::value::Compression;

/// The keys of the dict. Times are in seconds.
#[derive(FromPyObject)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
#[pyo3(from_item_all)]
pub(in crate::python) struct Settings {
    namespace: String,
    workspace: String,
    key_prefix: String,
    url: String,
    seeds: Vec<String>,
    cluster: bool,
    sentinel_master: Option<String>,
    sentinel_username: Option<String>,
    sentinel_password: Option<String>,
    username: Option<String>,
    password: Option<String>,
    password_file: Option<PathBuf>,
    tls_ca_file: Option<PathBuf>,
    tls_cert_file: Option<PathBuf>,
    tls_key_file: Option<PathBuf>,
    ttl: u64,
    ttl_max_age: u64,
    outage_policy: String,
    min_connections: usize,
    max_connections: usize,
    connection_timeout: f64,
    socket_timeout: f64,
    operation_timeout: f64,
    prewarm_connections: bool,
    retry_on_timeout: bool,
    max_retries: u32,
    health_check_interval: f64,
    breaker_failures: u32,
    breaker_recovery: f64,
    durability: String,
    durability_timeout: f64,
    max_value_bytes: usize,
    compression: String,
    compression_min_bytes: usize,
    compression_level: Option<i32>,
    near_cache_mb: usize,
    single_flight: String,
    single_flight_wait: f64,
    registry: bool,
    deferred_drop: bool,
    changes_host: Option<String>,
    changes_name: String,
    dual_write_directory: Option<PathBuf>,
    working_dir: Option<String>,
}

impl TryFrom<Settings> for StoreConfig {
    type Error = Error;

    fn try_from(settings: Settings) -> Result<Self> {
        let server = ServerConfig {
            endpoint: Endpoint::parse(&settings.url)?,
            seeds: settings
                .seeds
                .iter()
                .map(|url| Endpoint::parse(url))
                .collect::<Result<_>>()?,
            cluster: settings.cluster,
            sentinel: settings.sentinel_master.map(|master| Sentinel {
                master,
                credentials: Credentials {
                    username: settings.sentinel_username,
                    password: settings.sentinel_password,
                    password_file: None,
                },
            }),
            credentials: Credentials {
                username: settings.username,
                password: settings.password,
                password_file: settings.password_file,
            },
            tls: TlsFiles {
                ca: settings.tls_ca_file,
                cert: settings.tls_cert_file,
                key: settings.tls_key_file,
            },
            min_connections: settings.min_connections,
            max_connections: settings.max_connections,
            prewarm: settings.prewarm_connections,
            connection_timeout: seconds("redis_connection_timeout", settings.connection_timeout)?,
            socket_timeout: seconds("redis_socket_timeout", settings.socket_timeout)?,
            operation_timeout: seconds("redis_operation_timeout", settings.operation_timeout)?,
            retry_on_timeout: settings.retry_on_timeout,
            max_retries: settings.max_retries,
            health_check_interval: seconds(
                "redis_health_check_interval",
                settings.health_check_interval,
            )?,
            breaker_failures: settings.breaker_failures,
            breaker_recovery: seconds("redis_breaker_recovery", settings.breaker_recovery)?,
            durability: Durability::parse(&settings.durability)?,
            durability_timeout: seconds("redis_durability_timeout", settings.durability_timeout)?,
        };
        let keyspace = Keyspace::new(
            &settings.key_prefix,
            &settings.workspace,
            &settings.namespace,
        )?;
        Ok(Self {
            keyspace,
            ttl: NonZeroU64::new(settings.ttl),
            ttl_max_age: NonZeroU64::new(settings.ttl_max_age),
            outage_policy: outage_policy(&settings.outage_policy)?,
            max_value_bytes: settings.max_value_bytes,
            compression: Compression::new(
                &settings.compression,
                settings.compression_min_bytes,
                settings.compression_level,
            )?,
            single_flight: single_flight(
                &settings.single_flight,
                seconds("redis_single_flight_wait", settings.single_flight_wait)?,
            )?,
            near_cache_bytes: settings.near_cache_mb.saturating_mul(1 << 20),
            registry: settings.registry,
            deferred_drop: settings.deferred_drop,
            changes: settings.changes_host.map(|host| Changes {
                host,
                name: settings.changes_name,
            }),
            dual_write: settings
                .dual_write_directory
                .map(|directory| Paths::new(directory, &settings.namespace))
                .transpose()?,
            working_dir: settings.working_dir,
            ..Self::new(server, &settings.namespace)?
        })
    }
}

fn seconds(setting: &str, value: f64) -> Result<Duration> {
    Duration::try_from_secs_f64(value).map_err(|_| {
        Error::new(
            Kind::Config,
            format!("{setting} must be a number of seconds, not {value}"),
        )
    })
}

fn outage_policy(name: &str) -> Result<OutagePolicy> {
    match name {
        "raise" => Ok(OutagePolicy::Raise),
        "miss" => Ok(OutagePolicy::Miss),
        "json" => Ok(OutagePolicy::Json),
        _ => Err(Error::new(
            Kind::Config,
            format!("redis_outage_policy {name:?} must be 'raise', 'miss' or 'json'"),
        )),
    }
}

fn single_flight(name: &str, wait: Duration) -> Result<SingleFlight> {
    match name {
        "off" => Ok(SingleFlight::Off),
        "observe" => Ok(SingleFlight::Observe),
        "on" => Ok(SingleFlight::On(wait)),
        _ => Err(Error::new(
            Kind::Config,
            format!("redis_single_flight {name:?} must be 'off', 'observe' or 'on'"),
        )),
    }
}
