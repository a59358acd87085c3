"""The base of ``RedisKVStorage``: the host's where nano-graphrag is installed, else one like it.

The host ships no types, so that a class over its own would be of type Any for whoever checks types;
and it installs on fewer Pythons than this package. For both there is a base of the same two fields.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic

from .typed_dicts import Value


@dataclass
class BaseKVStorage(Generic[Value]):
    """One namespace, and the settings that the host gives it."""

    namespace: str
    global_config: Mapping[str, Any]


if not TYPE_CHECKING:
    from .optional_imports import imported

    _host = imported("nano_graphrag.base")
    if _host is not None:
        BaseKVStorage = _host.BaseKVStorage
        if not hasattr(BaseKVStorage, "__class_getitem__"):

            class BaseKVStorage(_host.BaseKVStorage, Generic[Value]):
                """The base of a host that says nothing of the type of values."""
