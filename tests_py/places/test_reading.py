"""See ``contract/test_reading.py``."""

from contract.test_reading import *  # noqa: F403
