"""The storages that come with the host."""

from .kv_json import JsonKVStorage

__all__ = ["JsonKVStorage"]
