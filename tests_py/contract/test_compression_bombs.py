"""A few bytes that unfold to gigabytes cost no more memory than the largest value allowed.

Without the bound, one bad value ends every worker that reads it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import lz4.frame
import pytest
import zstandard
from redis import Redis

from support.scripts import run_script
from support.servers import RedisServer, server_binaries

MEBIBYTE = 1 << 20
UNFOLDED = 512 * MEBIBYTE
"""Four times what may be taken: the default cap, and as much again."""

PIECE = bytes(16 * MEBIBYTE)
LYING_HEADER = bytes.fromhex("28b52ffd a0 00000004 010000")  # a content of 64 MiB, and an end


@pytest.fixture(scope="session")
def server_binary() -> Path:
    """The server only keeps the bytes."""
    return server_binaries()["valkey"]


def zstd_bomb(told: bool, window_log: int) -> bytes:
    parameters = zstandard.ZstdCompressionParameters(
        compression_level=1, window_log=window_log, write_content_size=told
    )
    bomb = zstandard.ZstdCompressor(compression_params=parameters).compressobj(
        UNFOLDED if told else -1
    )
    pieces = [bomb.compress(PIECE) for _ in range(UNFOLDED // len(PIECE))]
    return b"".join([*pieces, bomb.flush()])


def lz4_bomb(told: bool) -> bytes:
    bomb = lz4.frame.LZ4FrameCompressor(block_size=lz4.frame.BLOCKSIZE_MAX4MB)
    pieces = [bomb.begin(UNFOLDED if told else 0)]
    pieces += [bomb.compress(PIECE) for _ in range(UNFOLDED // len(PIECE))]
    return b"".join([*pieces, bomb.flush()])


BOMBS: dict[str, Callable[[], bytes]] = {
    "zstd": lambda: zstd_bomb(told=True, window_log=20),
    "zstd-size-untold": lambda: zstd_bomb(told=False, window_log=20),
    "zstd-window-of-128-MiB": lambda: zstd_bomb(told=False, window_log=27),
    "zstd-lying-header": lambda: LYING_HEADER,
    "lz4": lambda: lz4_bomb(told=True),
    "lz4-size-untold": lambda: lz4_bomb(told=False),
}

SCRIPT = """
import json, resource

def peak():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit

assert storage.sync.get_by_id("tame") == "x" * 10_000
before = peak()
try:
    storage.sync.get_by_id("bomb")
except CorruptValueError as error:
    print(json.dumps([error.id, error.namespace, str(error), peak() - before]))
"""


@pytest.mark.parametrize("kind", BOMBS)
def test_a_bomb_is_an_error_that_names_it_and_takes_little_memory(
    kind: str, server: RedisServer, redis_client: Redis
) -> None:
    bomb = BOMBS[kind]()
    assert len(bomb) < 4 * MEBIBYTE
    redis_client.set("nano_graphrag:full_docs:bomb", bomb)
    tame = zstandard.ZstdCompressor().compress(json.dumps("x" * 10_000).encode())
    redis_client.set("nano_graphrag:full_docs:tame", tame)
    id, namespace, message, taken = json.loads(run_script(SCRIPT, server.url).cleanly())
    assert (id, namespace) == ("bomb", "full_docs")
    assert "redis_max_value_bytes" in message or kind == "zstd-lying-header"
    assert taken <= (64 + 64) * MEBIBYTE
