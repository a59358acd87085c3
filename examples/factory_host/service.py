"""A host that creates its storages in a factory: one line replaces its own ``redis`` storage."""

from nano_graphrag import GraphRAG, GraphRAGConfig

import nano_graphrag_redis

nano_graphrag_redis.register()

rag = GraphRAG(GraphRAGConfig.from_env())

# What one worker had embedded, none has embedded again.
rag.embedding_provider = nano_graphrag_redis.cache_embeddings(
    rag.embedding_provider, model=rag.embedding_provider.model
)

if __name__ == "__main__":
    with rag.full_docs.sync as docs:
        print(f"{docs!r} answers: {docs.check_health()}")
