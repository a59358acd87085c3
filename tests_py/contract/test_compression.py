"""Compressed values are standard frames: another program reads ours, and we read its.

The oracles are the reference implementations, as PyPI's ``zstandard`` and ``lz4`` carry them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import lz4.frame
import pytest
import zstandard
from redis import Redis

from nano_graphrag_redis.exceptions import CorruptValueError
from support.stores import OpenRedisStore

KEY = "nano_graphrag:full_docs:doc"
CODECS = ["zstd", "lz4"]
STAVE = "Marley was dead: to begin with. There is no doubt whatever about that. \U0001f384 "
DOCUMENT = {"content": STAVE * 300, "weights": [0.1, None]}
TEXT = json.dumps(DOCUMENT, ensure_ascii=False, separators=(",", ":")).encode()


def _streamed(data: bytes, level: int) -> bytes:
    """A zstd frame that tells no content size, made of many blocks."""
    compressor = zstandard.ZstdCompressor(level=level).compressobj()
    pieces = [compressor.compress(data[at : at + 999]) for at in range(0, len(data), 999)]
    return b"".join([*pieces, compressor.flush()])


def _linked(data: bytes) -> bytes:
    """A frame as `lz4 -9` makes it: linked blocks, checksums of each, no content size."""
    frame: bytes = lz4.frame.compress(
        data,
        compression_level=9,
        block_size=lz4.frame.BLOCKSIZE_MAX64KB,
        block_linked=True,
        block_checksum=True,
        content_checksum=True,
        store_size=False,
    )
    return frame


FOREIGN: dict[str, Callable[[bytes], bytes]] = {
    "zstd": zstandard.ZstdCompressor().compress,
    "zstd-19": zstandard.ZstdCompressor(level=19, write_checksum=True).compress,
    "zstd-streamed": lambda data: _streamed(data, 1),
    "zstd-no-magic-size": zstandard.ZstdCompressor(write_content_size=False).compress,
    "zstd-two-frames": lambda data: b"".join(
        map(zstandard.ZstdCompressor().compress, (data[:7], data[7:]))
    ),
    "lz4": lz4.frame.compress,
    "lz4-linked": _linked,
    "lz4-two-frames": lambda data: lz4.frame.compress(data[:7]) + _linked(data[7:]),
}


def unfolded(codec: str, stored: object) -> bytes:
    """What the reference implementation of a codec reads."""
    assert isinstance(stored, bytes)
    if codec == "lz4":
        content: bytes = lz4.frame.decompress(stored)
        return content
    return zstandard.ZstdDecompressor().decompress(stored)


@pytest.mark.any_server
@pytest.mark.parametrize("level", [None, -7, 1, 19])
def test_another_program_reads_our_zstd_frames(
    open_redis: OpenRedisStore, redis_client: Redis, level: int | None
) -> None:
    store = open_redis("full_docs", redis_compression="zstd", redis_compression_level=level)
    store.upsert({"doc": DOCUMENT})
    stored = redis_client.get(KEY)
    assert unfolded("zstd", stored) == TEXT
    assert isinstance(stored, bytes)
    header = zstandard.get_frame_parameters(stored)
    assert (header.content_size, header.has_checksum) == (len(TEXT), True)
    assert store.get_by_id("doc") == DOCUMENT


def test_another_program_reads_our_lz4_frames(
    open_redis: OpenRedisStore, redis_client: Redis
) -> None:
    store = open_redis("full_docs", redis_compression="lz4")
    for document in (DOCUMENT, DOCUMENT | {"content": STAVE * 80_000}):  # one block, and many
        store.upsert({"doc": document})
        stored = redis_client.get(KEY)
        assert json.loads(unfolded("lz4", stored)) == document
        assert isinstance(stored, bytes)
        header = lz4.frame.get_frame_info(stored)
        assert header["content_checksum"]
        assert header["content_size"] == len(unfolded("lz4", stored))
        assert store.get_by_id("doc") == document


@pytest.mark.any_server
@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.parametrize("setting", ["none", *CODECS])
def test_frames_of_another_program_are_read_whatever_the_setting(
    open_redis: OpenRedisStore, redis_client: Redis, kind: str, setting: str
) -> None:
    large = DOCUMENT | {"content": STAVE * 30_000}
    frames = {id: FOREIGN[kind](json.dumps(value).encode()) for id, value in
              {"doc": DOCUMENT, "large": large}.items()}  # fmt: skip
    for id, frame in frames.items():
        redis_client.set(f"nano_graphrag:full_docs:{id}", frame)
    store = open_redis("full_docs", redis_compression=setting)
    assert store.get_by_id("doc") == DOCUMENT
    assert store.get_by_ids(["large", "none", "doc"]) == [large, None, DOCUMENT]
    assert store.get_by_ids(["doc"], {"weights"}) == [{"weights": [0.1, None]}]


@pytest.mark.parametrize("codec", CODECS)
def test_a_value_is_compressed_from_the_minimum_on_and_only_if_that_saves_bytes(
    open_redis: OpenRedisStore, redis_client: Redis, codec: str
) -> None:
    store = open_redis("full_docs", redis_compression=codec, redis_compression_min_bytes=100)
    store.upsert({"short": "x" * 97, "long": "x" * 98, "noise": noise(110)})
    stored = {id: redis_client.get(f"nano_graphrag:full_docs:{id}") for id in ("short", "noise")}
    assert stored == {
        id: json.dumps(store.get_by_id(id), ensure_ascii=False).encode() for id in stored
    }
    assert unfolded(codec, redis_client.get("nano_graphrag:full_docs:long")) == (
        b'"' + b"x" * 98 + b'"'
    )


def noise(characters: int) -> str:
    """Text too short and too varied for any codec: few characters come twice."""
    state, text = 1, []
    for _ in range(characters):
        state = state * 6364136223846793005 % 2**64 + 1
        text.append(chr(0x80 + (state >> 40) % 0x700))
    return "".join(text)


@pytest.mark.parametrize("codec", CODECS)
def test_large_batches_and_large_values_come_back(open_redis: OpenRedisStore, codec: str) -> None:
    store = open_redis("full_docs", redis_compression=codec)
    data: dict[str, Any] = {f"doc-{n}": {"n": n, "text": STAVE * (n % 90)} for n in range(1_000)}
    data["huge"] = {"text": STAVE * 100_000}
    store.upsert(data)
    assert store.get_by_ids(data) == list(data.values())


@pytest.mark.parametrize("codec", CODECS)
def test_statistics_tell_bytes_before_and_after_compression(
    open_redis: OpenRedisStore, redis_client: Redis, codec: str
) -> None:
    store = open_redis("full_docs", redis_compression=codec)
    assert store.get_stats(light=True)["json_bytes_written"] == 0
    store.upsert({"doc": DOCUMENT})
    store.upsert({"small": 1})
    stats = store.get_stats()
    assert stats["json_bytes_written"] == len(TEXT) + 1
    assert stats["stored_bytes_written"] == redis_client.strlen(KEY) + 1 < len(TEXT) / 2


DAMAGED: dict[str, bytes] = {
    "zstd-magic-alone": TEXT[:0] + b"\x28\xb5\x2f\xfd",
    "zstd-cut-off": zstandard.ZstdCompressor().compress(TEXT)[:-1],
    "zstd-bit": zstandard.ZstdCompressor(write_checksum=True).compress(TEXT)[:-1] + b"\0",
    "zstd-rest": zstandard.ZstdCompressor().compress(TEXT) + b"rest",
    "zstd-no-json": zstandard.ZstdCompressor().compress(b"{" * 100),
    "lz4-magic-alone": b"\x04\x22\x4d\x18",
    "lz4-cut-off": lz4.frame.compress(TEXT)[:-1],
    "lz4-cut-off-between-blocks": _linked(TEXT)[: -4 - 4],  # a frame's end mark, its checksum
    "lz4-bit": _linked(TEXT)[:-1] + b"\0",
    "lz4-rest": lz4.frame.compress(TEXT) + b"rest",
    "lz4-no-json": lz4.frame.compress(b"{" * 100),
}


@pytest.mark.any_server
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_frame_is_an_error_that_names_it(
    open_redis: OpenRedisStore, redis_client: Redis, damage: str
) -> None:
    redis_client.set(KEY, DAMAGED[damage])
    store = open_redis("full_docs")
    with pytest.raises(CorruptValueError, match="namespace 'full_docs', id 'doc'") as one:
        store.get_by_id("doc")
    with pytest.raises(CorruptValueError, match="id 'doc'"):
        store.get_by_ids(["none", "doc"])
    assert one.value.id == "doc"
    assert store.filter_keys(["doc"]) == set()
    cache = open_redis("llm_response_cache")
    redis_client.set("nano_graphrag:llm_response_cache:hash", DAMAGED[damage])
    assert cache.get_by_id("hash") is None
