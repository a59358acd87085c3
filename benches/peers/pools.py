"""The two sizes of a pool that redis-py's backends are measured with.

Which is faster depends on the machine and the call, so the report takes the better of the two.
"""

from dataclasses import dataclass

import redis.asyncio

from benches.server import MAX_CLIENTS, Server


@dataclass(frozen=True)
class PoolSize:
    """How many sockets a client may open, and whether callers beyond that wait or fail."""

    title: str
    suffix: str
    """Of the peer's name."""
    connections: int
    kind: type[redis.asyncio.ConnectionPool]

    def pool(self, server: Server) -> redis.asyncio.ConnectionPool:
        """A pool of this size, which has opened nothing yet."""
        return self.kind.from_url(server.url, max_connections=self.connections, **PATIENCE)


# redis-py gives up after 5 seconds, which 10,000 callers with a socket each need to connect.
PATIENCE = {"socket_timeout": 60.0, "socket_connect_timeout": 60.0}

CONNECTION_PER_CALLER = PoolSize(
    "a socket per caller", "", MAX_CLIENTS, redis.asyncio.ConnectionPool
)
QUEUE_FOR_64 = PoolSize("64 sockets", "-64", 64, redis.asyncio.BlockingConnectionPool)
POOL_SIZES = (CONNECTION_PER_CALLER, QUEUE_FOR_64)
