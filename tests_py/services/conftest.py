"""Tests that want a service of the machine, or much of it: `make test-services` collects them."""

import os

# Programs of Debian's that are no part of the tests' own packages, or ten workers of the host.
collect_ignore_glob = [] if os.environ.get("TEST_SERVICES") else ["test_*.py"]
