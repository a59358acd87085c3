"""What plugs the storage into a host: registration, the host's base class, the launcher's hook."""
