"""What comes back equals what JsonKVStorage gives after a save and a load."""

import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from values.documents import (
    MAX_DEPTH,
    MAX_DIGITS,
    Deep,
    documents,
    ids,
    keys,
    nested,
    shallow_documents,
)
from values.exact import difference
from values.stores import Stores

# Times of a shared machine are no property of a value; a document may be large on purpose.
unhurried = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
# The full profile takes minutes on a busy machine.
pytestmark = pytest.mark.timeout(1_800)
thorough = settings(unhurried, max_examples=15 * settings().max_examples)


@thorough
@given(document=documents)
@example(document=Deep(MAX_DEPTH, "l", None))
@example(document=Deep(MAX_DEPTH, "d", None))
@example(document=Deep(MAX_DEPTH, "ltd", 5e-324))
@example(document=10**MAX_DIGITS - 1)
@example(document=-(10**MAX_DIGITS) + 1)
@example(document={10**MAX_DIGITS - 1: "a key of as many digits"})
@example(document=[-0.0, float("nan"), float("inf"), float("-inf"), 5e-324])
@example(document={True: 1, None: 2, 1.5: 3, float("nan"): 4, "true": 5, "null": 6, "1.5": 7})
@example(document="\0\u2028\u2029\U0001f384\x7f")
def test_a_value_comes_back_as_json_kv_storage_gives_it(stores: Stores, document: Any) -> None:
    stores.oracle.upsert({"id": document})
    expected = stores.oracle.get_by_id("id")
    for writer in (stores.awaited, stores.blocking):
        writer.upsert({"id": document})
        for reader in (stores.awaited, stores.blocking):
            assert difference(reader.get_by_id("id"), expected) is None


@unhurried
@given(batch=st.dictionaries(ids, documents, min_size=1, max_size=6), data=st.data())
def test_a_batch_comes_back_as_json_kv_storage_gives_it(
    stores: Stores, batch: dict[str, Any], data: st.DataObject
) -> None:
    wanted = data.draw(st.lists(st.sampled_from(list(batch)), min_size=1))
    for store in stores.all:
        store.drop()
        store.upsert(batch)
    expected = stores.oracle.get_by_ids(wanted)
    assert difference(stores.awaited.get_by_ids(wanted), expected) is None
    assert difference(stores.blocking.get_by_ids(wanted), expected) is None


@unhurried
@given(document=st.dictionaries(keys, shallow_documents), data=st.data())
def test_fields_of_a_value_are_those_json_kv_storage_gives(
    stores: Stores, document: dict[Any, Any], data: st.DataObject
) -> None:
    for store in stores.all:
        store.upsert({"id": document})
    names = list(stores.oracle.get_by_id("id"))
    fields = data.draw(st.sets(st.sampled_from([*names, "no such field"])))
    expected = stores.oracle.get_by_ids(["id"], fields)
    assert difference(stores.awaited.get_by_ids(["id"], fields), expected) is None
    assert difference(stores.blocking.get_by_ids(["id"], fields), expected) is None


@pytest.mark.parametrize("shape", ["l", "d", "t", "ltd"])
def test_the_deepest_value_needs_no_python_frames(stores: Stores, shape: str) -> None:
    deepest = nested(MAX_DEPTH, shape, "leaf")
    with a_hundred_frames_left():
        stores.blocking.upsert({"deepest": deepest})
        found = stores.blocking.get_by_id("deepest")
    assert difference(found, nested(MAX_DEPTH, shape.replace("t", "l"), "leaf")) is None


@contextmanager
def a_hundred_frames_left() -> Iterator[None]:
    """What a call may find that comes from deep inside a service."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack(0)) + 100)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
