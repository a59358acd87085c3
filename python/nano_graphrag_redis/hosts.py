"""The public import path of ``register`` and ``unregister``."""

from __future__ import annotations

from nano_graphrag_redis.integrations.hosts.registration import register, unregister

__all__ = ["register", "unregister"]
