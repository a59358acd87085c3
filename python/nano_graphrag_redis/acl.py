"""The least-privilege user: the keys and commands that a deployment needs, and no others.

``nano-graphrag-redis doctor --acl`` prints the line. This module alone lists what is needed.
"""

from __future__ import annotations

import re
from typing import Final

from .config import RedisConfig
from .config.namespaces import LLM_CACHE, LLM_LIMITS, REPORTS

PLACEHOLDER: Final = "PASSWORD"
"""Stands in the line where the operator puts the password."""

_ALWAYS: Final = (
    "client|setname",
    "exists",
    "get",
    "memory|usage",
    "ping",
    "scan",
    "set",
    "unlink",
    "zremrangebyscore",  # one writer without a registry tells those who keep one
)
_NEAR_CACHE: Final = ("client|tracking", "pttl")
_REGISTRY: Final = (
    "pttl",
    "zadd",
    "zcount",
    "zrangebyscore",
    "zscan",
    "zscore",
)
_CLUSTER: Final = (
    "asking",
    "cluster|info",  # whether it is cut off from the majority
    "cluster|nodes",  # which slots are being moved, or every walk over all keys takes two passes
    "cluster|slots",
)
_BARRIERS: Final = {
    "ack": (),
    "replicas": ("info", "wait"),
    "fsync": ("info",),
    "snapshot": ("bgsave", "info"),
}
"""By the first word of ``redis_durability``."""
_INFORMING: Final = ("client|setinfo",)
"""Known to Redis 7.2 and later alone, and the library works without it."""

_KNOWS_SETINFO: Final = (7, 2)
_KNOWS_WAITAOF: Final = (7, 2)


def acl_rules(config: RedisConfig, *, server: tuple[int, int] = _KNOWS_SETINFO) -> list[str]:
    """The ACL rules that ``config`` needs, one string per rule.

    AUTH and HELLO need no rule. INFO, CONFIG and BGSAVE are included only if
    ``redis_durability`` needs them. Without INFO, ``get_stats`` leaves out the server's memory,
    and the first call does not check the server's policies; everything else works.

    A rule cannot contain a space. A space in a prefix or a workspace becomes ``?``, which matches
    any character.

    Args:
        config: The deployment's settings.
        server: Major and minor version of the server, which rejects unknown commands.
    """
    commands = {*_ALWAYS}
    if config.redis_near_cache_mb:
        commands.update(_NEAR_CACHE)
    if config.redis_registry:
        commands.update(_REGISTRY)
    if config.redis_deferred_drop:
        commands.add("getex")
    if config.redis_cluster:
        commands.update(_CLUSTER)
    if config.redis_url.sentinel:
        commands.add("role")
    level = re.split(r"[:+]", config.redis_durability)[0]
    commands.update(_BARRIERS[level])
    if level == "fsync":
        # CONFIG GET tells passwords too: granted only where nothing else tells of the file.
        commands.add("waitaof" if server >= _KNOWS_WAITAOF else "config|get")
    if server >= _KNOWS_SETINFO:
        commands.update(_INFORMING)
    if config.redis_url.database:
        commands.add("select")
    keys = [f"~{pattern}" for pattern in _patterns(config)]
    return [*keys, *(f"+{command}" for command in sorted(commands))]


def acl_line(
    config: RedisConfig,
    *,
    username: str | None = None,
    server: tuple[int, int] = _KNOWS_SETINFO,
) -> str:
    """The command that creates the user, for ``redis-cli``. Run it again to update the user.

    To use it in ``redis.conf`` or an ACL file, replace ``ACL SETUSER`` with ``user``.

    Args:
        config: The deployment's settings.
        username: The user's name; ``redis_username`` when None, or else ``nano_graphrag``.
        server: Major and minor version of the server.

    Example:
        >>> acl_line(RedisConfig(redis_workspace="acme"))[:66]
        'ACL SETUSER nano_graphrag reset on >PASSWORD ~nano_graphrag@acme:*'
    """
    name = username or config.redis_username or config.redis_url.username or "nano_graphrag"
    words = [name, "reset", "on", f">{PLACEHOLDER}", *acl_rules(config, server=server)]
    return " ".join(["ACL", "SETUSER", *map(_quoted, words)])


def _patterns(config: RedisConfig) -> list[str]:
    """Glob patterns of every key that this deployment reads or writes."""
    prefix, workspace = config.redis_key_prefix, config.redis_workspace
    if not workspace:
        return [f"{_literal(prefix)}:*"]
    shared = [
        pattern
        for namespace in sorted(config.redis_shared_namespaces)
        for pattern in (
            f"{_literal(f'{prefix}:{namespace}')}:*",
            _literal(f"{prefix}:@registry:{namespace}"),
        )
    ]
    if LLM_CACHE in config.redis_shared_namespaces and config.redis_single_flight != "off":
        shared.append(f"{_literal(f'{prefix}:@lease:{{{prefix}:{LLM_CACHE}:')}*")
    if LLM_LIMITS in config.redis_shared_namespaces:
        shared.append(f"{_literal(f'{prefix}:@limit')}:*")
    if config.redis_deferred_drop and REPORTS in config.redis_shared_namespaces:
        shared.append(f"{_literal(f'{prefix}:@swap:{REPORTS}')}*")
    if shared and config.redis_durability != "ack":
        shared.append(f"{_literal(f'{prefix}:@durability')}*")
    return [f"{_literal(f'{prefix}@{workspace}')}:*", *shared]


def _literal(text: str) -> str:
    """``text`` as a pattern that matches it alone, as far as one can be written."""
    return "".join(
        f"\\{character}" if character in "*?[]\\" else "?" if _is_space(character) else character
        for character in text
    )


def _is_space(character: str) -> bool:
    """What the server takes for the end of a rule."""
    return character in "\t\n\v\f\r \0"


def _quoted(word: str) -> str:
    """``word`` as redis-cli and configuration files read it."""
    if not any(character in "\"'" or not character.isprintable() for character in word):
        return word
    escaped = word.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else _escaped(c) for c in escaped) + '"'


def _escaped(character: str) -> str:
    return "".join(f"\\x{byte:02x}" for byte in character.encode())
