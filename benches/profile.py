"""Where the instructions of a call go: a table by function, counted by valgrind's callgrind.

The call is made once and six times in fresh processes, and the difference is divided by five, so
that imports and the first use are not in it. Counts hardly depend on what else the machine does.

Run: .venv/bin/python -m benches.profile get-reports upsert-reports
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

from benches.server import running_server

ROOT = Path(__file__).parents[1]
FEW, MANY = 1, 6
CALLS = {
    "get-chunks": "await storage.get_by_ids(ids)",
    "get-reports": "await storage.get_by_ids(ids)",
    "get-64-chunks": "await asyncio.gather(*map(storage.get_by_id, ids[:64]))",
    "filter-chunks": "await storage.filter_keys(mixed)",
    "upsert-chunks": "await storage.upsert(values.pop())",
    "upsert-reports": "await storage.upsert(values.pop())",
    "read-chunks": "for id in ids[:200]: await storage.get_by_id(id)",
    "blocking-read-chunks": "for id in ids[:200]: storage.sync.get_by_id(id)",
    "write-chunks": "for id in ids[:200]: await storage.upsert({id: table[id]})",
    "crossing-chunks": "for _ in range(200): await storage.get_by_ids([])",
    "blocking-crossing-chunks": "for _ in range(200): storage.sync.get_by_ids([])",
}
ITEMS = {
    "get-64-chunks": 64,
    "filter-chunks": 2000,
    "read-chunks": 200,
    "blocking-read-chunks": 200,
    "write-chunks": 200,
    "crossing-chunks": 200,
    "blocking-crossing-chunks": 200,
}
SCRIPT = """
import asyncio, gc
from benches import payloads
from nano_graphrag_redis import RedisKVStorage

async def main():
    table = payloads.build().tables()[{namespace!r}]
    storage = RedisKVStorage({namespace!r}, {{"redis_url": {url!r}}})
    await storage.upsert(table)
    ids, values = list(table), [payloads.copy(table) for _ in range({most})]
    mixed = [*ids, *(f"absent-{{id}}" for id in ids)]
    gc.disable()
    for _ in range({times}):
        {call}

asyncio.run(main())
"""


def main() -> None:
    """Count each call that was asked for and print its table."""
    parser = argparse.ArgumentParser(prog="python -m benches.profile", description=__doc__)
    parser.add_argument("calls", nargs="+", choices=list(CALLS))
    parser.add_argument("--rows", type=int, default=16)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_server() as server:
        package = package_with_names(Path(directory))
        for call in options.calls:
            _print(call, per_item(package, server.url, call), options.rows)


def per_item(package: Path, url: str, call: str) -> dict[str, float]:
    """Instructions that one item of a call takes, by function.

    Args:
        package: What `package_with_names` made.
        url: The server's.
        call: One of `CALLS`.
    """
    few, many = (_count(package, url, call, times) for times in (FEW, MANY))
    items = ITEMS.get(call, 1000 if call.endswith("chunks") else 300) * (MANY - FEW)
    return {name: (many[name] - few[name]) / items for name in {*few, *many}}


def package_with_names(directory: Path) -> Path:
    """The package over a core that was built like the wheel's, but keeps its functions' names."""
    environment = {
        **os.environ,
        "PYO3_PYTHON": sys.executable,
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "CARGO_PROFILE_RELEASE_STRIP": "none",
        "CARGO_PROFILE_RELEASE_DEBUG": "line-tables-only",
        "CARGO_TARGET_DIR": str(ROOT / "target" / "profile"),
    }
    command = ["cargo", "build", "--quiet", "--release", "--locked", "--lib"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    package = directory / "nano_graphrag_redis"
    # Not the core of an earlier build, which would be found first.
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "python" / "nano_graphrag_redis", package, ignore=ignored)
    built = ROOT / "target" / "profile" / "release" / "libnano_graphrag_redis.so"
    shutil.copy(built, package / "_core.so")
    return directory


def _count(package: Path, url: str, call: str, times: int) -> Counter[str]:
    """Instructions of each function in a process that makes the call so many times."""
    namespace = "text_chunks" if call.endswith("chunks") else "community_reports"
    script = SCRIPT.format(namespace=namespace, url=url, most=MANY, times=times, call=CALLS[call])
    # The storages need only the base class of a host, and the real one takes minutes here.
    host = ROOT / "tests_py" / "hosts" / "standin_factory_host"
    path = os.pathsep.join(map(str, (package, ROOT, host)))
    counted = package / f"{call}.{times}"
    subprocess.run(
        ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={counted}",
         sys.executable, "-c", script],
        env={
            **os.environ,
            "PYTHONPATH": path,
            "PYTHONHASHSEED": "0",
            # Each process compiles the package anew, or the first one alone would.
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        check=True,
    )  # fmt: skip
    listing = subprocess.run(
        ["callgrind_annotate", "--threshold=100", "--tree=none", counted],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    counts: Counter[str] = Counter()
    for line in listing.splitlines():
        if re.search(r"\([\d,]+x\)", line):
            continue  # of the callers' share, counted again
        if row := re.match(r"\s*([\d,]+) \(\s*[\d.]+%\)\s+[^:]*:(.+?)(?: \[.*)?$", line):
            counts[re.sub(r"'\d+$", "", row[2])] += int(row[1].replace(",", ""))
    return counts


def _print(call: str, each: dict[str, float], rows: int) -> None:
    total = sum(each.values())
    print(f"\n{call}: {total:,.0f} instructions an item\n")
    print("| instructions | share | function |\n| ---: | ---: | --- |")
    for name, count in sorted(each.items(), key=lambda row: -row[1])[:rows]:
        print(f"| {count:,.0f} | {count / total:.1%} | `{name[:80]}` |")


if __name__ == "__main__":
    main()
