"""Real parts the tests are built from: servers, hosts, processes."""
