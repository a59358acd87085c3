"""Modules that may not be installed."""

from __future__ import annotations

import importlib
from types import ModuleType


def imported(name: str) -> ModuleType | None:
    """The module ``name``; None when it, or a package it lies in, does not exist.

    Raises:
        ModuleNotFoundError: It exists, and something that it imports does not.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise
        return None
