"""Many calls, loops and threads at once share a handful of threads and sockets."""

from __future__ import annotations

import os

import pytest

from bridge.test_concurrency import TEN_THOUSAND_READS
from support.scripts import run_script
from support.servers import RedisServer

from .rows import Row

OUR_THREADS = 6
"""Beside one for each core."""


@pytest.mark.row(32)
def test_ten_thousand_calls_at_once_take_a_handful_of_threads_and_sockets(
    row: Row, server: RedisServer
) -> None:
    wrong = threads = connections = 0
    times = row.pick(quick=1, full=10)
    for _ in range(times):
        out = run_script(TEN_THOUSAND_READS, server.url).cleanly()
        found = [int(word) for word in out.split()]
        wrong += found[0]
        threads, connections = max(threads, found[1]), max(connections, found[2])
    row.none("wrong answers", wrong, of=times * 10_000)
    row.at_most("threads", threads, (os.cpu_count() or 1) + OUR_THREADS)
    row.at_most("sockets", connections, 50)
