"""Around the functions that the host asks a provider with: what was asked before is not paid again.

- ``embeddings``: ``cache_embeddings``, vectors by model and text
"""

from __future__ import annotations

from .embeddings import cache_embeddings

__all__ = ["cache_embeddings"]
