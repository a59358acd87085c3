from collections.abc import Sequence
from dataclasses import dataclass

from typing_extensions import assert_type

from nano_graphrag_redis import RedisSettings, cache_embeddings, limit_llm

settings: RedisSettings = {"redis_url": "redis://localhost"}


async def complete(prompt: str, system_prompt: str | None = None, **kwargs: object) -> str:
    return prompt


limited = limit_llm(complete, settings, model="gpt-4o", requests_per_minute=600, concurrent=5)


async def asked() -> None:
    assert_type(await limited("why?", system_prompt="be brief"), str)


@dataclass
class Provider:
    embedding_dim: int
    model: str

    async def embed(self, texts: Sequence[str], timeout: float | None = None) -> dict[str, object]:
        return {"embeddings": [[0.0] * self.embedding_dim for _ in texts]}


assert_type(cache_embeddings(Provider(3, "small"), settings, model="small"), Provider)
