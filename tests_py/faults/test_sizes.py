"""Values beyond the cap: unfolded from a few bytes, offered for writing, found on the server."""

from __future__ import annotations

import json

import pytest
from redis import Redis

from contract.test_compression_bombs import BOMBS, MEBIBYTE
from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row

CAP = 64 * MEBIBYTE
"""`redis_max_value_bytes`, by default."""

PEAK = """
import json

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

storage.sync.upsert({"small": 1})
assert storage.sync.get_by_id("small") == 1
"""
READ = (
    PEAK
    + """
before = peak()
try:
    storage.sync.get_by_id("large")
except CorruptValueError as error:
    print(json.dumps([type(error).__name__, error.id, peak() - before]))
"""
)
WRITE = (
    PEAK
    + """
large = "x" * int(sys.argv[2])
before = peak()
try:
    storage.sync.upsert({"good": 1, "large": large})
except StorageSerializationError as error:
    print(json.dumps([type(error).__name__, error.id, peak() - before]))
"""
)


@pytest.mark.row(23)
def test_what_is_beyond_the_cap_is_refused_and_takes_no_more_memory_than_is_promised(
    row: Row, server: RedisServer, redis_client: Redis
) -> None:
    key = "nano_graphrag:full_docs:large"
    for kind in row.pick(quick=["zstd-size-untold"], full=list(BOMBS)):
        redis_client.set(key, BOMBS[kind]())
        name, id, taken = json.loads(run_script(READ, server.url, timeout=120).cleanly())
        assert (name, id) == ("CorruptValueError", "large")
        row.at_most(f"unfolds: {kind}", taken / MEBIBYTE, (CAP + 64 * MEBIBYTE) / MEBIBYTE, "MiB")

    size = 4 * CAP
    redis_client.set(key, b'"' + b"x" * size + b'"')
    name, id, taken = json.loads(run_script(READ, server.url, timeout=120).cleanly())
    assert (name, id) == ("CorruptValueError", "large")
    row.at_most("a stored value of four times the cap, peak of its size", taken / size, 2.2, "x")

    redis_client.flushall()
    name, id, taken = json.loads(run_script(WRITE, server.url, size, timeout=120).cleanly())
    assert (name, id) == ("StorageSerializationError", "large")
    assert redis_client.keys() == [b"nano_graphrag:full_docs:small"]
    row.at_most("offered for writing", taken / MEBIBYTE, (CAP + 64 * MEBIBYTE) / MEBIBYTE, "MiB")
