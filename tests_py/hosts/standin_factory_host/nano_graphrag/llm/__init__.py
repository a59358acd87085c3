"""What answers and embeds: objects that the host makes by its configuration."""

from .providers import EmbeddingProvider, LLMProvider

__all__ = ["EmbeddingProvider", "LLMProvider"]
