"""What TLS costs, over connections that callers drive themselves and over those of the runtime.

All in one process and in turn; see `benches.direct_connections`. Prints the medians. Needs a
server with TLS.

Run: .venv/bin/python -m benches.tls
"""

import asyncio
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import trustme

from benches.direct_connections import LEFT_OUT
from benches.measure import measure
from benches.payloads import Payloads, build
from benches.server import HOST, free_port, running_server
from benches.workload import CHUNKS, Stores
from benches.workloads import workloads
from nano_graphrag_redis import RedisKVStorage

SECONDS = 4.0
POOL: dict[str, object] = {"redis_max_connections": 1}


async def opened(data: Payloads, way: str, settings: dict[str, object]) -> Stores:
    """Storages that go this way, with the payloads in them."""
    storages = {}
    for namespace, table in data.tables().items():
        storages[namespace] = RedisKVStorage(namespace, {"redis_key_prefix": way, **settings})
        await storages[namespace].upsert(table)
    return Stores({**storages}, storages[CHUNKS].sync)


def main() -> None:
    """Measure each call every way and print a row for it."""
    data = build()
    loop = asyncio.new_event_loop()
    with TemporaryDirectory(prefix="bench-tls-") as home:
        ca, cert, key = (Path(home) / name for name in ("ca.pem", "cert.pem", "key.pem"))
        authority = trustme.CA()
        issued = authority.issue_cert(HOST)
        authority.cert_pem.write_to_path(str(ca))
        issued.cert_chain_pems[0].write_to_path(str(cert))
        issued.private_key_pem.write_to_path(str(key))
        port = free_port()
        options = ["--tls-port", str(port), "--tls-auth-clients", "no", "--tls-ca-cert-file"]
        options += [str(ca), "--tls-cert-file", str(cert), "--tls-key-file", str(key)]
        with running_server(*options) as server:
            tls: dict[str, object] = {
                "redis_url": f"rediss://{HOST}:{port}",
                "redis_tls_ca_file": str(ca),
            }
            plain: dict[str, object] = {"redis_url": server.url}
            settings: dict[str, dict[str, object]] = {
                "direct": plain,
                "TLS direct": tls,
                "TLS pool": tls | POOL,
            }
            ways = {
                way: loop.run_until_complete(opened(data, way.replace(" ", "-"), given))
                for way, given in settings.items()
            }
            print(
                f"| microseconds of an item | {' | '.join(ways)} |\n| --- |{' ---: |' * len(ways)}"
            )
            for workload in workloads(data):
                if workload.name not in LEFT_OUT:
                    actions = {way: partial(workload.action, it) for way, it in ways.items()}
                    series = measure(loop, actions, workload.items, SECONDS)
                    figures = " | ".join(f"{each.per_item:.1f}" for each in series.values())
                    print(f"| {workload.title} | {figures} |")
    loop.close()


if __name__ == "__main__":
    main()
