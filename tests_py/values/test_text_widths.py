"""Text is written and read as Python's json does it, in each width Python keeps text in."""

import json
import sys
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from nano_graphrag_redis.exceptions import CorruptValueError, StorageSerializationError
from support.servers import RedisServer
from values.documents import Name
from values.stores import Stores

KEY = b"nano_graphrag:values:text"

WIDEST = ("z", "\xff", "\uffff", "\U0010ffff")
"""The highest character of a text tells its width: ASCII, 1 byte, 2 bytes, 4 bytes."""
CORNERS = (
    "\0", "\x01", "\b", "\t", "\n", "\x0b", "\f", "\r", "\x1f", " ", '"', "/", "\\", "\x7f", "\x80",
    "\xe9", "\xff", "\u0100", "\u07ff", "\u0800", "\u2028", "\ud7ff", "\ue000", "\ufffd", "\uffff",
    "\U00010000", "\U0001f384", "\U0010ffff",
)  # fmt: skip
"""Where a character's form in UTF-8 or in JSON changes, and its neighbours."""
LENGTHS = (0, 1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 129)
"""Ends of the blocks in which text is looked at, and what is beside them."""


@pytest.fixture(scope="module")
def client(server_process: RedisServer) -> Iterator[Redis]:
    with server_process.client() as client:
        yield client


def written(stores: Stores, client: Redis, value: object) -> str:
    """What the server holds for a value."""
    stores.blocking.upsert({"text": value})
    stored = client.get(KEY)
    assert isinstance(stored, bytes)
    return stored.decode()


def dumped(value: object) -> str:
    """What it should hold."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def is_read(stores: Stores, client: Redis, texts: list[str]) -> None:
    """Texts come back, each as wide as Python would keep it, however they are escaped."""
    for ensure_ascii in (False, True):
        client.set(KEY, json.dumps([texts, dict.fromkeys(texts)], ensure_ascii=ensure_ascii))
        read, names = stores.blocking.get_by_id("text")
        assert read == texts
        assert list(names) == list(dict.fromkeys(texts))
        for found, text in zip([*read, *names], [*texts, *dict.fromkeys(texts)], strict=True):
            assert hash(found) == hash(text)
            if len(text) > 1:  # of shorter ones Python keeps some that are shared
                assert sys.getsizeof(found) == sys.getsizeof("".join(list(text))), ascii(text)


def texts_of(widest: str) -> list[str]:
    """Every corner that is no wider, at every end of a block of several kinds of text."""
    corners = [corner for corner in CORNERS if corner <= widest]
    texts = [
        around[:length] + corner + around[length:] + widest
        for corner in corners
        for length in LENGTHS
        for around in ("a" * 130, (widest * 3 + "ab") * 26, widest * 130)
    ]
    return texts + [corner * length for corner in corners for length in LENGTHS]


@pytest.mark.parametrize("widest", WIDEST, ids=ascii)
def test_every_corner_is_written_at_every_end_of_a_block(
    stores: Stores, client: Redis, widest: str
) -> None:
    value = texts_of(widest)
    # Keys too, which are interned where they are short and look like names.
    names = {text: number for number, text in enumerate(value)}
    subclasses = [Name(text) for text in value]
    assert written(stores, client, [value, names, subclasses]) == dumped([value, names, subclasses])


@pytest.mark.parametrize("widest", WIDEST, ids=ascii)
def test_every_corner_is_read_at_every_end_of_a_block(
    stores: Stores, client: Redis, widest: str
) -> None:
    is_read(stores, client, texts_of(widest))


def test_every_code_point_is_written_and_read(stores: Stores, client: Redis) -> None:
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    for start in range(0, len(codes), 65_536):
        text = "".join(map(chr, codes[start : start + 65_536]))
        value = [text, *(text[at : at + 5] for at in range(0, len(text), 5))]
        assert written(stores, client, value) == dumped(value)
        is_read(stores, client, value)


pieces = st.lists(
    st.text(st.sampled_from(CORNERS))
    | st.text()
    | st.text(st.characters(max_codepoint=0xFF, exclude_categories=["Cs"]))
    | st.sampled_from(["a" * 31, "é" * 33, "ж" * 64, "字" * 16, "🎄" * 32, "no more of that. "]),
    max_size=8,
)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(pieces=pieces)
@example(pieces=["a" * 32, "\u2019s", "a" * 30, "…", '"'])
def test_any_text_is_written_and_read_as_json_has_it(
    stores: Stores, client: Redis, pieces: list[str]
) -> None:
    text = "".join(pieces)
    value = {text: [text, Name(text), *pieces]}
    assert written(stores, client, value) == dumped(value)
    is_read(stores, client, [text, *pieces])


@pytest.mark.parametrize("surrogate", [0xD800, 0xDBFF, 0xDC00, 0xDFFF], ids=hex)
@pytest.mark.parametrize("kind", [str, Name])
@pytest.mark.parametrize("rest", ["z", "\uffff", "\U0010ffff"], ids=ascii)
def test_a_lone_surrogate_is_refused_at_every_end_of_a_block(
    stores: Stores, surrogate: int, kind: type[str], rest: str
) -> None:
    said = "the text holds a lone surrogate, which UTF-8 cannot hold: repair the text"
    for length in LENGTHS:
        text = kind(rest * length + chr(surrogate) + rest * 40)
        for value in ([text], {text: 1}):
            with pytest.raises(StorageSerializationError, match=said):
                stores.blocking.upsert({"text": value})


# Bytes that begin nothing or too much, and sequences that are cut off, too long or of surrogates.
NO_UTF_8 = (
    b"\x80", b"\xbf", b"\xc0\x80", b"\xc1\xbf", b"\xc3", b"\xc3(", b"\xe0\x9f\x80", b"\xe2\x82",
    b"\xe2(\xa1", b"\xed\xa0\x80", b"\xf0\x8f\xbf\xbf", b"\xf0\x9f\x8e", b"\xf4\x90\x80\x80",
    b"\xf5\x80\x80\x80", b"\xff",
)  # fmt: skip


@pytest.mark.parametrize("widest", WIDEST, ids=ascii)
def test_bytes_that_are_no_utf_8_are_corrupt_at_every_end_of_a_block(
    stores: Stores, client: Redis, widest: str
) -> None:
    for sequence in NO_UTF_8:
        for length in LENGTHS:
            for end in (b"", b"z" * 40, b"\\n" + widest.encode()):
                text = widest.encode() + b"a" * length + sequence + end
                client.set(KEY, b'{"key": ["%b"]}' % text)
                with pytest.raises(CorruptValueError, match="'utf-8' codec can't decode"):
                    stores.blocking.get_by_id("text")
