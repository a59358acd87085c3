"""Hypothesis strategies: every value that json.dumps takes and that UTF-8 can hold."""

from collections import OrderedDict
from collections.abc import Callable
from enum import Enum, IntEnum
from typing import Any, NamedTuple

from hypothesis import strategies as st

MAX_DIGITS = 4_300
"""The longest integer Python reads from text without being told to."""
MAX_DEPTH = 900
"""The deepest nesting a storage takes, in containers, on every Python."""


class Pair(NamedTuple):
    first: Any
    second: Any


class Level(IntEnum):
    LOW = 1
    HIGH = 2**70


class Colour(str, Enum):
    RED = "rouge \u2028"


class Name(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "not what json writes"


class Count(int):
    def __repr__(self) -> str:
        return "not what json writes"


class Weight(float):
    def __repr__(self) -> str:
        return "not what json writes"


class Row(list[Any]):
    pass


class Record(dict[Any, Any]):
    pass


texts = st.one_of(
    st.text(),
    st.text('\0\x1f\x7f\u2028\u2029\ufeff\uffff\U0001f384\U0010ffff\\"/\b\f\n\r\tdu8é'),
    # Escapes that are text already must not be read as escapes.
    st.sampled_from(["", r"\u0041", r"\ud800", "\\", '"', "NaN", "null", "\u0301e", "é" * 99]),
)

_edges = [
    0,
    10,
    2**15,
    2**24,
    2**31,
    2**32,
    2**53,
    2**63,
    2**64,
    2**127,
    2**128,
    10**19,
    10**308,
]
integers = st.one_of(
    st.integers(),
    st.builds(
        lambda edge, step, sign: sign * (edge + step),
        st.sampled_from(_edges),
        st.integers(-2, 2),
        st.sampled_from([1, -1]),
    ),
    # Written as a power of ten less a little: drawing thousands of digits would be slow.
    st.builds(
        lambda digits, less, sign: sign * (10**digits - less),
        st.integers(300, MAX_DIGITS) | st.just(MAX_DIGITS),
        st.integers(1, 10**9),
        st.sampled_from([1, -1]),
    ),
)

_smallest_normal = 2.0**-1022
floats = st.one_of(
    st.floats(),
    st.floats(-_smallest_normal, _smallest_normal),
    st.builds(
        lambda digits, exponent: float(f"{digits}e{exponent}"),
        st.integers(1, 10**17),
        st.integers(-342, 308),
    ),
    st.sampled_from(
        [
            -0.0,
            5e-324,
            1.7976931348623157e308,
            1e16,
            1e22,
            1e23,
            9007199254740993.0,
            float("nan"),
            float("inf"),
            float("-inf"),
        ]
    ),
)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    integers,
    floats,
    texts,
    st.sampled_from([*Level, *Colour]),
    st.builds(Name, texts),
    st.builds(Count, integers),
    st.builds(Weight, floats),
)

# Few and alike, so that some become the same key of the document: 1 and "1", None and "null".
_colliding_keys = st.sampled_from(
    [
        None,
        "null",
        True,
        "true",
        1,
        "1",
        1.0,
        "1.0",
        1.5,
        "1.5",
        float("nan"),
        "NaN",
        Level.LOW,
    ]
)
keys = _colliding_keys | texts | scalars


def _containers(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    lists = st.lists(items, max_size=4)
    dicts = st.dictionaries(keys, items, max_size=5)
    return st.one_of(
        lists,
        dicts,
        lists.map(tuple),
        lists.map(Row),
        st.builds(Pair, items, items),
        dicts.map(Record),
        dicts.map(OrderedDict),
    )


_WRAP: dict[str, Callable[[Any], Any]] = {
    "l": lambda item: [item],
    "t": lambda item: (item,),
    "d": lambda item: {"k": item},
}


def nested(depth: int, shape: str, leaf: Any) -> Any:
    """Wrap a leaf into `depth` containers; `shape` says of which kinds, from the inside out.

    Args:
        depth: How many containers.
        shape: One letter a container, used over and over: `l`ist, `t`uple or `d`ict.
        leaf: What lies in the innermost.
    """
    value = leaf
    for level in range(depth):
        value = _WRAP[shape[level % len(shape)]](value)
    return value


class Deep(list[Any]):
    """A list around nested containers, `depth` levels in all.

    Its repr is how it was made: nobody can print hundreds of levels, nor read them.
    """

    def __init__(self, depth: int, shape: str, leaf: Any) -> None:
        super().__init__([nested(depth - 1, shape, leaf)])
        self._made_of = (depth, shape, leaf)

    def __repr__(self) -> str:
        return f"Deep{self._made_of!r}"

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """How Hypothesis shows an example."""
        printer.text(repr(self))


_depths = st.integers(1, MAX_DEPTH) | st.sampled_from([127, 128, 129, 255, 256, MAX_DEPTH])
_deep = st.builds(Deep, _depths, st.text("ltd", min_size=1, max_size=3), scalars)

shallow_documents = st.one_of(
    scalars, _containers(scalars), st.recursive(scalars, _containers, max_leaves=12)
)
documents = shallow_documents | _deep
ids = texts
