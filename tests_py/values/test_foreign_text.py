"""What other clients wrote is read as json.loads reads it, or called corrupt."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from nano_graphrag_redis.exceptions import CorruptValueError
from support.servers import RedisServer
from values.documents import shallow_documents
from values.exact import difference
from values.stores import Stores

KEY = b"nano_graphrag:values:foreign"

texts_of_json = st.builds(
    json.dumps,
    shallow_documents,
    ensure_ascii=st.booleans(),
    indent=st.none() | st.integers(0, 2),
    separators=st.sampled_from([None, (",", ":"), (" , ", "\t:\r\n")]),
)


@st.composite
def damaged_texts(draw: st.DrawFn) -> str:
    """JSON text with one stretch of it cut out or replaced."""
    text = draw(texts_of_json)
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(start + 3, len(text))))
    return (
        text[:start]
        + draw(st.text('"\\/[]{}:,.eE+-0123u8dtrfn \n\0\ufeffNI', max_size=3))
        + text[end:]
    )


@pytest.fixture(scope="module")
def client(server_process: RedisServer) -> Iterator[Redis]:
    with server_process.client() as client:
        yield client


@settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    max_examples=5 * settings().max_examples,
)
@given(text=texts_of_json | damaged_texts())
@example(text="")
@example(text="\ufeff{}")
@example(text=" \t\r\n[1 , 2]\n")
@example(text="[1E5, 1e-5, -0, -0.0, 1.0, 1e400, -1e400, 1e-400, 0E+0]")
@example(text="[NaN, Infinity, -Infinity]")
@example(text="-NaN")
@example(text="01")
@example(text="+1")
@example(text=".5")
@example(text="1.")
@example(text="1e")
@example(text="[1,]")
@example(text="{'a': 1}")
@example(text='{"a": 1, "b": 2, "a": 3}')
@example(text='"\\ud83c\\udf84 \\/ \\b\\f"')
@example(text='["\\ud83c", "\\udf84\\ud83c", "\\ud83c\\u0041", {"\\udc80": 1}]')
@example(text='"\\x41"')
@example(text='"raw \n newline"')
@example(text="nul")
@example(text="1 2")
@example(text="9" * 4_300)
@example(text="9" * 4_301)
@example(text="0." + "123456789" * 90)
def test_text_of_another_client_reads_as_json_loads_reads_it(
    stores: Stores, client: Redis, text: str
) -> None:
    client.set(KEY, text.encode())
    try:
        expected = json.loads(text)
    except ValueError:
        for store in (stores.awaited, stores.blocking):
            with pytest.raises(CorruptValueError, match="foreign"):
                store.get_by_id("foreign")
    else:
        for store in (stores.awaited, stores.blocking):
            assert difference(store.get_by_id("foreign"), expected) is None
