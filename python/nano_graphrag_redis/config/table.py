"""The table of settings: name, meaning, unit, default and range of each, in one place.

A setting's name is its key in ``global_config``; in capitals it is its environment variable.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from .url import RedisUrl
from .values import (
    LARGEST_VALUE,
    Count,
    FilePath,
    Flag,
    Interval,
    Name,
    Names,
    OutagePolicy,
    Seconds,
    Secret,
    Text,
    Ttl,
    Url,
    WorkingDir,
    Workspace,
    word,
)

DEFAULT_URL: Final = RedisUrl.parse("redis://localhost:6379")

_DURABILITY: Final = r"^(ack|fsync|snapshot|(fsync\+)?replicas:[1-9][0-9]{0,4})$"


class SettingsTable(BaseModel):
    """The settings, without behaviour."""

    # The values are shown by our own messages, which know what is a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    redis_url: Url = Field(
        DEFAULT_URL,
        description="The server: redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// for TLS, "
        "redis+unix:///SOCKET?db=DATABASE, or embedded://DIRECTORY for a private server. For a "
        "cluster, one or more of its servers, comma-separated. For sentinels, "
        "redis+sentinel://HOST:PORT,HOST:PORT/DATABASE, rediss+sentinel:// with TLS.",
    )
    redis_cluster: Flag = Field(
        False,
        description="The server is a Redis Cluster, whose other servers it names. Connections are "
        "counted for each of them.",
    )
    redis_username: Text = Field(None, description="The ACL user; beats one in the URL.")
    redis_password: Secret = Field(None, description="The password; beats one in the URL.")
    redis_password_file: FilePath = Field(
        None,
        description="A file that holds the password instead, read again for new connections and "
        "when a login fails; one newline at its end does not count.",
    )
    redis_sentinel_master: Text = Field(
        None, description="The name under which the sentinels of the URL watch the master."
    )
    redis_sentinel_username: Text = Field(
        None, description="The ACL user at the sentinels, who know other users than the servers."
    )
    redis_sentinel_password: Secret = Field(None, description="The password at the sentinels.")
    redis_tls_ca_file: FilePath = Field(
        None,
        description="The certificates, in PEM, that are trusted to sign the server's; without it, "
        "those that the system trusts. For a rediss:// URL.",
    )
    redis_tls_cert_file: FilePath = Field(
        None, description="This client's certificate, in PEM, for a server that asks for one."
    )
    redis_tls_key_file: FilePath = Field(
        None, description="The key of this client's certificate, in PEM, without a passphrase."
    )
    redis_min_connections: Count = Field(
        0, ge=0, le=10_000, description="Connections that stay open when idle."
    )
    redis_max_connections: Count = Field(
        50,
        ge=1,
        le=10_000,
        validate_default=True,
        description="Connections of this process to one server, at most; calls share them.",
    )
    redis_connection_timeout: Seconds = Field(
        5.0, description="Seconds to open a connection, login included."
    )
    redis_socket_timeout: Seconds = Field(
        5.0, description="Seconds that one attempt waits for its answer."
    )
    redis_operation_timeout: Seconds = Field(
        10.0,
        description="Seconds for a call on one id, or for each piece of a batch, with its retries "
        "and reconnects.",
    )
    redis_prewarm_connections: Flag = Field(
        False, description="Open redis_min_connections at first use rather than one by one."
    )
    redis_retry_on_timeout: Flag = Field(
        True,
        description="Send a read or a write again when its answer did not come in time. One whose "
        "connection was lost is sent again whatever this says: see redis_max_retries.",
    )
    redis_max_retries: Count = Field(
        3,
        ge=0,
        le=100,
        description="Attempts after the first. A write that is sent again may land after another "
        "process has written the id, and take its place; with 0 no write is sent twice.",
    )
    redis_health_check_interval: Interval = Field(
        30.0,
        description="Seconds between two looks at idle connections, which are tried with PING and "
        "closed beyond the minimum; 0 for never.",
    )
    redis_breaker_failures: Count = Field(
        5,
        ge=1,
        le=1_000_000,
        description="Calls in a row that found no server before further ones fail at once.",
    )
    redis_breaker_recovery: Seconds = Field(
        1.0, description="Seconds between two looks for the server's return, at most."
    )
    redis_outage_policy: dict[str, OutagePolicy] = Field(
        default_factory=dict,
        description="What a call does when the storage fails: 'raise'; 'miss' (a read finds "
        "nothing, a write is dropped); 'json' (while the server is known to be away, reads come "
        "from the files that redis_dual_write keeps). One name for all, or {namespace: name}. "
        "Without it, llm_response_cache and embedding_cache miss and the others raise.",
    )
    redis_ttl: dict[Name, Ttl] = Field(
        default_factory=dict,
        description="Seconds that an entry lives, {namespace: seconds}; 0 for ever. Without it, "
        "llm_response_cache and embedding_cache 43200 and the others 0. Also redis_ttl_full_docs "
        "and the like.",
    )
    redis_key_prefix: Name = Field("nano_graphrag", description="The first part of every key.")
    redis_workspace: Workspace = Field(
        "", description="A deployment's own partition, so that several graphs share one server."
    )
    redis_shared_namespaces: Names = Field(
        frozenset(),
        description="Namespaces that stay outside the workspace, such as one LLM cache for "
        "several graphs; comma-separated.",
    )
    redis_max_value_bytes: Count = Field(
        64 * 1024 * 1024,
        ge=1,
        le=LARGEST_VALUE,
        description="Bytes of one value as JSON, at most; a larger one is refused before sending.",
    )
    redis_compression: Annotated[Literal["none", "zstd", "lz4"], word] = Field(
        "none",
        description="What values are stored as: plain JSON, or frames of zstd or LZ4 where they "
        "are smaller. Frames are read whatever the setting.",
    )
    redis_compression_min_bytes: Count = Field(
        1024,
        ge=0,
        le=LARGEST_VALUE,
        description="Bytes of JSON below which a value is stored as it is.",
    )
    redis_compression_level: Count | None = Field(
        None,
        description="The level of zstd, -131072 to 22: higher is smaller and slower. None for its "
        "own, 3. lz4 has no levels; 'none' has no use for one.",
    )
    redis_near_cache_mb: Count = Field(
        0,
        ge=0,
        le=1_048_576,
        description="Mebibytes of local copies of values in this process, which the server keeps "
        "right; 0 for none.",
    )
    redis_registry: Flag = Field(
        False,
        description="Keep the ids of each namespace in a sorted set beside it, so that drop, "
        "all_keys and counts take no longer when others fill the database. The same in every "
        "process that writes.",
    )
    redis_durability: Annotated[str, word] = Field(
        "ack",
        pattern=_DURABILITY,
        description="What index_done_callback waits for: 'ack' (nothing more), 'replicas:N', "
        "'fsync' (the server's append-only file is on its disk), 'fsync+replicas:N', or "
        "'snapshot' (a BGSAVE has ended).",
    )
    redis_durability_timeout: Seconds = Field(
        3.0, description="Seconds that index_done_callback waits for what redis_durability asks."
    )
    redis_dual_write: Flag = Field(
        False,
        description="Keep the host's JSON files in working_dir up with what is written, so that "
        "STORAGE_KV_BACKEND=json is the way back. KV_BACKEND_MIGRATION is the same. The same in "
        "every process that writes.",
    )
    redis_metrics_dir: FilePath = Field(
        None,
        description="A directory that the processes of a service share: each writes there what it "
        "counts, and `nano-graphrag-redis metrics` serves the sum.",
    )
    clear_on_start: Flag = Field(
        False,
        description="Empty the namespace in index_start_callback; never the LLM cache, never a "
        "shared namespace. Has no environment variable.",
    )
    working_dir: WorkingDir = Field(
        None, description="The host's own working directory; has no environment variable here."
    )
    redis_tracing: Annotated[Literal["off", "on", "ids"], word] = Field(
        "off",
        description="OpenTelemetry spans of every call, for the tracer that the service has set "
        "up: without ids, or with them. Wants the extra otel.",
    )
