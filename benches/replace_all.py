"""MULTI/EXEC against EVAL for replacing a set at once: what the server is busy with meanwhile.

    python benches/replace_all.py redis://127.0.0.1:6379

Writes and deletes keys there that begin with `replace_all:`. Printed are medians of ROUNDS rounds,
for sets of several sizes: milliseconds from the first byte to the reply, microseconds that the
server counts for the one command that does it (in which it serves nobody else), and the longest
time that a PING of another connection took meanwhile.
"""

from __future__ import annotations

import statistics
import sys
import threading
import time

import redis

ROUNDS = 15
VALUE = 2_048
SCRIPT = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local new = tonumber(ARGV[2])
for number = 1, new do redis.call('SET', KEYS[1 + number], ARGV[2 + number]) end
for number = new + 2, #KEYS do redis.call('UNLINK', KEYS[number]) end
return 1
"""


def transaction(client: redis.Redis, new: dict[str, bytes], stale: list[str]) -> None:
    with client.pipeline(transaction=True) as pipe:
        pipe.watch("replace_all:fence")
        pipe.get("replace_all:fence")
        pipe.multi()
        for key, value in new.items():
            pipe.set(key, value)
        for key in stale:
            pipe.unlink(key)
        pipe.execute()


def script(client: redis.Redis, new: dict[str, bytes], stale: list[str]) -> None:
    keys = ["replace_all:fence", *new, *stale]
    done = client.eval(SCRIPT, len(keys), *keys, b"token", len(new), *new.values())
    assert done == 1, done


def longest_ping(url: str, ended: threading.Event, seen: list[float]) -> None:
    with redis.Redis.from_url(url) as other:
        longest = 0.0
        while not ended.is_set():
            began = time.perf_counter()
            other.ping()
            longest = max(longest, time.perf_counter() - began)
    seen.append(longest)


def main(url: str) -> None:
    client = redis.Redis.from_url(url)
    client.set("replace_all:fence", b"token")
    print("values | way | total ms | server us | longest ping ms")
    for count in (300, 1_000, 4_000):
        new = {f"replace_all:{number}": b"x" * VALUE for number in range(count)}
        stale = [f"replace_all:{number}" for number in range(count, count + count // 3)]
        for way, name in ((transaction, "exec"), (script, "eval")):
            totals, busy, waits = [], [], []
            for _ in range(ROUNDS):
                client.mset(dict.fromkeys([*new, *stale], b"y" * VALUE))
                client.config_resetstat()
                ended, seen = threading.Event(), list[float]()
                pinging = threading.Thread(target=longest_ping, args=(url, ended, seen))
                pinging.start()
                began = time.perf_counter()
                way(client, new, stale)
                totals.append((time.perf_counter() - began) * 1e3)
                ended.set()
                pinging.join()
                busy.append(client.info("commandstats")[f"cmdstat_{name}"]["usec"])
                waits.append(seen[0] * 1e3)
            middle = [statistics.median(seen) for seen in (totals, busy, waits)]
            print(f"{count} | {name} | {middle[0]:.1f} | {middle[1]:.0f} | {middle[2]:.1f}")
    client.delete("replace_all:fence", *new, *stale)


if __name__ == "__main__":
    main(*sys.argv[1:])
