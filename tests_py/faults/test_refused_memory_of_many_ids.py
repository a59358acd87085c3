"""A call on many ids for which there is no memory raises an error, and the process goes on.

Each id takes little: none of these allocations is large enough to be refused by itself.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row

MIB = 2**20

CALLS = """
import json, resource
from pathlib import Path
from nano_graphrag_redis import migration

directory, count, lefts = Path(sys.argv[2]), int(sys.argv[3]), [int(left) for left in sys.argv[4:]]
settings = {"redis_url": URL}
ids = [f"doc-{number}" for number in range(count)]
files = directory / "files"
files.mkdir()
(files / "kv_store_full_docs.json").write_text(json.dumps({id: {"content": id} for id in ids}))
only = {"namespaces": ["full_docs"]}

def migrated():
    plan = migration.plan(files, {**settings, "redis_workspace": "other"}, **only)
    return migration.migrate(plan).ok

calls = {
    "all_keys": lambda storage: len(storage.all_keys()) >= count,
    "filter_keys": lambda storage: storage.filter_keys(ids) == set(),
    "filter_keys of new ids": lambda storage: len(storage.filter_keys(["new" + id for id in ids])),
    "get_by_ids": lambda storage: None not in storage.get_by_ids(ids),
    "get_stats": lambda storage: storage.get_stats()["key_count"] >= count,
    "upsert": lambda storage: storage.upsert({id: {"content": id} for id in ids}) is None,
    "delete_by_ids": lambda storage: storage.delete_by_ids(["more" + id for id in ids]) == 0,
    "verify": lambda storage: migration.verify(files, settings, **only).ok,
    "export": lambda storage: migration.export(directory / "exported", settings, **only).ok,
    "migrate": lambda storage: migrated(),
}

def address_space():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[0]) * resource.getpagesize()

def waits(stat):
    # A thread that has come so far has what glibc gives each at its start.
    return stat.parent.name == str(os.getpid()) or stat.read_text().split(") ")[1][0] == "S"

def limited(call, left):
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.get_by_id(ids[0])
        while not all(map(waits, Path("/proc/self/task").glob("[0-9]*/stat"))):
            time.sleep(0.001)
        unlimited = resource.getrlimit(resource.RLIMIT_AS)
        resource.setrlimit(resource.RLIMIT_AS, (address_space() + left, unlimited[1]))
        try:
            assert call(storage)
            outcome = "works"
        except MemoryError:
            outcome = "refused"
        resource.setrlimit(resource.RLIMIT_AS, unlimited)
        assert call(storage), "it is not usable after"
    return outcome

def outcome_in_a_child(call, left):
    # Forked, so that each begins with as much, and its end by a signal is seen here.
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, limited(call, left).encode())
        except BaseException as error:
            os.write(writing, repr(error).encode())
        os._exit(0)
    os.close(writing)
    with open(reading) as said:
        outcome = said.read()
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return outcome if not ended else f"ended by {ended}"

# In a process of its own: this one is to have no threads when it is forked.
fill = os.fork()
if not fill:
    with SyncRedisKVStorage("full_docs", settings) as storage:
        storage.upsert({id: {"content": id} for id in ids})
    os._exit(0)
assert os.waitpid(fill, 0)[1] == 0
print(json.dumps({
    name: [outcome_in_a_child(call, left) for left in lefts] for name, call in calls.items()
}))
"""


@pytest.mark.row(41)
@pytest.mark.timeout(1800)
def test_a_process_without_memory_for_many_ids_gets_an_error_and_goes_on(
    row: Row, own_server: RedisServer, tmp_path: Path
) -> None:
    count = row.pick(quick=20_000, full=120_000)
    lefts = row.pick(
        quick=[1, 3, 6, 10, 32], full=[*range(1, 13), *range(14, 33, 2), 40, 48, 64, 96, 128]
    )
    ended = run_script(
        CALLS, own_server.url, tmp_path, count, *(left * MIB for left in lefts), timeout=1700
    )
    assert ended.code == 0, f"ended by {ended.code}: {ended.err[-3000:]}"
    outcomes: dict[str, list[str]] = json.loads(ended.out)
    assert "ended by" not in ended.out, f"{outcomes} {ended.err[-3000:]}"
    row.none("aborts without memory, many ids", 0, of=len(outcomes) * len(lefts))
    assert {one for seen in outcomes.values() for one in seen} == {"works", "refused"}, outcomes
    shown = {name for name, seen in outcomes.items() if set(seen) == {"works", "refused"}}
    assert shown == set(outcomes), f"the limit shows nothing: {outcomes}"
