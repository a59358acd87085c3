"""Calls ``nano_graphrag_redis.register()`` right after ``nano_graphrag`` was imported.

Until then nothing is imported: this runs at the start of every Python below ``run``, most of which
never import the host.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # typing itself would be a hundred times this module
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_HOST = "nano_graphrag"
_OURS = "nano_graphrag_redis"


class _RegisteringLoader:
    """The host's own loader, and the registration after it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        made: ModuleType | None = self._loader.create_module(spec)
        return made

    def exec_module(self, module: Any) -> None:
        # The module shows the loader that it has without us.
        module.__loader__ = module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register()


class _HostFinder:
    """Finds nothing by itself: asks the other finders for the host, and wraps its loader."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _HOST:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec: Any = None if find is None else find(name, path, target)
            if spec is not None:
                # A directory without __init__.py, in the way of an import, has nothing to run.
                if hasattr(spec.loader, "exec_module") and spec.origin is not None:
                    spec.loader = _RegisteringLoader(spec.loader)
                found: ModuleSpec = spec
                return found
        return None


def _register() -> None:
    """Registers; an exception fails the import of the host, rather than leave it on JSON."""
    try:
        import nano_graphrag_redis
    except ModuleNotFoundError as missing:
        if missing.name != _OURS:
            raise
        if os.environ.get("STORAGE_KV_BACKEND", "").strip().lower() == "redis":
            sys.stderr.write(
                f"nano-graphrag-redis: {sys.executable} "
                "has nano_graphrag and lacks nano_graphrag_redis, so its storages are not "
                "registered there: install it for this Python too\n"
            )
    else:
        nano_graphrag_redis.register()


def install() -> None:
    """Waits for the host's import; registers at once where it was imported already."""
    if _HOST in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _HostFinder())
