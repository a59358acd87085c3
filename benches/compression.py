"""What compression saves and costs, namespace by namespace: prints the table of the docs.

Run: .venv/bin/python -m benches.compression
"""

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import redis

from benches.payloads import BOOK, Table, build, stored_size
from benches.server import Server, running_server
from nano_graphrag_redis import SyncRedisKVStorage

ROUNDS = 7
CODECS: tuple[tuple[str, int | None], ...] = (
    ("none", None), ("lz4", None), ("zstd", -5), ("zstd", 1), ("zstd", None), ("zstd", 9),
    ("zstd", 19),
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One namespace under one codec; means over its values.

    Attributes:
        stored: Bytes on the server for each byte of JSON, as STRLEN tells.
        memory: Bytes the server spends for each byte of JSON, as MEMORY USAGE tells.
        write: Microseconds of processor time of this process for one value in an upsert of all.
        read: The same, in a get_by_ids of all.
    """

    stored: float
    memory: float
    write: float
    read: float


def processor_time(call: Callable[[], object], items: int) -> float:
    """Microseconds of processor time that all threads of this process spend on one item.

    The least of several rounds: what other programs do to the caches only ever adds.
    """
    best = float("inf")
    gc.disable()
    for _ in range(ROUNDS):
        began = time.process_time()
        call()
        best = min(best, time.process_time() - began)
    gc.enable()
    return best / items * 1e6


def measure(server: Server, namespace: str, table: Table, codec: str, level: int | None) -> Row:
    """Writes and reads the table under one codec."""
    settings: dict[str, Any] = {
        "redis_url": server.url,
        "redis_compression": codec,
        "redis_compression_level": level,
        "redis_ttl": {namespace: 0},
    }
    ids = list(table)
    with (
        redis.Redis(server.host, server.port) as client,
        SyncRedisKVStorage(namespace, settings) as store,
    ):
        client.flushall()
        write = processor_time(lambda: store.upsert(table), len(ids))
        read = processor_time(lambda: store.get_by_ids(ids), len(ids))
        keys = list(client.scan_iter(count=10_000))
        asked = client.pipeline(transaction=False)
        for key in keys:
            asked.strlen(key)
            asked.memory_usage(key)
        sizes = asked.execute()
    json_bytes = sum(map(stored_size, table.values()))
    return Row(sum(sizes[0::2]) / json_bytes, sum(sizes[1::2]) / json_bytes, write, read)


def main() -> None:
    """Prints the table."""
    book = BOOK.read_text(encoding="utf-8")
    tables = {"full_docs": {f"doc-{n}": {"content": book} for n in range(20)}, **build().tables()}
    with running_server() as server:
        print(f"{server.version}; {ROUNDS} rounds, the least of them\n")
        print("| namespace (JSON bytes a value) | setting | stored | memory | write | read |")
        print("| --- | --- | --- | --- | --- | --- |")
        for namespace, table in tables.items():
            mean = sum(map(stored_size, table.values())) // len(table)
            for codec, level in CODECS:
                row = measure(server, namespace, table, codec, level)
                named = codec if level is None else f"{codec}, level {level}"
                print(
                    f"| `{namespace}` ({mean:,}) | {named} | {row.stored:.2f} | {row.memory:.2f} "
                    f"| {row.write:.1f} | {row.read:.1f} |"
                )


if __name__ == "__main__":
    main()
