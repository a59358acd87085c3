"""The least-privilege user: the keys and commands that a deployment needs, and no others.

``nano-graphrag-redis doctor --acl`` prints the line. This module alone lists what is needed.
"""

from __future__ import annotations

import re
from typing import Final

from .config import RedisConfig
from .config.namespaces import KNOWN_NAMESPACES, LLM_LIMITS, REPORTS, SINGLE_FLIGHT

PLACEHOLDER: Final = "PASSWORD"
"""Stands in the line where the operator puts the password."""

_ALWAYS: Final = (
    "client|setname",
    "exists",
    "get",
    "memory|usage",
    "persist",
    "ping",
    "pttl",
    "scan",
    "set",
    "type",
    "unlink",
    "zremrangebyscore",  # one writer without a registry tells those who keep one
)
OF_COMMANDS: Final = frozenset({"persist", "type"})
"""What no storage asks, but ``doctor`` and ``prune --older-than`` do, which are run as it is."""
_NEAR_CACHE: Final = ("client|tracking",)
_REGISTRY: Final = (
    "zadd",
    "zcount",
    "zrangebyscore",
    "zscan",
    "zscore",
)
TRANSACTIONS: Final = frozenset({"exec", "multi", "watch"})
"""By which, on one server, a set of reports is replaced at once."""
_SLIDING: Final = ("pexpire",)
_CHANGES: Final = (
    "xadd",
    "xrange",  # these two: who reads what was recorded
    "xrevrange",
)
_LIMITS: Final = (
    "eval",
    "evalsha",
    "hdel",
    "hget",
    "hgetall",
    "hset",
    "pexpire",
    "time",
)
"""Of ``limit_llm``, which no setting tells of."""
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


def acl_rules(
    config: RedisConfig, *, server: tuple[int, int] = _KNOWS_SETINFO, limits: bool = False
) -> list[str]:
    """The ACL rules that ``config`` needs, one string per rule.

    AUTH and HELLO need no rule. INFO, CONFIG and BGSAVE are included only if
    ``redis_durability`` needs them. Without INFO, ``get_stats`` leaves out the server's memory,
    and the first call does not check the server's policies; everything else works.

    A rule cannot contain a space. A space in a prefix or a workspace becomes ``?``, which matches
    any character.

    Args:
        config: The deployment's settings.
        server: Major and minor version of the server, which rejects unknown commands.
        limits: Whether its processes use ``limit_llm``.
    """
    needs = (
        (_LIMITS, limits),
        (_NEAR_CACHE, config.redis_near_cache_mb),
        (_REGISTRY, config.redis_registry),
        (("getex",), config.redis_deferred_drop),
        (TRANSACTIONS, config.redis_deferred_drop and not config.redis_cluster),
        (_SLIDING, any(map(config.slides, KNOWN_NAMESPACES))),
        (_CHANGES, config.redis_changes),
        (_CLUSTER, config.redis_cluster),
        (("role",), config.redis_url.sentinel),
        (_INFORMING, server >= _KNOWS_SETINFO),
        (("select",), config.redis_url.database),
    )
    commands = {*_ALWAYS, *(command for group, needed in needs if needed for command in group)}
    level = re.split(r"[:+]", config.redis_durability)[0]
    commands.update(_BARRIERS[level])
    if level == "fsync":
        # CONFIG GET tells passwords too: granted only where nothing else tells of the file.
        commands.add("waitaof" if server >= _KNOWS_WAITAOF else "config|get")
    keys = [f"~{pattern}" for pattern in _patterns(config)]
    return [*keys, *(f"+{command}" for command in sorted(commands))]


def acl_line(
    config: RedisConfig,
    *,
    username: str | None = None,
    server: tuple[int, int] = _KNOWS_SETINFO,
    limits: bool = False,
) -> str:
    """The command that creates the user, for ``redis-cli``. Run it again to update the user.

    To use it in ``redis.conf`` or an ACL file, replace ``ACL SETUSER`` with ``user``.

    Args:
        config: The deployment's settings.
        username: The user's name; ``redis_username`` when None, or else ``nano_graphrag``.
        server: Major and minor version of the server.
        limits: Whether its processes use ``limit_llm``.

    Example:
        >>> acl_line(RedisConfig(redis_workspace="acme"))[:66]
        'ACL SETUSER nano_graphrag reset on >PASSWORD ~nano_graphrag@acme:*'
    """
    name = username or config.redis_username or config.redis_url.username or "nano_graphrag"
    words = [
        name,
        "reset",
        "on",
        f">{PLACEHOLDER}",
        *acl_rules(config, server=server, limits=limits),
    ]
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
    if config.redis_single_flight != "off":
        shared += [
            f"{_literal(f'{prefix}:@lease:{{{prefix}:{namespace}:')}*"
            for namespace in sorted(SINGLE_FLIGHT & config.redis_shared_namespaces)
        ]
    if config.redis_changes:
        shared += [
            _literal(f"{prefix}:@changes:{namespace}")
            for namespace in sorted(config.redis_shared_namespaces)
        ]
    shared += [
        f"{_literal(f'{prefix}:@born:{namespace}:')}*"
        for namespace in sorted(config.redis_shared_namespaces)
        if config.slides(namespace)
    ]
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
