"""``JsonFile`` reads what ``json.load`` reads, as it reads it, and refuses what it refuses."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nano_graphrag_redis._core import JsonFile
from nano_graphrag_redis.exceptions import JsonFileError
from values.documents import documents, ids
from values.exact import difference


def read(text: bytes) -> dict[str, Any]:
    """Every entry of a file of these bytes, as ``json.loads`` reads it."""
    with tempfile.NamedTemporaryFile(prefix="kv_store_") as file:
        file.write(text)
        file.flush()
        return {id: json.loads(value) for id, value in JsonFile(file.name)}


def loaded(text: bytes) -> Any:
    """What the host's ``load_json`` makes of them."""
    return json.loads(text.decode("utf-8"))


@settings(deadline=None)  # the machine may be busy
@given(
    st.dictionaries(ids, documents, max_size=5),
    st.sampled_from([{}, {"indent": 2}, {"indent": "\t"}, {"separators": (",", ":")}]),
    st.booleans(),
)
def test_a_file_is_read_as_json_load_reads_it(
    values: dict[str, Any], layout: dict[str, Any], ascii_only: bool
) -> None:
    text = json.dumps(values, ensure_ascii=ascii_only, **layout).encode()
    assert difference(read(text), loaded(text)) is None


_pieces = st.sampled_from(
    [
        *'{}[],:"\\ \n', '"a"', '"\\u00', "\\ud83d", "\\ude00", "\\", "e9", "1", "-", "0", ".5",
        "e5", "E", "+", "NaN", "Infinity", "-Infinity", "true", "null", "é", "\x00", "\ufeff",
    ]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(_pieces, max_size=12).map("".join), st.booleans())
@example('"a": [1,]', True)
@example('"a": -0', True)
@example('"a": 1, "\\u0061": 2', True)
@example('"a": {"b": 1, "b": {"c": 1}, "\\u0062": 3}', True)
@example('"a": "\\ud83d\\ude00\\ud83d x \\u0041\\ude00"', True)
def test_what_json_load_refuses_is_refused_and_nothing_else(inside: str, braces: bool) -> None:
    text = ("{" + inside + "}" if braces else inside).encode()
    try:
        expected = loaded(text) or {}  # as the host takes what is false
        assert isinstance(expected, dict)
    except (ValueError, AssertionError):
        with pytest.raises(JsonFileError, match=r"kv_store_.*byte \d+"):
            read(text)
    else:
        # No key can hold a lone surrogate: such an id comes as it stands in the file.
        kept = {id: value for id, value in expected.items() if _is_text(id)}
        found = {id: value for id, value in read(text).items() if id in kept}
        assert difference(found, kept) is None


def _is_text(id: str) -> bool:
    try:
        id.encode()
    except UnicodeEncodeError:
        return False
    return True


def test_an_error_names_the_file_and_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "kv_store_full_docs.json"
    path.write_bytes(b'{"a": 1, "b": [tru]}')
    with pytest.raises(JsonFileError, match=r"kv_store_full_docs\.json, byte 15: no value"):
        list(JsonFile(path))
    with pytest.raises(JsonFileError, match=r"none\.json"):
        JsonFile(tmp_path / "none.json")
    with pytest.raises(JsonFileError, match="no regular file"):
        JsonFile(tmp_path)
