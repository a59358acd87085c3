"""The factory host, by its stand-in: choosing the storage, and the callers that reach into it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from support.servers import RedisServer

Printed = Callable[..., list[str]]

SHOW_STORAGES = """
    from nano_graphrag import GraphRAG, GraphRAGConfig
    def show(config=None):
        storage = type(GraphRAG(config or GraphRAGConfig.from_env()).full_docs)
        print(storage.__module__.partition(".")[0], storage.__name__)
"""


def test_the_environment_chooses_between_json_and_ours(printed: Printed, standin: Path) -> None:
    source = f"""{SHOW_STORAGES}
    import os
    from nano_graphrag_redis.hosts import register, unregister
    register()
    show()
    os.environ["STORAGE_KV_BACKEND"] = "redis"
    show()
    register()
    show()
    unregister()
    show()
    unregister()
    os.environ["STORAGE_KV_BACKEND"] = "json"
    show()
    """
    assert printed(source, standin) == [
        "nano_graphrag JsonKVStorage",
        "nano_graphrag_redis RedisKVStorage",
        "nano_graphrag_redis RedisKVStorage",
        "nano_graphrag RedisKVStorage",
        "nano_graphrag JsonKVStorage",
    ]


def test_what_a_killed_process_has_logged_is_in_the_files_of_a_host_that_is_back_on_json(
    printed: Printed, standin: Path, server: RedisServer, tmp_path: Path
) -> None:
    # A process that was killed has written this, and folded nothing.
    (tmp_path / "kv_store_full_docs.json").write_text('{"a": 1, "b": 2}')
    (tmp_path / "kv_store_full_docs.changes").write_text('["set","a",3]\n["delete","b"]\n')
    source = """
    import asyncio
    from nano_graphrag import GraphRAG, GraphRAGConfig
    from nano_graphrag._storage.factory import StorageFactory
    from nano_graphrag_redis.hosts import register, unregister
    before = vars(StorageFactory)["create_kv_storage"]
    register()
    rag = GraphRAG(GraphRAGConfig.from_env())
    print(type(rag.full_docs).__module__)
    print(asyncio.run(rag.full_docs.get_by_ids(["a", "b"])))
    unregister()
    print(vars(StorageFactory)["create_kv_storage"] is before)
    """
    told = {"STORAGE_WORKING_DIR": str(tmp_path), "REDIS_URL": server.url}
    assert printed(source, standin, **told) == [
        "nano_graphrag._storage.kv_json",
        "[3, None]",
        "True",
    ]


def test_a_loader_that_the_application_registered_comes_back(
    printed: Printed, standin: Path
) -> None:
    source = """
    from nano_graphrag._storage.factory import StorageFactory
    from nano_graphrag_redis.hosts import register, unregister
    def mine(): ...
    def later(): ...
    StorageFactory.register_kv("json", mine)
    register()
    unregister()
    print(sorted(StorageFactory._kv_backends))
    StorageFactory.register_kv("redis", mine)
    register()
    print(StorageFactory._kv_backends["redis"] is mine)
    unregister()
    print(StorageFactory._kv_backends["redis"] is mine)
    register()
    StorageFactory.register_kv("redis", later)
    unregister()
    print(StorageFactory._kv_backends["redis"] is later)
    """
    assert printed(source, standin) == ["['json']", "False", "True", "True"]


def test_the_hosts_configuration_reaches_the_storage(printed: Printed, standin: Path) -> None:
    source = """
    from nano_graphrag import GraphRAGConfig, StorageConfig
    from nano_graphrag_redis.config import RedisConfig
    storage = StorageConfig("redis", redis_url="redis://cache:7000", redis_max_connections=7)
    config = RedisConfig.from_global_config(GraphRAGConfig(storage=storage).to_dict())
    print(config.redis_url, config.redis_max_connections, config.redis_workspace)
    """
    lines = printed(source, standin, REDIS_WORKSPACE="graph", REDIS_PASSWORD="ours")
    assert lines == ["redis://cache:7000/0 7 graph"]


CALLERS = """
    import asyncio
    from nano_graphrag import GraphRAG, GraphRAGConfig
    from nano_graphrag.backup import exported
    from nano_graphrag.health import redis_is_healthy
    from nano_graphrag.storage_adapter import StorageAdapter
    from nano_graphrag_redis.hosts import register
    register()
    rag = GraphRAG(GraphRAGConfig.from_env())
"""


@pytest.fixture
def redis_environ(server: RedisServer, workspace: str) -> dict[str, str]:
    return {"STORAGE_KV_BACKEND": "redis", "REDIS_URL": server.url, "REDIS_WORKSPACE": workspace}


def test_the_backup_exporter_reads_every_entry(
    printed: Printed, standin: Path, redis_environ: dict[str, str]
) -> None:
    source = f"""{CALLERS}
    async def main():
        entries = {{f"doc-{{n}}": {{"content": "näher *", "n": n}} for n in range(2500)}}
        entries |= {{"": 0, "a*[b]": None, "b:c": [1.5]}}
        await rag.full_docs.upsert(entries)
        await rag.text_chunks.upsert({{"chunk": 1}})
        print(await exported(rag.full_docs) == entries)
        print(await exported(rag.text_chunks), await exported(rag.community_reports))
        for storage in (rag.full_docs, rag.text_chunks, rag.community_reports):
            await storage.close()
    asyncio.run(main())
    """
    assert printed(source, standin, **redis_environ) == ["True", "{'chunk': 1} {}"]


def test_the_health_route_sees_whether_the_server_answers(
    printed: Printed, standin: Path, redis_environ: dict[str, str], tmp_path: Path
) -> None:
    source = f"""{CALLERS}
    print(asyncio.run(redis_is_healthy(rag)))
    """
    assert printed(source, standin, **redis_environ) == ["True"]
    nobody = {"REDIS_URL": f"redis+unix://{tmp_path}/nobody.sock", "REDIS_MAX_RETRIES": "0"}
    assert printed(source, standin, **redis_environ | nobody) == ["False"]


def test_the_api_adapter_awaits_the_storage(
    printed: Printed, standin: Path, redis_environ: dict[str, str]
) -> None:
    source = f"""{CALLERS}
    async def main():
        adapter = StorageAdapter(rag.full_docs)
        print(asyncio.iscoroutinefunction(rag.full_docs.get_by_id), await adapter.check_health())
        await adapter.upsert({{"doc": {{"content": "text"}}}})
        print(await adapter.get_by_id("doc"))
        print(await adapter.delete_by_id("doc"), await adapter.delete_by_id("doc"))
        print(await adapter.get_by_id("doc"))
        await rag.full_docs.close()
    asyncio.run(main())
    """
    assert printed(source, standin, **redis_environ) == [
        "True True",
        "{'content': 'text'}",
        "True False",
        "None",
    ]


def test_the_hosts_provider_is_asked_only_for_texts_that_are_missing(
    printed: Printed, standin: Path, redis_environ: dict[str, str]
) -> None:
    source = f"""{CALLERS}
    from nano_graphrag_redis import cache_embeddings
    provider = rag.embedding_provider
    rag.embedding_provider = cache_embeddings(provider, model=provider.model)
    print(type(rag.embedding_provider) is type(provider), rag.embedding_provider.embedding_dim)
    print(asyncio.run(rag.embedding_func(["a", "bb"]))[:, 0])
    print(asyncio.run(rag.embedding_func(["bb", "ccc", "a"]))[:, 0])
    print(provider.asked)
    for texts in (["dddd"], ["dddd"]):
        told = asyncio.run(rag.embedding_provider.embed(texts, timeout=5.0))
        print(told["embeddings"].shape, told["dimensions"], told["model"], told["usage"])
    """
    assert printed(source, standin, **redis_environ) == [
        "True 4",
        "[0.33333333 0.66666667]",
        "[0.66666667 1.         0.33333333]",
        "[['a', 'bb'], ['ccc']]",
        "(1, 4) 4 standin-embedding {'prompt_tokens': 1, 'total_tokens': 1}",
        "(1, 4) 4 standin-embedding {'prompt_tokens': 0, 'total_tokens': 0}",
    ]


def test_callers_that_ask_the_same_at_once_share_one_call(
    printed: Printed, standin: Path, server: RedisServer
) -> None:
    source = """
    import asyncio
    from nano_graphrag import GraphRAG, GraphRAGConfig
    from nano_graphrag_redis.hosts import register
    register()
    first, second = (GraphRAG(GraphRAGConfig.from_env()) for _ in range(2))
    async def main():
        asked = (rag.best_model_func("Who was dead?") for rag in (first, second) * 4)
        print(set(await asyncio.gather(*asked)))
    asyncio.run(main())
    print(first.llm_provider.asked + second.llm_provider.asked)
    """
    environment = {
        "STORAGE_KV_BACKEND": "redis",
        "REDIS_URL": server.url,
        "REDIS_SINGLE_FLIGHT": "on",
    }
    assert printed(source, standin, **environment) == [
        "{'answer to Who was dead?'}",
        "['Who was dead?']",
    ]


def test_a_host_of_both_shapes_is_registered_in_both(
    printed: Printed, standin: Path, tmp_path: Path
) -> None:
    both = tmp_path / "both"
    shutil.copytree(standin, both)
    (both / "nano_graphrag" / "graphrag.py").write_text(
        "from dataclasses import dataclass\n"
        "from nano_graphrag._storage import JsonKVStorage\n"
        "@dataclass\n"
        "class GraphRAG:\n"
        "    key_string_value_json_storage_cls: type = JsonKVStorage\n"
        "    def __post_init__(self):\n"
        "        pass\n"
    )
    source = """
    from nano_graphrag import GraphRAG
    from nano_graphrag._storage.factory import StorageFactory
    from nano_graphrag_redis.hosts import register, unregister
    def show():
        print(GraphRAG().key_string_value_json_storage_cls.__module__)
        print(StorageFactory._kv_backends["redis"]().__module__)
    register()
    show()
    unregister()
    show()
    """
    assert printed(source, both, STORAGE_KV_BACKEND="redis") == [
        "nano_graphrag_redis.storage",
        "nano_graphrag_redis.storage",
        "nano_graphrag._storage.kv_json",
        "nano_graphrag._storage.kv_redis",
    ]


EMBEDS = """
    import asyncio
    from nano_graphrag import GraphRAG, GraphRAGConfig
    from nano_graphrag_redis import cache_embeddings
    from nano_graphrag_redis.hosts import register, unregister
    before = GraphRAG.__init__
    register()
    first, second = (GraphRAG(GraphRAGConfig.from_env()) for _ in range(2))
    async def main():
        asked = first.embedding_provider.asked, second.embedding_provider.asked
        for texts in (["a question"], ["one", "another"]):
            vectors = [await each.embedding_func(texts) for each in (first, second)]
            assert (vectors[0] == vectors[1]).all()
        print(*map(len, asked))
    asyncio.run(main())
"""


@pytest.mark.any_server
@pytest.mark.parametrize(
    ("setting", "asked"),
    [
        ({}, "2 2"),
        ({"REDIS_CACHE_EMBEDDINGS": "questions"}, "2 1"),
        ({"NANO_GRAPHRAG_REDIS_RUN": "1"}, "2 1"),
        ({"REDIS_CACHE_EMBEDDINGS": "all"}, "2 0"),
        ({"REDIS_CACHE_EMBEDDINGS": "all", "STORAGE_KV_BACKEND": "json"}, "2 2"),
    ],
    ids=["default", "questions", "below run", "all", "on JSON"],
)
def test_the_hosts_provider_is_asked_as_often_as_the_setting_says(
    setting: dict[str, str], asked: str, printed: Printed, standin: Path, server: RedisServer
) -> None:
    told = {"STORAGE_KV_BACKEND": "redis", "REDIS_URL": server.url, **setting}
    source = f"""{EMBEDS}
    unregister()
    print(GraphRAG.__init__ is before)
    """
    assert printed(source, standin, **told) == [asked, "True"]


@pytest.mark.any_server
def test_a_provider_with_a_cache_of_its_own_keeps_each_vector_once(
    printed: Printed, standin: Path, server: RedisServer
) -> None:
    source = f"""{EMBEDS}
    rag = GraphRAG(GraphRAGConfig.from_env())
    rag.embedding_provider = cache_embeddings(rag.embedding_provider, model="mine")
    asyncio.run(rag.embedding_func(["another question"]))
    print(rag.embedding_provider.asked)
    """
    told = {
        "STORAGE_KV_BACKEND": "redis",
        "REDIS_URL": server.url,
        "REDIS_CACHE_EMBEDDINGS": "questions",
    }
    assert printed(source, standin, **told) == ["2 1", "[['another question']]"]
    with server.client() as client:
        kept = [client.get(key) for key in client.scan_iter("nano_graphrag:embedding_cache:*")]
    models = sorted(json.loads(value)["model"] for value in kept if value)
    assert models == ["EmbeddingProvider:standin-embedding", "mine"]


@pytest.mark.any_server
def test_vectors_of_another_address_are_others_and_its_password_is_not_kept(
    printed: Printed, standin: Path, server: RedisServer
) -> None:
    source = """
    import asyncio
    from types import SimpleNamespace
    from nano_graphrag import GraphRAG, GraphRAGConfig
    from nano_graphrag.llm import EmbeddingProvider
    from nano_graphrag_redis.hosts import register
    register()
    for address in ("https://api.one/v1/", "https://user:secret@api.two/v1/"):
        EmbeddingProvider.client = SimpleNamespace(base_url=address)
        rag = GraphRAG(GraphRAGConfig.from_env())
        asyncio.run(rag.embedding_func(["a"]))
        print(rag.embedding_provider.asked)
    """
    told = {
        "STORAGE_KV_BACKEND": "redis",
        "REDIS_URL": server.url,
        "REDIS_CACHE_EMBEDDINGS": "all",
    }
    assert printed(source, standin, **told) == ["[['a']]"] * 2
    with server.client() as client:
        kept = [client.get(key) for key in client.scan_iter("nano_graphrag:embedding_cache:*")]
    models = sorted(json.loads(value)["model"] for value in kept if value)
    assert models == ["api.one/v1/:standin-embedding", "api.two/v1/:standin-embedding"]
