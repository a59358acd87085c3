"""The tree of exceptions: parents, one message, attributes that travel."""

from __future__ import annotations

import copy
import pickle

import pytest

from nano_graphrag_redis import exceptions

PARENTS: dict[str, tuple[type[Exception], ...]] = {
    "StorageUnavailableError": (ConnectionError,),
    "CircuitOpenError": (exceptions.StorageUnavailableError, ConnectionError),
    "StorageTimeoutError": (exceptions.StorageUnavailableError, TimeoutError),
    "StorageOperationError": (),
    "StorageAuthError": (),
    "StorageSerializationError": (TypeError,),
    "CorruptValueError": (ValueError,),
    "StorageConfigError": (ValueError,),
    "StorageMemoryError": (MemoryError,),
    "JsonFileError": (ValueError,),
    "DurabilityError": (),
    "StorageClosedError": (),
    "StorageError": (),
}
CLASSES: list[type[exceptions.StorageError]] = [getattr(exceptions, name) for name in PARENTS]


def test_every_exception_is_exported() -> None:
    assert sorted(PARENTS) == exceptions.__all__


@pytest.mark.parametrize("kind", CLASSES)
def test_an_exception_has_the_parents_a_caller_may_catch(
    kind: type[exceptions.StorageError],
) -> None:
    assert issubclass(kind, exceptions.StorageError)
    assert all(issubclass(kind, parent) for parent in PARENTS[kind.__name__])


@pytest.mark.parametrize("kind", CLASSES)
def test_an_exception_says_its_message_and_nothing_else(
    kind: type[exceptions.StorageError],
) -> None:
    error = kind("redis is away", namespace="full_docs", id="doc-1", unconfirmed_ids=["a", "b"])
    assert str(error) == "redis is away"
    assert error.args == ("redis is away",)
    assert getattr(error, "errno", None) is None


@pytest.mark.parametrize("kind", CLASSES)
def test_an_exception_survives_pickle_and_copy(kind: type[exceptions.StorageError]) -> None:
    error = kind("redis is away", namespace="full_docs", id="doc-1", unconfirmed_ids=["a", "b"])
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert type(twin) is kind
        assert twin.args == error.args
        assert (twin.namespace, twin.id, twin.unconfirmed_ids) == ("full_docs", "doc-1", ("a", "b"))


@pytest.mark.parametrize("kind", CLASSES)
def test_details_that_are_not_known_are_none(kind: type[exceptions.StorageError]) -> None:
    error = kind("redis is away")
    assert (error.namespace, error.id, error.unconfirmed_ids) == (None, None, ())


@pytest.mark.parametrize("kind", CLASSES)
def test_a_second_positional_argument_is_refused(kind: type[exceptions.StorageError]) -> None:
    with pytest.raises(TypeError):
        kind(5, "No such file")  # type: ignore[call-arg,arg-type]
