from nano_graphrag_redis import cache_embeddings, limit_llm


async def complete(prompt: str) -> str:
    return prompt


def blocking(prompt: str) -> str:
    return prompt


async def vectors(texts: list[str]) -> list[list[float]]:
    return [[0.0] for _ in texts]


limited = limit_llm(complete, model="gpt-4o", requests_per_minute=600)
limit_llm(complete, requests_per_minute=600)  # error: call-arg | reportCallIssue
limit_llm(complete, model="gpt-4o", rpm=600)  # error: call-arg | reportCallIssue
limit_llm(complete, model="gpt-4o", concurrent="five")  # error: arg-type | reportArgumentType
limit_llm(blocking, model="gpt-4o", concurrent=5)  # error: arg-type | reportArgumentType
limit_llm(complete, "redis://localhost", model="gpt-4o", concurrent=5)  # error: arg-type | reportArgumentType
cache_embeddings(vectors, model="small")  # error: type-var | reportArgumentType
cache_embeddings(complete)  # error: call-arg,type-var | reportCallIssue


async def asked() -> None:
    limited("why?").upper()  # error: attr-defined | reportAttributeAccessIssue
    limited("why?")  # error: unused-coroutine | reportUnusedCoroutine
    await limited(5)  # error: arg-type | reportArgumentType
    await limited("why?", temperature=0)  # error: call-arg | reportCallIssue
