"""See ``contract/test_changes.py``."""

from contract.test_changes import *  # noqa: F403
