"""What dual writing costs a call: processor time with it and without, call by call.

Run: .venv/bin/python -m benches.dual_write
"""

import asyncio
import tempfile
from collections.abc import Callable
from typing import Any

from benches.compression import processor_time
from benches.payloads import Table, build
from benches.server import running_server
from nano_graphrag_redis import RedisKVStorage

CALLERS = 512


def calls(
    loop: asyncio.AbstractEventLoop, storage: RedisKVStorage, table: Table
) -> dict[str, tuple[Callable[[], object], int]]:
    """What is timed, by name, and of how many items."""
    singles = [{id: value} for id, value in list(table.items())[:CALLERS]]

    async def one_after_another() -> None:
        for single in singles:
            await storage.upsert(single)

    async def at_once() -> None:
        await asyncio.gather(*map(storage.upsert, singles))

    run = loop.run_until_complete
    return {
        f"upsert of {len(table):,}": (lambda: run(storage.upsert(table)), len(table)),
        f"{CALLERS} concurrent upserts": (lambda: run(at_once()), CALLERS),
        "upserts, one after another": (lambda: run(one_after_another()), CALLERS),
    }


def measure(url: str, table: Table, *, on: bool) -> dict[str, float]:
    """Microseconds of processor time for one item of each call."""
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as directory:
        settings: dict[str, Any] = {
            "redis_url": url,
            "working_dir": directory,
            "redis_dual_write": on,
        }
        storage = RedisKVStorage("text_chunks", settings)
        taken = {
            name: processor_time(call, items)
            for name, (call, items) in calls(loop, storage, table).items()
        }
        loop.run_until_complete(storage.close())
    loop.close()
    return taken


def main() -> None:
    """Prints the table."""
    table = build().tables()["text_chunks"]
    with running_server() as server:
        off, on = (measure(server.url, table, on=on) for on in (False, True))
    print("| call | without | with | more |")
    print("| --- | --- | --- | --- |")
    for name, without in off.items():
        print(f"| {name} | {without:.1f} | {on[name]:.1f} | {on[name] - without:.1f} |")


if __name__ == "__main__":
    main()
