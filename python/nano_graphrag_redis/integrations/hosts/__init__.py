"""What makes the installed host use Redis, and use it well."""
