"""The demo: the real nano-graphrag indexes a real book, and its key-value stores lie in Redis.

Reading order: ``__main__`` (the story the reader sees), ``worker`` (one process of a GraphRAG
service: what an application writes), ``environment`` (how the host stays offline), ``inventory``
(what lies in Redis), ``llm_server`` (an OpenAI-compatible server), ``model`` (what it replies),
``cast`` (whom it recognises in the book) and ``embedding`` (its vectors).
"""
