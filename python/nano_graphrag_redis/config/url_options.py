"""URL options and schemes of other clients, and the settings that replace them.

redis-py, Celery (kombu) and Django take options after the ``?``. Here they are settings, which are
validated and named in errors.
"""

from __future__ import annotations

from typing import Final

_SETTINGS: Final = {
    "redis_username": ("username", "user"),
    "redis_password": ("password", "pass", "passwd"),
    "redis_socket_timeout": ("socket_timeout", "read_timeout", "socket_read_timeout"),
    "redis_connection_timeout": ("socket_connect_timeout", "connect_timeout", "conn_timeout"),
    "redis_operation_timeout": ("timeout",),
    "redis_health_check_interval": ("health_check_interval",),
    "redis_max_connections": ("max_connections", "maxsize", "pool_size"),
    "redis_min_connections": ("min_connections", "minsize"),
    "redis_retry_on_timeout": ("retry_on_timeout",),
    "redis_max_retries": ("retry", "retries", "retry_on_error", "max_retries"),
    "redis_tls_ca_file": ("ssl_ca_certs", "ssl_ca_path", "ssl_ca_data"),
    "redis_tls_cert_file": ("ssl_certfile",),
    "redis_tls_key_file": ("ssl_keyfile",),
    "redis_sentinel_master": ("service_name", "master_name", "sentinel_master", "mymaster"),
    "redis_sentinel_username": ("sentinel_username",),
    "redis_sentinel_password": ("sentinel_password",),
    "redis_key_prefix": ("global_keyprefix", "key_prefix", "prefix"),
}
"""The settings, and the options that they replace."""

_ADVICE: Final = {
    "decode_responses": "leave it out, values are always decoded",
    "encoding": "leave it out, values are JSON in UTF-8",
    "charset": "leave it out, values are JSON in UTF-8",
    "encoding_errors": "leave it out, values are JSON in UTF-8",
    "errors": "leave it out, values are JSON in UTF-8",
    "protocol": "leave it out, what is needed is spoken",
    "client_name": "leave it out, connections are named by the library",
    "lib_name": "leave it out, connections are named by the library",
    "lib_version": "leave it out, connections are named by the library",
    "socket_keepalive": "leave it out, redis_health_check_interval finds dead connections",
    "socket_keepalive_options": "leave it out, redis_health_check_interval finds dead connections",
    "single_connection_client": "leave it out and set redis_max_connections=1",
    "ssl": "leave it out and write rediss:// for TLS",
    "tls": "leave it out and write rediss:// for TLS",
    "ssl_cert_reqs": "leave it out, certificates are always verified; redis_tls_ca_file names a "
    "CA of your own",
    "ssl_check_hostname": "leave it out, names are always verified",
    "ssl_min_version": "leave it out, TLS is 1.2 or newer",
    "ssl_ciphers": "leave it out, TLS is 1.2 or newer",
    "ssl_password": "leave it out and let redis_tls_key_file name a key without a passphrase",
    "ssl_keyfile_password": "leave it out and let redis_tls_key_file name a key without a "
    "passphrase",
    "virtual_host": "write the database as redis://HOST/NUMBER",
    "database": "write the database as redis://HOST/NUMBER",
    "host": "write the server as redis://HOST:PORT",
    "port": "write the server as redis://HOST:PORT",
    "path": "write the socket as redis+unix:///SOCKET",
}

_SCHEMES: Final = {
    "valkey": "redis",
    "valkeys": "rediss",
    "redis+socket": "redis+unix",
    "redis+tls": "rediss",
    "sentinel": "redis+sentinel",
    "redis-sentinel": "redis+sentinel",
    "redis+cluster": "redis",
    "redis-cluster": "redis",
}


def advice_on(option: str) -> str | None:
    """What to do about an option; None for one that is not known, and may be anything."""
    name = option.lower()
    for setting, options in _SETTINGS.items():
        if name in options:
            return f"set {setting} instead"
    return _ADVICE.get(name)


def scheme_for(scheme: str) -> str | None:
    """What is written here in place of a scheme of others; None for one that is not known."""
    return _SCHEMES.get(scheme.lower())
