"""See ``contract/test_compression.py``."""

from contract.test_compression import *  # noqa: F403
