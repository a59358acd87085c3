"""See ``contract/test_namespaces.py``."""

from contract.test_namespaces import *  # noqa: F403
