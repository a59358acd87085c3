"""The names of namespaces, and of the variables that hold a setting of one; what each relies on.

The host has four namespaces, most with two names in the environment: ``REDIS_TTL_DOCS`` and
``REDIS_TTL_FULL_DOCS`` are the same setting. This package adds ``embedding_cache``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# Stands for every namespace not named; no namespace is empty, so it is none of them.
EVERY_NAMESPACE: Final = ""

HOST_NAMESPACES: Final[Mapping[str, tuple[str, ...]]] = {
    "full_docs": ("DOCS", "FULL_DOCS"),
    "text_chunks": ("CHUNKS", "TEXT_CHUNKS"),
    "community_reports": ("COMMUNITY_REPORTS",),
    "llm_response_cache": ("LLM_CACHE", "LLM_RESPONSE_CACHE"),
}
"""The host's namespaces, each with its names in the environment."""

LLM_CACHE: Final = "llm_response_cache"
"""The host's cached LLM answers, which cost money and never stop it."""

EMBEDDING_CACHE: Final = "embedding_cache"
"""Where ``cache_embeddings`` keeps vectors; the host knows nothing of it."""

SINGLE_FLIGHT: Final = frozenset({LLM_CACHE, EMBEDDING_CACHE})
"""Where ``redis_single_flight`` applies: a provider is paid for what is missing there."""

LLM_LIMITS: Final = "llm_limits"
"""What ``limit_llm`` counts under, and is shared by among workspaces; it holds no value."""

KNOWN_NAMESPACES: Final[Mapping[str, tuple[str, ...]]] = {
    **HOST_NAMESPACES,
    EMBEDDING_CACHE: ("EMBEDDING_CACHE",),
}
"""The host's namespaces, and the one that this package adds."""

OF_EVERY_HOST: Final = "full_docs"
"""Whose store asks what concerns a server and no namespace: one that is made up would be counted,
and shown by the metrics."""

REPORTS: Final = "community_reports"
"""What the host drops in each insert, and makes anew."""

MUST_NOT_EXPIRE: Final[Mapping[str, str]] = {
    "full_docs": "a document that expired is indexed, and paid for, again",
    "text_chunks": "queries do without a chunk that expired; without register() they fail with "
    "TypeError",
    "community_reports": "queries do without a report that expired; without register() the local "
    "one fails with KeyError",
}
"""The namespaces that the host relies on, each with what happens when an entry expires."""

PER_NAMESPACE: Final = ("redis_ttl", "redis_outage_policy")
"""The settings that have a value for each namespace."""


def environment_names(setting: str, namespace: str) -> tuple[str, ...]:
    """The variables that hold ``setting`` for one of the known namespaces.

    >>> environment_names("redis_ttl", "full_docs")
    ('REDIS_TTL_DOCS', 'REDIS_TTL_FULL_DOCS')
    """
    suffixes = KNOWN_NAMESPACES[namespace]
    if setting != "redis_ttl":
        suffixes = (namespace.upper(),)
    return tuple(f"{setting.upper()}_{suffix}" for suffix in suffixes)
