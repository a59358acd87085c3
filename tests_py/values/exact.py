"""Compares two JSON documents exactly: types, float bits, the order of keys."""

import struct
from typing import Any


def difference(ours: Any, theirs: Any) -> str | None:
    """Where two documents first differ.

    Loops instead of recursing, since documents of 900 levels are compared too.

    Returns:
        Such as `$['a'][3]: 1 is not 1.0`, or None when they are the same document.
    """
    pending = [("$", ours, theirs)]
    while pending:
        path, left, right = pending.pop()
        if type(left) is not type(right):
            return f"{path}: {type(left).__name__} is not {type(right).__name__}"
        if isinstance(left, dict):
            # A dict knows its keys in the order of insertion, and a round trip keeps that.
            if list(left) != list(right):
                return f"{path}: keys {list(left)!a} are not {list(right)!a}"
            if odd := [key for key in left if type(key) is not str]:
                return f"{path}: keys {odd!a} are no plain str"
            pending += [(f"{path}[{key!a}]", left[key], right[key]) for key in left]
        elif isinstance(left, list):
            if len(left) != len(right):
                return f"{path}: {len(left)} items are not {len(right)}"
            pending += [
                (f"{path}[{i}]", *pair) for i, pair in enumerate(zip(left, right, strict=True))
            ]
        elif _bits(left) != _bits(right):
            return f"{path}: {left!a:.80} is not {right!a:.80}"
    return None


def _bits(scalar: Any) -> Any:
    """Tells -0.0 from 0.0, and makes a NaN equal to itself."""
    return struct.pack(">d", scalar) if isinstance(scalar, float) else scalar
