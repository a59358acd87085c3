"""See ``contract/test_fields.py``."""

from contract.test_fields import *  # noqa: F403
