"""The factory host: registers our loader for ``redis`` in its ``StorageFactory``.

Its JSON storages are not replaced; before one is created, its file is brought up to date.
"""

from __future__ import annotations

import functools
import inspect
from contextlib import ExitStack
from dataclasses import is_dataclass
from typing import Any

from nano_graphrag_redis.optional_imports import imported

from .cache_host_embeddings import cache_embeddings_of_provider
from .going_back_to_json import bring_up_to_date, host_chose_json
from .storage_class import is_redis_storage, redis_storage


def register(undo: ExitStack) -> bool:
    """Registers with the factory, if the host has one; ``undo`` gets the callback to unregister."""
    module = imported("nano_graphrag._storage.factory")
    if module is None:
        return False
    # It fills the registry only while that is empty: ours alone in it would lose the JSON backend.
    module._register_backends()
    loaders = module.StorageFactory._kv_backends
    before = {name: loader for name, loader in loaders.items() if name == "redis"}
    module.StorageFactory.register_kv("redis", redis_storage)

    def restore() -> None:
        if loaders.get("redis") is redis_storage:  # else someone registered after us
            del loaders["redis"]
            loaders.update(before)

    undo.callback(restore)
    _look_at_files_first(module.StorageFactory, undo)
    _cache_embeddings(undo)
    return True


def _look_at_files_first(factory: Any, undo: ExitStack) -> None:
    original = vars(factory)["create_kv_storage"]
    signature = inspect.signature(original.__func__)

    @functools.wraps(original.__func__)
    def up_to_date(cls: Any, *args: Any, **kwargs: Any) -> Any:
        asked = signature.bind(cls, *args, **kwargs).arguments
        settings = asked["global_config"]
        if asked["backend"] == "json":
            host_chose_json()
            if "working_dir" in settings:
                bring_up_to_date(settings["working_dir"], settings, [asked["namespace"]])
        return original.__func__(cls, *args, **kwargs)

    wrapper = classmethod(up_to_date)

    def restore() -> None:
        if vars(factory).get("create_kv_storage") is wrapper:  # else someone wrapped it after us
            factory.create_kv_storage = original

    factory.create_kv_storage = wrapper
    undo.callback(restore)


def _cache_embeddings(undo: ExitStack) -> None:
    """Lets each new ``GraphRAG`` on Redis have what ``redis_cache_embeddings`` says."""
    module = imported("nano_graphrag.graphrag")
    graph_rag: Any = getattr(module, "GraphRAG", None)
    # A dataclass is upstream's, whose embedding function is a field.
    if not isinstance(graph_rag, type) or is_dataclass(graph_rag):
        return
    host: Any = graph_rag
    original = host.__init__

    @functools.wraps(original)
    def cached_afterwards(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if is_redis_storage(type(getattr(self, "full_docs", None))):
            cache_embeddings_of_provider(self, self.config.to_dict())

    def restore() -> None:
        if host.__init__ is cached_afterwards:  # else someone wrapped it after us
            host.__init__ = original

    host.__init__ = cached_afterwards
    undo.callback(restore)
