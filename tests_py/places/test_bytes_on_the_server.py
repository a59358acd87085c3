"""See ``contract/test_bytes_on_the_server.py``."""

from contract.test_bytes_on_the_server import *  # noqa: F403
