"""See ``contract/test_unreadable_values.py``."""

from contract.test_unreadable_values import *  # noqa: F403
