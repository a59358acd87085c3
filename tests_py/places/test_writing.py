"""See ``contract/test_writing.py``."""

from contract.test_writing import *  # noqa: F403
