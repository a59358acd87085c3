"""What a call is made of: the socket, the codec and the event loop alone, and redis-benchmark.

The three one after the other are no floor: a client that decodes one piece while the next arrives,
or that has a faster codec, takes less than all of them together.
"""

import asyncio
import csv
import shutil
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import orjson

from benches.measure import Action
from benches.payloads import Payloads, copy
from benches.peers import TTL
from benches.server import Server
from benches.workload import Traffic

SOCKET, CODEC, EVENT_LOOP = "bare-socket", "orjson", "event-loop"
SOCKET_AND_CODEC = "bare-socket-and-orjson"
# Of one run of redis-benchmark, which is over in some tenths of a second.
REQUESTS_IN_TURN, REQUESTS_TOGETHER = 4_000, 20_000


Wave = tuple[bytes, int]
"""Requests that leave together, and how many bytes answer them."""


class _Socket:
    """One that blocks, and throws away what it receives."""

    def __init__(self, server: Server) -> None:
        self._socket = socket.create_connection((server.host, server.port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(1 << 20)

    def exchange(self, waves: list[Wave]) -> None:
        for request, size in waves:
            self._socket.sendall(request)
            self._receive(size)

    def exchange_and_decode(self, waves: list[Wave]) -> list[object]:
        """The values of requests of one each, decoded by orjson, and kept as a caller does."""
        values = []
        view = memoryview(self._buffer)
        for request, size in waves:
            self._socket.sendall(request)
            self._receive(size, view)
            start = self._buffer.index(b"\n") + 1
            values.append(orjson.loads(view[start : size - len("\r\n")]))
        return values

    def close(self) -> None:
        self._socket.close()

    def _receive(self, size: int, kept: memoryview | None = None) -> None:
        """Waits for so many bytes, which go one behind the other to `kept`, if that is given."""
        while size:
            room = self._buffer if kept is None else kept
            received = self._socket.recv_into(room, min(size, len(room)))
            if not received:
                raise ConnectionError("The server closed the bare socket.")
            size -= received
            if kept is not None:
                kept = kept[received:]


class BareSocket:
    """A blocking socket that sends prepared requests and counts the bytes of the answers.

    It parses nothing and makes no Python value: what is left is the server and the kernel. Where
    the callers are threads, there are as many of both, and each waits for its answer: nobody can
    send what a thread that blocks has not asked for yet. Each of them gives the interpreter up
    twice a call, to send and to receive, as a client in Python does; one in C can do with once.
    """

    def __init__(self, server: Server, payloads: Payloads) -> None:
        self._server = server
        self._sockets = [_Socket(server)]
        self._texts = {
            namespace: {id: orjson.dumps(value) for id, value in table.items()}
            for namespace, table in payloads.tables().items()
        }

    async def fill(self) -> None:
        """Store the payloads under keys of its own."""
        for namespace, texts in self._texts.items():
            await self.action(Traffic("SET", namespace, list(texts), together=1))()

    def action(self, traffic: Traffic, *, decode: bool = False) -> Action:
        """The traffic of one workload, its requests encoded beforehand.

        `decode` has threads decode what they receive, too: what they do one after the other takes
        them longer than both parts measured apart, since they all want the interpreter.
        """
        requests = [_encode(self.command(traffic, id)) for id in traffic.ids]
        sizes = [self._answer_size(traffic, id) for id in traffic.ids]
        if traffic.in_threads:
            exchange = _Socket.exchange_and_decode if decode else _Socket.exchange
            waves = list(zip(requests, sizes, strict=True))
            return self._in_threads(exchange, waves, traffic.together)
        waves = [
            (b"".join(requests[start:end]), sum(sizes[start:end]))
            for start in range(0, len(requests), traffic.together)
            for end in [start + traffic.together]
        ]

        async def run() -> None:
            self._sockets[0].exchange(waves)

        return run

    def command(self, traffic: Traffic, id: str) -> list[bytes]:
        """The command for one id, as its words."""
        words = [traffic.command.encode(), f"{SOCKET}:{traffic.namespace}:{id}".encode()]
        if traffic.command == "SET":
            words.append(self._texts[traffic.namespace][id])
            if ttl := TTL.get(traffic.namespace):
                words += [b"EX", str(ttl).encode()]
        return words

    def close(self) -> None:
        """Close the socket, or all of them."""
        for each in self._sockets:
            each.close()

    def _in_threads(
        self, exchange: Callable[[_Socket, list[Wave]], object], requests: list[Wave], threads: int
    ) -> Action:
        self._sockets += [_Socket(self._server) for _ in range(threads - len(self._sockets))]
        pool = ThreadPoolExecutor(threads)
        shares = [requests[number::threads] for number in range(threads)]

        async def run() -> object:
            return list(pool.map(exchange, self._sockets, shares))

        return run

    def _answer_size(self, traffic: Traffic, id: str) -> int:
        if traffic.command == "GET":
            size = len(self._texts[traffic.namespace][id])
            return size + len(f"${size}\r\n\r\n")
        return len("+OK\r\n" if traffic.command == "SET" else ":1\r\n")


def codec(traffic: Traffic, payloads: Payloads) -> Action:
    """Time orjson alone on the values of one workload, which are copies of this round's own."""
    table = copy(payloads.tables()[traffic.namespace])
    if traffic.command == "GET":
        texts = [orjson.dumps(table[id]) for id in traffic.ids]

        async def decode() -> object:
            return [orjson.loads(text) for text in texts]

        return decode
    values = [table[id] for id in traffic.ids]

    async def encode() -> None:
        for value in values:  # each text goes at once, as it does where it is sent
            orjson.dumps(value)

    return encode


def event_loop(loop: asyncio.AbstractEventLoop, traffic: Traffic) -> Action:
    """Time the event loop alone, on calls that do nothing.

    A call is a coroutine that awaits a future; one callback wakes all that wait, which costs one
    more pass of the loop. That is the least an awaited answer from a socket takes, whoever reads
    the socket. Waiting for the answer is the bare socket's share.
    """
    callers = 1 if traffic.one_call else traffic.together
    calls = 1 if traffic.one_call else len(traffic.ids)
    waiting: list[asyncio.Future[None]] = []

    def wake() -> None:
        for future in waiting:
            future.set_result(None)
        waiting.clear()

    async def call() -> None:
        if not waiting:
            loop.call_soon(wake)
        future = loop.create_future()
        waiting.append(future)
        await future

    async def run() -> None:
        for start in range(0, calls, callers):
            if callers == 1:
                await call()
            else:
                await asyncio.gather(*(call() for _ in range(min(callers, calls - start))))

    return run


def redis_benchmark(
    server: Server, bare: BareSocket, traffic: Traffic
) -> Callable[[], float] | None:
    """A run of redis-benchmark with the same value and as many clients: seconds of a request.

    None where it is not installed, or where the workload is not independent single requests.
    """
    program = shutil.which("redis-benchmark")
    if program is None or traffic.one_call:
        return None
    words = bare.command(traffic, traffic.ids[0])
    text = b""
    if traffic.command == "SET":
        # The value is its standard input, as the last word, so there is no room for a TTL.
        words, text = words[:2], words[2]
    command = [program, "-h", server.host, "-p", str(server.port), "--csv"]
    requests = REQUESTS_IN_TURN if traffic.together == 1 else REQUESTS_TOGETHER
    command += ["-c", str(traffic.together), "-n", str(requests), *(["-x"] if text else [])]
    words = [*map(str.encode, command), *words]

    def run() -> float:
        done = subprocess.run(words, input=text, capture_output=True, check=True)
        *_, row = csv.DictReader(done.stdout.decode(errors="replace").splitlines())
        return 1 / float(row["rps"])

    return run


def _encode(words: list[bytes]) -> bytes:
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        parts += [b"$%d\r\n" % len(word), word, b"\r\n"]
    return b"".join(parts)
