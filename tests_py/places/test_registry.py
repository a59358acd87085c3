"""See ``contract/test_registry.py``."""

from contract.test_registry import *  # noqa: F403
