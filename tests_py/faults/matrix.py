"""The faults, what is promised under each, and the figure that the promise is held to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fault:
    """One row of the matrix.

    Attributes:
        name: What is done to the client, the server or the way between.
        promise: What holds all the same.
        figure: How that is measured; promised times are of a machine of one's own.
    """

    name: str
    promise: str
    figure: str


MATRIX = {
    1: Fault(
        "reply lost after the server applied the write",
        'the value is right; the caller sees success or "unknown", never a wrong success',
        "0 wrong of 10,000 at 10 % cuts, standalone and cluster, one writer per id; deletes too",
    ),
    2: Fault(
        "asyncio cancel at a random instant, slow replies",
        "no answer reaches another caller",
        "0 of 20,000; tasks, sockets and threads back to the start",
    ),
    3: Fault(
        "server killed (-9) and restarted during writes, AOF on",
        "with appendfsync always, or after an `fsync` barrier, every acknowledged write is there",
        "0 lost over 50 restarts, 16 writers; writes flow within 500 ms of the restart (p99)",
    ),
    4: Fault(
        "power cut (file cut back to the last fsync)",
        "nothing confirmed at `fsync` is lost",
        "0 lost; `ack` on everysec loses at most 2 s",
    ),
    5: Fault(
        "client killed between `full_docs` and `text_chunks`",
        "found and repaired by `doctor`",
        "documents without chunks left after repair: 0",
    ),
    6: Fault(
        "reconnect inside the durability barrier",
        "raises or repeats the marker",
        "0 false OK of 500",
    ),
    7: Fault(
        "cluster master dies with a lagging replica",
        "writes confirmed at `replicas:1` survive, or the error says they may not",
        "0 lost; outage at most node timeout + 2 s",
    ),
    8: Fault(
        "sentinel fails over a stalled master that then wakes",
        "no acknowledgement from the stale master is believed (documented server settings)",
        "0 stale; new master within 3.5 s",
    ),
    9: Fault(
        "fork after use (os.fork, multiprocessing, prefork servers)",
        "the child works, no socket is shared",
        "0 hangs of 200",
    ),
    10: Fault(
        "Ctrl-C in a blocking call",
        "KeyboardInterrupt, storage usable after",
        "within 150 ms",
    ),
    11: Fault(
        "interpreter exit with 50 calls in flight, from loops, threads and sync calls",
        "clean exit",
        "code 0, 0 bytes on stderr, under 3 s (a bare run_until_complete: asyncio's own words)",
    ),
    12: Fault(
        "server stalls 10 s (SIGSTOP, CLIENT PAUSE)",
        "`redis_operation_timeout` holds, retries included",
        "overshoot p99.9 under 50 ms",
    ),
    13: Fault(
        "server flapping",
        "breaker: one probe at a time, server errors do not count, closes by itself",
        "illegal transitions 0",
    ),
    14: Fault("200 clients reconnect at once", "jitter", "all back within 2 s"),
    15: Fault(
        "maxmemory reached",
        "an error, nothing silently gone; `allkeys-*` warned about",
        "silent loss 0",
    ),
    16: Fault(
        "a batch fails half-way",
        "`unconfirmed_ids` = exactly the ids for which no OK came, those never sent included",
        "equal to the proxy's record of delivered replies, 1,000 trials",
    ),
    17: Fault("slots move during load (MOVED, ASK, TRYAGAIN)", "invisible", "errors 0"),
    18: Fault("braces in ids", "cluster equals standalone", "0 differences of 100,000"),
    19: Fault(
        "namespaces that look alike or hold glob characters",
        "only own keys touched",
        "foreign deletes 0",
    ),
    20: Fault(
        "`drop` of a million keys",
        "other callers are not starved; can be run again after a kill",
        "others' p99 under 10 ms",
    ),
    21: Fault(
        "corrupt bytes, wrong type under a key",
        "CorruptValueError / StorageOperationError, never None",
        "silent None 0",
    ),
    22: Fault(
        "JSON edges (hypothesis)",
        "equal to JsonKVStorage, or a named error at write time",
        "0 differences of 100,000",
    ),
    23: Fault(
        "a frame that unpacks past the cap; a value over the cap written; one stored",
        "refused, refused, CorruptValueError",
        "peak at most cap + 64 MiB; for the stored one 2.2x its size",
    ),
    24: Fault("secrets", "never visible", "canary found 0 times in logs, errors, reprs, metrics"),
    25: Fault(
        "TLS: wrong CA, expired, wrong host, self-signed, plaintext port, no client certificate",
        "refused with the reason",
        "accepted 0",
    ),
    26: Fault(
        "least-privilege ACL user; CONFIG, BGSAVE, INFO forbidden",
        "the whole suite passes",
        "NOPERM 0",
    ),
    27: Fault("password rotated under load", "no storm of logins", "at most 3 attempts a second"),
    28: Fault(
        "LOADING, READONLY, MISCONF, OOM, NOAUTH, NOPERM, CLUSTERDOWN, BUSY",
        "the documented class each",
        "100 %",
    ),
    29: Fault("malformed or fragmented RESP", "an error, no panic", "panics 0 (fuzzed)"),
    30: Fault("silent TCP death", "noticed", "within the timeout + 100 ms"),
    31: Fault(
        "100 asyncio.run in a row, two loops at once, uvloop",
        "one storage serves all",
        "errors 0, descriptors flat",
    ),
    32: Fault(
        "10,000 concurrent calls",
        "bounded threads and sockets",
        "cores + 6 threads; sockets within the cap",
    ),
    33: Fault("long soak with mixed faults", "no leak, no loss", "under 1 MiB/h growth"),
    34: Fault(
        "GIL stress (switch interval 1 µs, gc loop); a panic in Rust",
        "no hang; an Exception, not PanicException",
        "hangs 0",
    ),
    35: Fault(
        "audit of TTLs",
        "documents, chunks and reports never expire by default",
        "keys with a TTL: 0",
    ),
    36: Fault(
        "twenty corrupt cached answers and twenty unmet barriers inside the real host's LLM calls",
        "the host goes on",
        "the next LLM call completes",
    ),
    37: Fault(
        "work in pieces at no ids, one, and around every size at which it is cut, bytes too",
        "no request without commands; the same result as one by one",
        "0 differences, 0 waits, every operation",
    ),
    38: Fault(
        "a slot moves key by key (MIGRATE) during all_keys, drop, export, verify, migrate",
        "nothing missed in silence; a walk does not wait for a reshard to end",
        "0 missed of 20,000 ids, or an error",
    ),
    39: Fault(
        "drop while others write and close their storages, dual writing; a process stands still",
        "the file equals the server after a fold",
        "0 differences in 200 rounds, registry off and on",
    ),
    40: Fault(
        "thread stacks from 64 KiB up, nested values, stored ones too",
        "every call works; what is nested too deep for the stack is an error",
        "crashes 0",
    ),
    41: Fault(
        "memory, threads or descriptors refused (RLIMIT_AS, RLIMIT_NPROC, RLIMIT_NOFILE)",
        "an exception, for memory a MemoryError; the storage is usable after",
        "aborts 0, hangs 0, threads left behind 0",
    ),
    42: Fault(
        "foreign and hostile keys, files, snapshots, names beside ours",
        "skipped and told; nothing outside the target; nothing raw to a terminal",
        "tracebacks 0, escapes 0, files outside 0",
    ),
    43: Fault(
        "100,000 open-use-close cycles, 100,000 namespaces, 50,000 loops",
        "memory flat",
        "under 16 bytes a cycle, 1 kB a namespace",
    ),
    44: Fault(
        "subinterpreters, pickling, copying; small and odd environments",
        "it works, or an error that says what is supported",
        "hangs 0, tracebacks 0",
    ),
    45: Fault(
        "interpreter exit with a stalled server and many dual-written namespaces left open",
        "one deadline for all; what could not be folded stays in the logs",
        "under `redis_operation_timeout` + 1 s; writes missing after a fold 0",
    ),
    47: Fault(
        "single flight: the leader is killed, raises, hangs, stands still; waiters are cancelled; "
        "the server dies",
        "one call at a time; every waiter goes on, with the answer or with a miss",
        "killed: 2 calls; raised: the next within 1 s; hung: waiters leave at "
        "`redis_single_flight_wait`; server away: within `redis_operation_timeout`; "
        "leases left after 11 s: 0; off: 0 extra commands",
    ),
    48: Fault(
        "deferred drop: readers beside an insert, the process killed before it writes new reports "
        "and while it does, failed extractions, two writers",
        "the old reports stay until the new ones replace them: up to 8 MiB on one server in one "
        "transaction, larger sets and those on a cluster id by id, with no id missing meanwhile "
        "that both sets have; writers take turns",
        "queries without reports 0; old set whole 50 of 50 and 20 of 20; old or new set whole 50 "
        "of 50; one writer's set, whole, after 200 rounds",
    ),
    49: Fault(
        "rate limit of all workers: killed holders, skewed clocks, an outage, a 429",
        "never more than the limit; each worker its share; no call while a provider asks to wait",
        "at most 610 calls in 60 s of 600 a minute, use 97 %, shares within 10 %; slots back "
        "within 15 s",
    ),
    50: Fault(
        "histories of eight processes (writes, reads, deletes; a near cache in half of them) over "
        "restarts, failovers, lost replies, suspended and killed processes",
        "each id is a register: what was told has an order, but for what was announced as unknown; "
        "a copy is as old as `redis_socket_timeout` at most, and never older than an own write",
        "histories without an order 0 of 100",
    ),
    53: Fault(
        "every durability level under the real host: inserts, drops, re-index, restarts of server "
        "and process, barriers cut",
        "an OK is true, an error is true",
        "false errors 0, false OKs 0 in 200 inserts",
    ),
    54: Fault(
        "a server of a cluster is cut off from the others, while clients reach it",
        "the majority is followed; no stale copy is served",
        "new primary within node timeout + 2 s; stale reads beyond it 0",
    ),
    55: Fault(
        "the registry is lost at every point of its adoption, sweep and drop",
        "never complete when it is not",
        "ids missed 0 of 20,000 in 200 tries",
    ),
    56: Fault(
        "calls on 100,000 and 1,000,000 ids beside a task that ticks",
        "other tasks of the event loop have their turn",
        "at most 10 ms of work in one turn, beside the decoding of one value",
    ),
}
"""Every row, by its number."""
