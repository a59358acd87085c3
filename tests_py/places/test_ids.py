"""See ``contract/test_ids.py``."""

from contract.test_ids import *  # noqa: F403
