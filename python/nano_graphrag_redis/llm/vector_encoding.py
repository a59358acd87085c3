"""Encodes vectors as JSON values and back, bit for bit."""

from __future__ import annotations

import binascii
import zlib
from base64 import b64decode, b64encode
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[Any]

_TYPES: Final = ("<f2", "<f4", "<f8")
"""What a vector may be of; little-endian in what is stored."""


def encoded(vector: Vector, model: str) -> dict[str, Any] | None:
    """The JSON value for a vector; None for types other than 16, 32 or 64-bit floats.

    Doubles that fit into 32-bit floats, as from a provider that computes in 32 bits, take half the
    space.
    """
    little = vector.astype(vector.dtype.newbyteorder("<"), copy=False)
    dtype = little.dtype.str
    if dtype not in _TYPES:
        return None
    stored = little
    if dtype == "<f8":
        with np.errstate(all="ignore"):
            narrow = little.astype("<f4")
            if narrow.astype("<f8").tobytes() == little.tobytes():
                stored = narrow
    raw = stored.tobytes()
    return {
        "model": model,
        "dtype": dtype,
        "stored": stored.dtype.str,
        "crc32": zlib.crc32(raw),
        "vector": b64encode(raw).decode("ascii"),
    }


def decoded(value: Any, dimension: int) -> Vector | None:
    """The vector in a value; None if it is damaged or has another dimension."""
    if not isinstance(value, dict):
        return None
    dtype, stored, text = value.get("dtype"), value.get("stored"), value.get("vector")
    if dtype not in _TYPES or stored not in _TYPES or not isinstance(text, str):
        return None
    try:
        raw = b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    numbers = np.dtype(stored)
    if len(raw) != dimension * numbers.itemsize or zlib.crc32(raw) != value.get("crc32"):
        return None
    # A copy, in the byte order of this machine: what was read belongs to nobody else.
    return np.frombuffer(raw, numbers).astype(np.dtype(dtype).newbyteorder("="))
