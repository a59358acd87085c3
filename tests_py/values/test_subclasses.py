"""What extends a list, a tuple, a dict, text or a number is stored as the host's storage would."""

from __future__ import annotations

import enum
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from nano_graphrag_redis.exceptions import StorageSerializationError
from support.stores import json_store
from values.exact import difference
from values.stores import Stores


class Listed(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        return iter([9, "listed"])


class Long(Listed):
    """True, though its storage is empty."""

    def __len__(self) -> int:
        return 1


class Untrue(Listed):
    """False, whatever its length says."""

    def __bool__(self) -> bool:
        return False


class Short(Listed):
    """False, though its storage is not empty."""

    def __len__(self) -> int:
        return 0


class Paired(tuple[Any, ...]):
    __slots__ = ()

    def __iter__(self) -> Iterator[Any]:
        return iter([9, "paired"])


class Mapped(dict[Any, Any]):
    def items(self) -> Any:
        return [("x", 1), ["y", [2]], iter(("z", None))]


class Iterated(dict[Any, Any]):
    """Neither ``json`` nor anybody else asks how it iterates when it is a value."""

    def __iter__(self) -> Iterator[Any]:
        return iter(["iterated"])

    def __getitem__(self, key: Any) -> Any:
        return f"got {key}"


class Full(Mapped):
    def __bool__(self) -> bool:
        return True


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "other"

    def __iter__(self) -> Iterator[str]:
        return iter("zz")


class Whole(int):
    def __repr__(self) -> str:
        return "77"

    def __bool__(self) -> bool:
        return False


class Real(float):
    def __repr__(self) -> str:
        return "7.5"

    def __float__(self) -> float:
        return 8.5


class Level(enum.IntEnum):
    LOW = 1


class Colour(str, enum.Enum):
    RED = "rouge"


class Ratio(float, enum.Enum):
    HALF = 0.5


class Flag(int, enum.Enum):
    ON = 1


VALUES = [
    Listed([1, 2]),
    Untrue([1, 2]),
    Listed(),
    Long(),
    Short([1]),
    Paired((1, 2)),
    Paired(),
    Mapped(a=1),
    Mapped(),
    Full(),
    Iterated(a=1),
    OrderedDict(b=1, a=2),
    Counter("abba"),
    defaultdict(list, a=[1]),
    Text("abc"),
    Whole(5),
    Whole(2**80),
    Real(2.5),
    Real("nan"),
    Level.LOW,
    Colour.RED,
    Ratio.HALF,
    Flag.ON,
    {Text("a"): 1, Whole(5): 2, Real(2.5): 3, Level.LOW: 4, Ratio.HALF: 5},
    {"deep": [Listed([Mapped(a=Paired((1,)))])]},
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_subclass_is_stored_as_the_host_stores_it(stores: Stores, value: Any) -> None:
    stores.oracle.upsert({"id": value})
    stores.oracle.index_done_callback()
    stores.blocking.upsert({"id": value})
    # As a host that starts anew reads it.
    assert difference(stores.blocking.get_by_id("id"), saved(stores)) is None


class Batch(Iterated):
    def keys(self) -> Any:
        return ["keys"]


@pytest.mark.parametrize("kind", [Mapped, Iterated, Batch, OrderedDict])
def test_a_batch_that_is_a_subclass_writes_what_the_host_writes(stores: Stores, kind: Any) -> None:
    for store in (stores.oracle, stores.blocking):
        store.drop()
        store.upsert(kind(a=1))
    assert sorted(stores.blocking.all_keys()) == sorted(stores.oracle.all_keys())
    for id in stores.oracle.all_keys():
        assert stores.blocking.get_by_id(id) == stores.oracle.get_by_id(id)


class Broken(list[Any]):
    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("not today")


class Endless(dict[str, Any]):
    def __bool__(self) -> bool:
        return True

    def items(self) -> Any:
        while True:
            yield "again", "x" * 1_000_000


class Odd(dict[str, Any]):
    def items(self) -> Any:
        return [("a", 1, 2)]


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (Broken([1]), r"Broken\.__iter__\(\) failed: .*not today"),
        (Endless(), "redis_max_value_bytes"),
        (Odd(a=1), r"Odd\.items\(\) gave something that is no pair"),
    ],
)
def test_a_subclass_that_cannot_be_gone_through_is_refused(
    stores: Stores, value: Any, said: str
) -> None:
    with pytest.raises(StorageSerializationError, match=said):
        stores.blocking.upsert({"id": value})


def saved(stores: Stores) -> Any:
    """What a storage of the host reads that is opened now."""
    with json_store("values", stores.files) as store:
        return store.get_by_id("id")
