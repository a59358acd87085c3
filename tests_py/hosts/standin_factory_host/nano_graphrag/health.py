"""The health route's look at Redis."""

from __future__ import annotations

from typing import Any


async def redis_is_healthy(graphrag: Any) -> bool:
    """Whether the server answers; only the very ``True`` counts."""
    try:
        if not hasattr(graphrag.full_docs, "_redis_client"):
            return True
        await graphrag.full_docs._ensure_initialized()
        return await graphrag.full_docs._redis_client.ping() is True
    except Exception:
        return False
