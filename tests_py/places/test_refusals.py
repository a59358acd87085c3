"""See ``contract/test_refusals.py``."""

from contract.test_refusals import *  # noqa: F403
