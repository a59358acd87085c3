"""A process that is refused memory for a value gets a MemoryError, and goes on.

Each in a process of its own: a limit binds all of it, and it may end by a signal.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row

MIB = 2**20
KINDS = [
    "plain",
    "dual writing",
    *(pytest.param(kind, marks=pytest.mark.exhaustive) for kind in ("near cache", "zstd", "lz4")),
]

CALLS = """
import contextlib, ctypes, json, resource, shutil
from pathlib import Path
from nano_graphrag_redis import migration

kind, directory, size, lefts = sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), sys.argv[5:]
settings = {
    "redis_url": URL,
    "redis_operation_timeout": 60,
    "redis_deferred_drop": True,
    "redis_max_value_bytes": 512 * 2**20,
    **{
        "near cache": {"redis_near_cache_mb": 1024},
        "dual writing": {"redis_dual_write": True, "working_dir": str(directory / "dual")},
        "zstd": {"redis_compression": "zstd"},
        "lz4": {"redis_compression": "lz4"},
    }.get(kind, {}),
}
copies = {"redis_url": URL, "redis_key_prefix": "copies"}
for name in ("dual", "files", "folded"):
    (directory / name).mkdir()

VALUES = {
    "text": "x" * size,
    "wide text": "\\u20acuro" * (size // 6),
    "control characters": "\\x01" * (size // 6),
    "numbers": list(range(10**6, 10**6 + size // 9)),
    "objects": [{"number": n} for n in range(size // 16)],
}
PARTS = {str(n): {"text": "y" * (size // 2), "n": n} for n in range(4)}
(directory / "files/kv_store_full_docs.json").write_text(json.dumps({**VALUES, **PARTS}))
if kind != "plain":
    VALUES = {"text": VALUES["text"], "objects": VALUES["objects"]}

storage = SyncRedisKVStorage("full_docs", settings)
reports = SyncRedisKVStorage("community_reports", settings)
awaited = RedisKVStorage("text_chunks", settings)
loop = asyncio.new_event_loop()
run = loop.run_until_complete

def is_read(found, value):
    assert found == value, "another value was read"

def replace():
    reports.drop()
    reports.upsert(PARTS)
    reports.index_done_callback()

def of_value(id, value):
    return {
        f"upsert of {id}": lambda: storage.upsert({id: value}),
        f"get_by_id of {id}": lambda: is_read(storage.get_by_id(id), value),
        f"awaited upsert of {id}": lambda: run(awaited.upsert({id: value})),
        f"awaited get_by_id of {id}": lambda: is_read(run(awaited.get_by_id(id)), value),
    }

calls = {
    "upsert of several": lambda: storage.upsert(PARTS),
    "get_by_ids": lambda: is_read(storage.get_by_ids(list(PARTS)), list(PARTS.values())),
    "get_by_ids of a field": lambda: is_read(
        storage.get_by_ids(list(PARTS), fields={"n"}), [{"n": n} for n in range(4)]
    ),
    "a set of reports": replace,
}
for id, value in VALUES.items():
    calls |= of_value(id, value)
if kind == "plain":
    calls |= {
        "plan": lambda: migration.plan(directory / "files", copies),
        "migrate": lambda: migration.migrate(plan),
        "verify": lambda: is_read(migration.verify(directory / "files", copies).ok, True),
        "export": lambda: migration.export(directory / "exported", copies),
    }
    plan = calls["plan"]()

def fold():
    shutil.copy(directory / "log", directory / "folded/kv_store_full_docs.changes")
    migration.fold(directory / "folded", {"redis_url": URL})

if kind == "dual writing":
    logged = [json.dumps(["set", id, value]) for id, value in (VALUES | PARTS).items()]
    (directory / "log").write_text("".join(line + "\\n" for line in logged))
    calls["fold"] = fold

def address_space():
    with open("/proc/self/statm") as sizes:
        return int(sizes.read().split()[0]) * resource.getpagesize()

@contextlib.contextmanager
def left(count):
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (address_space() + count, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)

def outcome(call):
    try:
        call()
    except StorageMemoryError as error:
        assert "memory" in str(error), error
        return "refused"
    return "works"

# Connections and threads are made, and modules imported, before memory is refused.
for call in calls.values():
    call()
outcomes = {}
for name, call in calls.items():
    outcomes[name] = []
    for count in map(int, lefts):
        print(f"{time.monotonic():.1f}: {name}, {count} bytes left", file=sys.stderr, flush=True)
        with left(count):
            outcomes[name].append(outcome(call))
        assert outcome(call) == "works", name
if kind == "dual writing":
    folded = json.loads((directory / "folded/kv_store_full_docs.json").read_text())
    assert folded == VALUES | PARTS, "another value was folded"
print(json.dumps(outcomes))
run(awaited.close())
storage.close()
reports.close()
loop.close()
"""


@pytest.mark.row(41)
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_a_process_without_memory_for_a_value_gets_an_error_and_goes_on(
    row: Row,
    own_server: RedisServer,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # glibc: what was freed is not there for the next call.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(128 * 1024))
    size = row.pick(quick=4 * MIB, full=48 * MIB)
    quarters = row.pick(quick=[2, 8], full=[*range(1, 20)])
    lefts = [quarter * size // 4 for quarter in quarters]
    ended = run_script(CALLS, own_server.url, kind, tmp_path, size, *lefts, timeout=1700)
    assert ended.code == 0, f"ended by {ended.code}: {ended.err[-3000:]}"
    assert "panicked" not in ended.err, ended
    outcomes: dict[str, list[str]] = json.loads(ended.out)
    row.none(f"aborts without memory, {kind}", 0, of=len(outcomes) * len(lefts))
    # A field of values that are compressed, or kept near, may take little.
    unbound = {name for name, seen in outcomes.items() if "refused" not in seen}
    assert unbound <= {"get_by_ids of a field"}, (
        f"memory was not refused: the limit shows nothing: {outcomes}"
    )


CACHE = """
import ctypes, json, resource

size = int(sys.argv[2])
answers = {
    "text": {"return": "x" * size},
    "objects": {"return": [{"number": n} for n in range(size // 16)]},
}
cache = RedisKVStorage("llm_response_cache", {"redis_url": URL})
loop = asyncio.new_event_loop()
ways = [(cache, loop.run_until_complete), (cache.sync, lambda given: given)]
for storage, wait in ways:
    wait(storage.upsert(answers))
    assert wait(storage.get_by_ids(answers)) == [*answers.values()]

gc.collect()
ctypes.CDLL(None).malloc_trim(0)
before = resource.getrlimit(resource.RLIMIT_AS)
with open("/proc/self/statm") as sizes:
    used = int(sizes.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + size // 2, before[1]))
for storage, wait in ways:
    for id in answers:
        assert wait(storage.get_by_id(id)) is None
        assert wait(storage.get_by_ids([id, "none"])) == [None, None]
        wait(storage.upsert({id: answers[id]}))
resource.setrlimit(resource.RLIMIT_AS, before)
forgiven = cache.sync.get_stats()["forgiven"]
print({kind: count for kind, count in forgiven.items() if count})
assert cache.sync.get_by_ids(answers) == [*answers.values()]
loop.close()
"""


@pytest.mark.row(41)
def test_a_cached_answer_for_which_there_is_no_memory_is_a_miss(
    row: Row, own_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # glibc: what was freed is not there for the next call.
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", str(128 * 1024))
    ended = run_script(CACHE, own_server.url, row.pick(quick=8 * MIB, full=48 * MIB))
    assert (ended.code, ended.out) == (0, "{'memory': 12}\n"), ended
    row.none("cached calls that raised without memory", 0, of=12)
