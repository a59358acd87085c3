"""The table of settings: name, meaning, unit, default and range of each, in one place.

A setting's name is its key in ``global_config``; its environment variable is the name in capitals.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from .namespaces import EMBEDDING_CACHE, LLM_CACHE
from .types_and_limits import (
    LARGEST_VALUE,
    LONGEST_TTL,
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
from .url import RedisUrl

DEFAULT_URL: Final = RedisUrl.parse("redis://localhost:6379")

DEFAULT_TTLS: Final[Mapping[str, int]] = {
    LLM_CACHE: 12 * 60 * 60,
    EMBEDDING_CACHE: 12 * 60 * 60,
}
"""Seconds; 0, which means never, for a namespace not listed."""

DEFAULT_OUTAGE_POLICIES: Final[Mapping[str, str]] = {
    LLM_CACHE: "miss",
    EMBEDDING_CACHE: "miss",
}
"""``raise`` for a namespace not listed."""

_DURABILITY: Final = r"^(ack|fsync|snapshot|(fsync\+)?replicas:[1-9][0-9]{0,4})$"


class SettingsTable(BaseModel):
    """The settings, without behaviour."""

    # The values are shown by our own messages, which know what is a secret.
    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    redis_url: Url = Field(
        DEFAULT_URL,
        description="The server: redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// for TLS, "
        "redis+unix:///SOCKET?db=DATABASE, or embedded://DIRECTORY for a private server. For a "
        "cluster, one or more of its servers, separated by commas. For Sentinel, "
        "redis+sentinel://HOST:PORT,HOST:PORT/DATABASE, or rediss+sentinel:// with TLS.",
    )
    redis_cluster: Flag = Field(
        False,
        description="The server is part of a Redis Cluster; the client discovers the other "
        "nodes. Connection limits apply per node.",
    )
    redis_username: Text = Field(None, description="The ACL user; overrides the user in the URL.")
    redis_password: Secret = Field(
        None, description="The password; overrides the password in the URL."
    )
    redis_password_file: FilePath = Field(
        None,
        description="A file that holds the password instead. It is read again for new "
        "connections and after a failed login; one trailing newline is ignored.",
    )
    redis_sentinel_master: Text = Field(
        None, description="The name under which the sentinels in the URL monitor the master."
    )
    redis_sentinel_username: Text = Field(
        None, description="The ACL user for the sentinels, which have their own users."
    )
    redis_sentinel_password: Secret = Field(None, description="The password for the sentinels.")
    redis_tls_ca_file: FilePath = Field(
        None,
        description="PEM file with the authorities that may sign the server's certificate; "
        "without it, the system's trust store. For rediss:// URLs.",
    )
    redis_tls_cert_file: FilePath = Field(
        None, description="PEM file with this client's certificate, for servers that require one."
    )
    redis_tls_key_file: FilePath = Field(
        None,
        description="PEM file with the key of this client's certificate, without a passphrase.",
    )
    redis_min_connections: Count = Field(
        0, ge=0, le=10_000, description="Connections that stay open when idle."
    )
    redis_max_connections: Count = Field(
        50,
        ge=1,
        le=10_000,
        validate_default=True,
        description="Maximum connections from this process to one server; calls share them.",
    )
    redis_connection_timeout: Seconds = Field(
        5.0, description="Seconds to open a connection, including login."
    )
    redis_socket_timeout: Seconds = Field(
        5.0, description="Seconds that one attempt waits for its reply."
    )
    redis_operation_timeout: Seconds = Field(
        10.0,
        description="Seconds for a call on one id, or for each piece of a batch, including "
        "retries and reconnects.",
    )
    redis_prewarm_connections: Flag = Field(
        False, description="Open redis_min_connections at first use instead of one by one."
    )
    redis_retry_on_timeout: Flag = Field(
        True,
        description="Retry a read or write whose reply did not arrive in time. Those whose "
        "connection was lost are retried regardless: see redis_max_retries.",
    )
    redis_max_retries: Count = Field(
        3,
        ge=0,
        le=100,
        description="Attempts after the first. A retried write may overwrite a value that "
        "another process wrote in between; with 0, no write is sent twice.",
    )
    redis_health_check_interval: Interval = Field(
        30.0,
        description="Seconds between checks of idle connections: each gets a PING, and those "
        "above the minimum are closed. 0 turns the checks off.",
    )
    redis_breaker_failures: Count = Field(
        5,
        ge=1,
        le=1_000_000,
        description="Consecutive calls that find no server before the circuit breaker opens and "
        "further calls fail at once.",
    )
    redis_breaker_recovery: Seconds = Field(
        1.0, description="Maximum seconds between probes while the circuit breaker is open."
    )
    redis_outage_policy: dict[str, OutagePolicy] = Field(
        default_factory=dict,
        description="What a call does when the storage fails: 'raise'; 'miss' (a read returns "
        "nothing, a write is dropped); or 'json' (while the server is known to be down, reads "
        "come from the files of redis_dual_write). One policy for all, or {namespace: policy}. "
        "By default llm_response_cache and embedding_cache miss, and the others raise.",
    )
    redis_ttl: dict[Name, Ttl] = Field(
        default_factory=dict,
        description="Time to live in seconds, {namespace: seconds}; 0 means no expiry. By "
        "default 43200 for llm_response_cache and embedding_cache, and 0 for the others. Also "
        "redis_ttl_full_docs and the like.",
    )
    redis_ttl_sliding: Flag = Field(
        False,
        description="Give a value that is read in the second half of its time to live that time "
        "anew, in the background. Concerns the namespaces with a TTL.",
    )
    redis_ttl_max_age: Count = Field(
        7 * 24 * 60 * 60,
        ge=1,
        le=LONGEST_TTL,
        description="Seconds after its write that redis_ttl_sliding keeps a value at most.",
    )
    redis_key_prefix: Name = Field("nano_graphrag", description="The first part of every key.")
    redis_workspace: Workspace = Field(
        "",
        description="A separate keyspace for this deployment, so that several graphs can share "
        "one server.",
    )
    redis_shared_namespaces: Names = Field(
        frozenset(),
        description="Namespaces that stay outside the workspace, such as one LLM cache for "
        "several graphs; separated by commas.",
    )
    redis_max_value_bytes: Count = Field(
        64 * 1024 * 1024,
        ge=1,
        le=LARGEST_VALUE,
        description="Maximum size of a value as JSON, in bytes; larger values are refused "
        "before anything is sent.",
    )
    redis_compression: Annotated[Literal["none", "zstd", "lz4"], word] = Field(
        "none",
        description="How values are stored: as plain JSON, or as zstd or LZ4 frames if that "
        "makes them smaller. Frames are read whatever the setting.",
    )
    redis_compression_min_bytes: Count = Field(
        1024,
        ge=0,
        le=LARGEST_VALUE,
        description="Values with fewer bytes of JSON than this are stored uncompressed.",
    )
    redis_compression_level: Count | None = Field(
        None,
        ge=-(2**31),
        le=2**31 - 1,
        description="The zstd level, -131072 to 22; higher is smaller and slower. None means "
        "zstd's default, 3. lz4 has no levels, and 'none' ignores it.",
    )
    redis_near_cache_mb: Count = Field(
        0,
        ge=0,
        le=1_048_576,
        description="Size in MiB of this process's near cache, which the server invalidates; 0 "
        "turns it off.",
    )
    redis_single_flight: Annotated[Literal["off", "observe", "on"], word] = Field(
        "off",
        description="What happens when tasks or processes miss the same LLM answer at once, or the "
        "same vector of cache_embeddings: 'off', each calls the provider; 'on', one calls it and "
        "the others wait for its answer; 'observe', each calls it, and the calls that 'on' would "
        "save are counted.",
    )
    redis_single_flight_wait: Seconds = Field(
        60.0,
        description="Seconds that a caller waits for another's answer before it calls the "
        "provider itself.",
    )
    redis_cache_embeddings: Annotated[Literal["off", "questions", "all"], word] = Field(
        "off",
        description="Cache the vectors of nano-graphrag's own openai_embedding and "
        "azure_openai_embedding, or of a factory host's provider, as cache_embeddings does for "
        "any function: 'questions', only those of a single text, as a query embeds; 'all', those "
        "of an insert too. It takes register() or run.",
    )
    redis_registry: Flag = Field(
        False,
        description="Keep the ids of each namespace in a sorted set, so that drop, all_keys and "
        "counts take no longer when other programs fill the database. Set it in every process "
        "that writes, or in none.",
    )
    redis_deferred_drop: Flag = Field(
        False,
        description="Keep the old community reports while an insert makes the new ones: drop() of "
        "community_reports sends nothing, and the next upsert of the same insert replaces them. "
        "drop(now=True) deletes at once.",
    )
    redis_changes: Flag = Field(
        False,
        description="Record every write in a stream beside its namespace: who changed how many "
        "ids, and the first 100 of them. `nano-graphrag-redis changes` reads it. At most once: an "
        "entry may be lost, but fails no write.",
    )
    redis_changes_name: str = Field(
        "",
        max_length=200,
        description="A name that entries of redis_changes carry beside host and process, such as "
        "the name of the deployment.",
    )
    redis_durability: Annotated[str, word] = Field(
        "ack",
        pattern=_DURABILITY,
        description="What index_done_callback waits for: 'ack' (nothing more), 'replicas:N', "
        "'fsync' (the server's append-only file is synced to disk), 'fsync+replicas:N', or "
        "'snapshot' (a BGSAVE has finished).",
    )
    redis_durability_timeout: Seconds = Field(
        3.0, description="Seconds that index_done_callback waits for redis_durability."
    )
    redis_dual_write: Flag = Field(
        False,
        description="Keep the host's JSON files in working_dir up to date, so that you can go "
        "back with STORAGE_KV_BACKEND=json. KV_BACKEND_MIGRATION is an alias. Set it in every "
        "process that writes, or in none.",
    )
    redis_metrics_dir: FilePath = Field(
        None,
        description="A directory shared by the processes of a service. Each writes its counters "
        "there, and `nano-graphrag-redis metrics` serves the sum.",
    )
    clear_on_start: Flag = Field(
        False,
        description="Empty the namespace in index_start_callback; never the LLM cache or a "
        "shared namespace. Has no environment variable.",
    )
    working_dir: WorkingDir = Field(
        None, description="The host's own working directory; has no environment variable here."
    )
    redis_tracing: Annotated[Literal["off", "on", "ids"], word] = Field(
        "off",
        description="Create an OpenTelemetry span for every call, with the tracer that the "
        "service has configured: 'on' without ids, 'ids' with them. Needs the extra otel.",
    )
