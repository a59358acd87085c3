"""Thousands of calls share a handful of threads and sockets."""

import asyncio
import os
import sys
import threading
from typing import Any

from bridge.conftest import OpenStorage
from nano_graphrag_redis import RedisKVStorage
from support.proxy import Proxy
from support.scripts import run_script
from support.servers import RedisServer

TEN_THOUSAND_READS = """
import redis

async def main():
    ids = [f"id-{number}" for number in range(10_000)]
    await storage.upsert({id: id for id in ids})
    answers = await asyncio.gather(*map(storage.get_by_id, ids))
    print(sum(answer != id for id, answer in zip(ids, answers)))

asyncio.run(main())
with open("/proc/self/status") as status:
    print(next(line.split()[1] for line in status if line.startswith("Threads:")))
with redis.Redis.from_url(URL) as client:
    clients = client.client_list()
print(sum(c["name"] == f"nano-graphrag-redis:{os.getpid()}" for c in clients))
"""


# A socket or a thread for each call would run into the limits of both.
def test_ten_thousand_reads_at_once_take_a_handful_of_threads_and_sockets(
    server: RedisServer,
) -> None:
    out = run_script(TEN_THOUSAND_READS, server.url).cleanly()
    wrong, threads, connections = map(int, out.split())
    assert wrong == 0
    assert threads <= (os.cpu_count() or 1) + 6
    assert 1 <= connections <= 50


# Each slot of the pool grows for itself under load, on both threads of the runtime at once.
def test_connections_grow_under_load_and_stay_within_their_cap(
    own_server: RedisServer, open_storage: OpenStorage
) -> None:
    async def main() -> list[dict[str, Any]]:
        for _ in range(3):
            await asyncio.gather(*(storage.get_by_id(str(number)) for number in range(10_000)))
        return own_server.client().client_list()  # a closed loop has no connection any more

    with Proxy(own_server.port) as proxy:
        proxy.delay = 0.02
        storage = open_storage(redis_url=proxy.url, redis_max_connections=3)
        clients = asyncio.run(main())
    named = [each for each in clients if each["name"] == f"nano-graphrag-redis:{os.getpid()}"]
    assert len(named) == 3


SWITCHING = """
async def main(name):
    while time.monotonic() < end:
        ids = [f"{name}-{number}" for number in range(50)]
        await storage.upsert({id: {"id": id} for id in ids})
        found = await asyncio.gather(*map(storage.get_by_id, ids), storage.get_by_ids(ids))
        assert [value["id"] for value in found[:-1]] == ids
        assert [value["id"] for value in found[-1]] == ids
    served.append(name)

def collect():
    while len(served) < 4:
        gc.collect()

served = []
sys.setswitchinterval(1e-6)
end = time.monotonic() + float(sys.argv[2])
threads = [threading.Thread(target=asyncio.run, args=(main(name),)) for name in "abcd"]
for thread in (*threads, threading.Thread(target=collect, daemon=True)):
    thread.start()
for thread in threads:
    thread.join()
print(sorted(served))
"""


# A bridge that drops or touches an object without the lock crashes when threads switch often.
def test_constant_thread_switches_and_collections_break_nothing(server: RedisServer) -> None:
    assert run_script(SWITCHING, server.url, 2).cleanly() == "['a', 'b', 'c', 'd']\n"


def test_sync_calls_of_many_threads_and_a_loop_share_the_connections(
    storage: RedisKVStorage,
) -> None:
    errors = []

    def work(name: str) -> None:
        try:
            for number in range(50):
                storage.sync.upsert({name: number})
                assert storage.sync.get_by_id(name) == number
        except BaseException as error:
            errors.append(error)
            raise

    async def main() -> None:
        for number in range(50):
            await storage.upsert({"loop": number})
            assert await storage.get_by_id("loop") == number

    threads = [threading.Thread(target=work, args=(f"thread-{n}",)) for n in range(8)]
    for thread in threads:
        thread.start()
    asyncio.run(main())
    for thread in threads:
        thread.join()
    assert not errors, sys.exc_info()
