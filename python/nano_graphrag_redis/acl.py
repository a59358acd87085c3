"""The user of least privilege: the keys and commands a deployment needs, and nothing beyond them.

``nano-graphrag-redis doctor --acl`` prints the line; it is the one place that knows what is needed.
"""

from __future__ import annotations

import re
from typing import Final

from .config import RedisConfig
from .config.namespaces import LLM_CACHE

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
    """The rules of a user who may do what ``config`` asks for, one a word.

    AUTH and HELLO need no rule. INFO, CONFIG and BGSAVE are among them only where
    ``redis_durability`` needs what they tell: without INFO ``get_stats`` leaves out the
    server's memory, its policies are not looked at in the first call, and nothing else is missed.

    A space cannot stand in a rule: one in a prefix or a workspace becomes ``?``, which any
    character matches.

    Args:
        config: The deployment's settings.
        server: Major and minor version of the server, which refuses commands it does not know.
    """
    commands = {*_ALWAYS}
    if config.redis_near_cache_mb:
        commands.update(_NEAR_CACHE)
    if config.redis_registry:
        commands.update(_REGISTRY)
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
    """The command that makes the user, for ``redis-cli``; run again, it brings the user up to date.

    With ``user`` in place of ``ACL SETUSER`` it is a line of ``redis.conf`` or of an ACL file.

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
