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


# Few names, so that some of them are repeated.
objects_of_json = st.builds(
    lambda members, comma: "{" + comma.join(members) + "}",
    st.lists(
        st.builds(
            "{}: {}".format, st.sampled_from(["a", "b", "", "é"]).map(json.dumps), texts_of_json
        )
    ),
    st.sampled_from([",", " ,\n"]),
)


class NamesOfParity:
    """The fields a caller asks for: it answers `in`, and no more."""

    def __init__(self, parity: int) -> None:
        self.parity = parity

    def __contains__(self, name: str) -> bool:
        return sum(map(ord, name)) % 2 == self.parity


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


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(
    text=objects_of_json | texts_of_json | damaged_texts(),
    asked=st.sampled_from([0, 1]).map(NamesOfParity),
)
@example(text='{"a": 1, "b": [], "a": {"b": 3}}', asked=NamesOfParity(1))
@example(text='{"\\ud800": [], "a": "\\ud800"}', asked=NamesOfParity(0))
@example(text=" {\t} ", asked=NamesOfParity(0))
def test_fields_of_another_client_s_text_are_those_of_json_loads(
    stores: Stores, client: Redis, text: str, asked: NamesOfParity
) -> None:
    client.set(KEY, text.encode())
    try:
        whole = json.loads(text)
    except ValueError:
        refused: type[Exception] = CorruptValueError
    else:
        refused = AttributeError
        if isinstance(whole, dict) or not whole:
            expected = {name: whole[name] for name in whole if name in asked} if whole else None
            for store in (stores.awaited, stores.blocking):
                [found] = store.get_by_ids(["foreign"], asked)  # type: ignore[arg-type]
                assert difference(found, expected) is None
            return
    for store in (stores.awaited, stores.blocking):
        with pytest.raises(refused, match="foreign"):
            store.get_by_ids(["foreign"], asked)  # type: ignore[arg-type]
