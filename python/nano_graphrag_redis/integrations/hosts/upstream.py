"""Upstream: replaces the default storage of the dataclass ``GraphRAG`` with a placeholder.

A GraphRAG without an explicit storage class gets the placeholder, which resolves to the class that
the environment names at that moment. An explicit class, including ``JsonKVStorage``, is left alone.
The default occurs in several places, and all of them are replaced: the field and the class
attribute, which later subclasses inherit, and the signature of ``__init__``, which dataclasses
defined earlier have compiled into their own.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import MISSING, is_dataclass
from types import FunctionType, ModuleType
from typing import Any, Final

from nano_graphrag_redis.config import kv_backend
from nano_graphrag_redis.exceptions import StorageConfigError

from . import missing_values
from .cache_host_embeddings import cache_embeddings_of
from .going_back_to_json import bring_up_to_date, host_chose_json
from .storage_class import is_redis_storage, redis_storage

FIELD: Final = "key_string_value_json_storage_cls"


def register(host: ModuleType, undo: ExitStack) -> bool:
    """Registers with ``GraphRAG``, if it is upstream's; ``undo`` gets the callback to unregister.

    Raises:
        StorageConfigError: A subclass keeps its default where it cannot be replaced.
    """
    graph_rag = getattr(host, "GraphRAG", None)
    if not (isinstance(graph_rag, type) and is_dataclass(graph_rag)):
        return False
    field = graph_rag.__dataclass_fields__.get(FIELD)
    if field is None or field.default is MISSING:
        return False

    default = field.default
    placeholder = _placeholder(default)
    undo.callback(_replace_default, graph_rag, placeholder, default)
    # A subclass with a field of its own has chosen its storage; the others share GraphRAG's.
    heirs = [cls for cls in _family(graph_rag) if cls.__dataclass_fields__[FIELD] is field]
    for cls in heirs:
        _replace_in(cls, default, placeholder)
        _check_replaced(cls, default)
    _resolve_before_use(graph_rag, placeholder, default, undo)
    missing_values.register(host, undo)
    return True


def _storage_of_environment(default: Any) -> Any:
    if kv_backend() == "redis":
        return redis_storage()
    host_chose_json()
    return default


def _placeholder(default: Any) -> type:
    class StorageOfEnvironment:
        """The storage that ``STORAGE_KV_BACKEND`` names when it is made."""

        # For a subclass whose __post_init__ builds the stores without asking GraphRAG's.
        def __new__(cls, *args: Any, **kwargs: Any) -> Any:
            return _storage_of_environment(default)(*args, **kwargs)

    return StorageOfEnvironment


def _resolve_before_use(graph_rag: Any, placeholder: type, default: Any, undo: ExitStack) -> None:
    """Lets ``__post_init__`` find the class itself, which it logs and hands on."""
    original = graph_rag.__post_init__

    @functools.wraps(original)
    def resolved_first(self: Any) -> None:
        if getattr(self, FIELD) is placeholder:
            setattr(self, FIELD, _storage_of_environment(default))
            if getattr(self, FIELD) is default:
                bring_up_to_date(self.working_dir, {"addon_params": self.addon_params})
        if is_redis_storage(getattr(self, FIELD)):
            cache_embeddings_of(self)
        original(self)

    def restore() -> None:
        if graph_rag.__post_init__ is resolved_first:  # else someone wrapped it after us
            graph_rag.__post_init__ = original

    graph_rag.__post_init__ = resolved_first
    undo.callback(restore)


def _family(cls: Any) -> Iterator[Any]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from _family(subclass)


def _replace_default(graph_rag: type, old: Any, new: Any) -> None:
    for cls in _family(graph_rag):
        _replace_in(cls, old, new)


def _replace_in(cls: Any, old: Any, new: Any) -> None:
    """Replaces ``old`` as the default of the field wherever ``cls`` itself keeps it."""
    if vars(cls).get(FIELD) is old:
        setattr(cls, FIELD, new)
    field = cls.__dataclass_fields__[FIELD]
    if field.default is old:
        field.default = new
    init = inspect.unwrap(vars(cls).get("__init__", object.__init__))
    if not isinstance(init, FunctionType):
        return
    parameters = inspect.signature(init).parameters
    if FIELD in parameters and parameters[FIELD].default is old:
        defaults = {
            name: new if name == FIELD else parameter.default
            for name, parameter in parameters.items()
            if parameter.default is not parameter.empty
        }
        keyword_only = init.__kwdefaults__ or {}
        init.__kwdefaults__ = {name: defaults.pop(name) for name in keyword_only} or None
        init.__defaults__ = tuple(defaults.values()) or None


def _check_replaced(cls: Any, default: Any) -> None:
    """Refuses a class that would silently keep its default."""
    parameter = inspect.signature(cls.__init__).parameters.get(FIELD)
    if parameter is not None and parameter.default is default:
        raise StorageConfigError(
            f"{cls.__module__}.{cls.__qualname__} keeps {default.__name__} as its default storage "
            "where register() cannot replace it: define the class after register(), or give it "
            f"{FIELD}=RedisKVStorage"
        )
