"""The factory host: our loader in its ``StorageFactory``, over its own for ``redis``."""

from __future__ import annotations

from contextlib import ExitStack

from .modules import imported, redis_storage


def register(undo: ExitStack) -> bool:
    """Registers with the factory, if the host has one; ``undo`` learns to take it back."""
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
    return True
