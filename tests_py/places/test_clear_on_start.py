"""See ``contract/test_clear_on_start.py``."""

from contract.test_clear_on_start import *  # noqa: F403
