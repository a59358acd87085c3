"""The stores of a module, opened once: a property runs thousands of examples on them."""

from collections.abc import Iterator
from contextlib import ExitStack

import hypothesis
import pytest

from support.servers import RedisServer
from support.stores import json_store, redis_store
from values.stores import Stores

# `pytest tests_py/values --hypothesis-profile=full`: more than ten thousand values, not 450.
hypothesis.settings.register_profile("full", max_examples=700)


@pytest.fixture(scope="module")
def stores(
    server_process: RedisServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stores]:
    """Storages of one namespace, `values`."""
    files = {"working_dir": str(tmp_path_factory.mktemp("json"))}
    server = {"redis_url": server_process.url}
    with ExitStack() as stack:
        yield Stores(
            stack.enter_context(json_store("values", files)),
            stack.enter_context(redis_store("async", "values", server)),
            stack.enter_context(redis_store("sync", "values", server)),
            files,
        )
