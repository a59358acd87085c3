"""nano-graphrag's own default: a dictionary in memory, written as one file when it is saved."""

from nano_graphrag._storage import JsonKVStorage

from benches.peers import FILES
from benches.server import Server


class JsonFileStorage(JsonKVStorage):  # type: ignore[misc]  # the host has no types
    """The host's class, with the close that the benchmark calls."""

    async def close(self) -> None:
        """Nothing is open between two saves."""


class JsonFiles:
    """The peer. Its reads are dictionary look-ups of one process, so only writes compare."""

    name = FILES
    title = "JsonKVStorage"

    async def open(self, server: Server, namespace: str) -> JsonFileStorage:
        return JsonFileStorage(namespace, {"working_dir": str(server.directory)})

    def open_blocking(self, _server: Server, _namespace: str) -> None:
        return None


PEERS = {JsonFiles.name: JsonFiles()}
