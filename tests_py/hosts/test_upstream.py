"""register() and unregister() on the real upstream host.

Making a GraphRAG opens no connection, so no server is needed to see which storage it takes.
"""

from __future__ import annotations

import copy
import inspect
import threading
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import pytest
from nano_graphrag import GraphRAG, _op, graphrag
from nano_graphrag._storage import JsonKVStorage

from nano_graphrag_redis.exceptions import StorageConfigError
from nano_graphrag_redis.hosts import register, unregister
from nano_graphrag_redis.storage import RedisKVStorage

FIELD = "key_string_value_json_storage_cls"
POSITION = [field.name for field in fields(GraphRAG)].index(FIELD)
QUERIES = {
    "_find_most_related_community_from_entities",
    "_find_most_related_text_unit_from_entities",
    "naive_query",
}
"""Functions of the host that are replaced; GraphRAG's module has the last by its own name."""


class MyStorage(JsonKVStorage):  # type: ignore[misc]
    """An application's own storage."""


@dataclass
class Plain(GraphRAG):  # type: ignore[misc]
    """Has compiled the default into an __init__ of its own, before any registration."""


@dataclass
class Grandchild(Plain):
    other_storage: type = JsonKVStorage


@dataclass
class Chosen(GraphRAG):  # type: ignore[misc]
    key_string_value_json_storage_cls: type = JsonKVStorage


class WithInit(GraphRAG):  # type: ignore[misc]
    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)


@dataclass
class BuildsItself(GraphRAG):  # type: ignore[misc]
    def __post_init__(self) -> None:
        self.full_docs = self.key_string_value_json_storage_cls(
            namespace="full_docs", global_config={"working_dir": self.working_dir}
        )


@pytest.fixture
def registered() -> Iterator[None]:
    register()
    yield
    unregister()


@pytest.fixture
def redis_asked_for(monkeypatch: pytest.MonkeyPatch, registered: None) -> None:
    monkeypatch.setenv("STORAGE_KV_BACKEND", "redis")


def storage_of(cls: type = GraphRAG, *arguments: Any, **settings: Any) -> type:
    """The class of the storage that a new GraphRAG has."""
    rag = cls(*arguments, **settings)
    return type(rag.full_docs)


@pytest.fixture(autouse=True)
def _in_a_directory_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STORAGE_KV_BACKEND", raising=False)


@pytest.mark.parametrize("cls", [GraphRAG, Plain, Grandchild, WithInit, BuildsItself])
@pytest.mark.usefixtures("redis_asked_for")
def test_a_graphrag_given_no_storage_takes_the_one_of_the_environment(cls: type) -> None:
    assert storage_of(cls) is RedisKVStorage


@pytest.mark.usefixtures("redis_asked_for")
def test_all_four_stores_and_the_field_are_of_the_chosen_class() -> None:
    rag = GraphRAG()
    stores = (rag.full_docs, rag.text_chunks, rag.llm_response_cache, rag.community_reports)
    assert {type(store) for store in stores} == {RedisKVStorage}
    assert rag.key_string_value_json_storage_cls is RedisKVStorage
    assert storage_of(replace, rag) is RedisKVStorage  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", [None, "", "json"])
@pytest.mark.usefixtures("registered")
def test_a_graphrag_stays_on_json_unless_redis_is_asked_for(
    backend: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend is not None:
        monkeypatch.setenv("STORAGE_KV_BACKEND", backend)
    rag = GraphRAG()
    assert type(rag.full_docs) is JsonKVStorage
    assert rag.key_string_value_json_storage_cls is JsonKVStorage


@pytest.mark.usefixtures("registered")
def test_the_variable_is_read_when_a_graphrag_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    assert storage_of() is JsonKVStorage
    monkeypatch.setenv("STORAGE_KV_BACKEND", "redis")
    assert storage_of() is RedisKVStorage


@pytest.mark.usefixtures("registered")
def test_an_unknown_backend_is_refused_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("STORAGE_KV_BACKEND", "mongo")
    for cls in (GraphRAG, Plain):
        with pytest.raises(StorageConfigError, match="STORAGE_KV_BACKEND='mongo'"):
            cls(working_dir="made")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("storage", [JsonKVStorage, MyStorage])
@pytest.mark.parametrize("cls", [GraphRAG, Plain])
@pytest.mark.usefixtures("redis_asked_for")
def test_a_storage_that_was_given_is_honoured(cls: type, storage: type) -> None:
    assert storage_of(cls, **{FIELD: storage}) is storage
    before = [getattr(GraphRAG(), field.name) for field in fields(GraphRAG)[:POSITION]]
    assert storage_of(cls, *before, storage) is storage


@pytest.mark.usefixtures("redis_asked_for")
def test_a_subclass_with_a_default_of_its_own_is_honoured() -> None:
    @dataclass
    class ChosenLater(GraphRAG):  # type: ignore[misc]
        key_string_value_json_storage_cls: type = JsonKVStorage

    @dataclass
    class ChildOfChosen(Chosen):
        pass

    for cls in (Chosen, ChosenLater, ChildOfChosen):
        assert storage_of(cls) is JsonKVStorage


@pytest.mark.usefixtures("redis_asked_for")
def test_subclasses_that_are_defined_later_are_covered() -> None:
    @dataclass
    class Later(GraphRAG):  # type: ignore[misc]
        more: int = 5

    @dataclass
    class Annotated(GraphRAG):  # type: ignore[misc]
        key_string_value_json_storage_cls: type

    assert storage_of(Later) is RedisKVStorage
    assert storage_of(Annotated) is RedisKVStorage
    unregister()
    assert storage_of(Later) is JsonKVStorage
    assert storage_of(Annotated) is JsonKVStorage


@pytest.mark.usefixtures("redis_asked_for")
def test_another_field_with_the_same_default_keeps_it() -> None:
    assert Grandchild().other_storage is JsonKVStorage


def test_a_subclass_that_hides_its_default_is_refused_loudly() -> None:
    class Signed:
        """An __init__ that is no function of Python's, as a compiled class has."""

        __signature__ = inspect.signature(GraphRAG.__init__)

        def __call__(self, *arguments: Any, **settings: Any) -> None: ...

    class Compiled(GraphRAG):  # type: ignore[misc]
        __init__ = Signed()

    try:
        with pytest.raises(
            StorageConfigError, match=r"Compiled keeps JsonKVStorage as its default"
        ):
            register()
        assert inspect.signature(GraphRAG).parameters[FIELD].default is JsonKVStorage
    finally:
        del Compiled.__init__


def footprint() -> list[Any]:
    """All that a registration touches."""
    classes = [GraphRAG, Plain, Grandchild, Chosen, WithInit, BuildsItself]
    return [
        copy.copy(part)
        for cls in classes
        for part in (
            vars(cls).get(FIELD),
            cls.__dataclass_fields__[FIELD].default,
            cls.__init__.__defaults__,
            cls.__init__.__kwdefaults__,
            cls.__init__,
            cls.__post_init__,
        )
    ] + [vars(module).get(name) for module in (_op, graphrag) for name in sorted(QUERIES)]


def test_unregister_restores_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    before = footprint()
    register()
    assert footprint() != before
    assert all(getattr(_op, name).__wrapped__ in before for name in QUERIES)
    assert graphrag.naive_query is _op.naive_query
    unregister()
    assert footprint() == before
    monkeypatch.setenv("STORAGE_KV_BACKEND", "redis")
    assert {storage_of(cls) for cls in (GraphRAG, Plain, Chosen)} == {JsonKVStorage}


@pytest.mark.usefixtures("redis_asked_for")
def test_registering_and_unregistering_twice_is_doing_it_once() -> None:
    unregister()
    before = footprint()
    register()
    once = footprint()
    register()
    assert footprint() == once
    assert storage_of() is RedisKVStorage
    unregister()
    unregister()
    assert footprint() == before


@pytest.mark.usefixtures("redis_asked_for")
def test_threads_that_register_at_once_register_once() -> None:
    unregister()
    before = footprint()
    start = threading.Barrier(8)

    def race() -> None:
        start.wait()
        register()

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert storage_of() is RedisKVStorage
    unregister()
    assert footprint() == before


@pytest.mark.usefixtures("redis_asked_for")
def test_a_wrapper_put_on_after_ours_survives_unregister(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = GraphRAG.__post_init__
    calls = []

    def theirs(self: Any) -> None:
        calls.append(self)
        ours(self)

    original = inspect.unwrap(ours)
    GraphRAG.__post_init__ = theirs
    try:
        unregister()
        assert GraphRAG.__post_init__ is theirs
        assert storage_of() is JsonKVStorage
        assert len(calls) == 1
    finally:
        GraphRAG.__post_init__ = original
