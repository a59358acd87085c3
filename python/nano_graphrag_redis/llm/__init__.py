"""Wrappers for the functions with which the host calls providers: nothing is paid twice.

- ``embeddings``: ``cache_embeddings``, vectors by model and text
- ``cached_vectors``: the cache behind it, imported on first use because it needs numpy
- ``vectors``: a vector as JSON
- ``limiting``: ``limit_llm``, a limit around a function
- ``http``, ``refusals``, ``tokens``: what it sees of a call
- ``shared_limit``: the limit that all workers share
- ``slots``: what a process holds of it, kept by a thread
- ``local``: a process's part of it, while there is no server
"""
