"""The files that a call enters, from the storage to the socket and back, seen by callgrind.

The core is built without inlining, so that each function is where it was written. The calls are
counted on a storage that is connected: nothing of the first use is among them.

Run: .venv/bin/python -m benches.entered read write
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benches.server import running_server

ROOT = Path(__file__).resolve().parents[1]
# Nothing goes on beside the calls, and nothing is late, however slow they are.
SETTINGS = {
    "redis_health_check_interval": 0,
    "redis_operation_timeout": 600,
    "redis_socket_timeout": 600,
}
CALLS = {
    "read": "[await storage.get_by_id(id) for id in list(table)[:20]]",
    "write": "await storage.upsert(table)",
}
SCRIPT = """
import asyncio, os, subprocess, sys
from benches import payloads
from nano_graphrag_redis import RedisKVStorage

def switch(on):
    command = ["callgrind_control", f"--instr={{on}}", str(os.getpid())]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

async def main():
    table = payloads.build().tables()["text_chunks"]
    assert len(table) == 1000
    storage = RedisKVStorage("text_chunks", {settings!r})
    await storage.upsert(table)
    await storage.get_by_id("absent")
    switch("on")
    {call}
    switch("off")
    files = set()
    sys.setprofile(lambda frame, *_: files.add(frame.f_code.co_filename))
    {call}
    sys.setprofile(None)
    print(*files, sep="\\n")

asyncio.run(main())
"""


def main() -> None:
    """Print the files of each call that was asked for."""
    parser = argparse.ArgumentParser(prog="python -m benches.entered", description=__doc__)
    parser.add_argument("calls", nargs="+", choices=list(CALLS))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory, running_server() as server:
        package = package_without_inlining(Path(directory))
        for call in options.calls:
            files = entered(package, server.url, call)
            print(f"\n{call}: {len(files)} files\n", *sorted(files), sep="\n")


def package_without_inlining(directory: Path) -> Path:
    """The package over a core in which no function is part of another."""
    environment = {
        **os.environ,
        "PYO3_PYTHON": sys.executable,
        "PYO3_BUILD_EXTENSION_MODULE": "1",
        "CARGO_TARGET_DIR": str(ROOT / "target"),
    }
    command = ["cargo", "build", "--quiet", "--locked", "--lib"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    package = directory / "nano_graphrag_redis"
    # Not the core of an earlier build, which would be found first.
    ignored = shutil.ignore_patterns("*.so", "__pycache__")
    shutil.copytree(ROOT / "python" / "nano_graphrag_redis", package, ignore=ignored)
    for other in package.glob("_core.*.so"):
        other.unlink()
    shutil.copy(ROOT / "target" / "debug" / "libnano_graphrag_redis.so", package / "_core.so")
    return directory


def entered(package: Path, url: str, call: str) -> set[str]:
    """The files of `src/` and `python/`, from the root, of which a function runs.

    Args:
        package: What `package_without_inlining` made.
        url: The server's.
        call: One of `CALLS`.
    """
    counted = package / f"{call}.callgrind"
    # The storages need only the base class of a host, and the real one takes minutes here.
    host = ROOT / "tests_py" / "hosts" / "standin_factory_host"
    path = os.pathsep.join(map(str, (package, ROOT, host)))
    script = SCRIPT.format(settings={**SETTINGS, "redis_url": url}, call=CALLS[call])
    ran = subprocess.run(
        ["valgrind", "--quiet", "--tool=callgrind", "--instr-atstart=no",
         f"--callgrind-out-file={counted}", sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "0"},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    files = (Path(name) for name in ran.stdout.splitlines())
    python = {f"python/{file.relative_to(package)}" for file in files if package in file.parents}
    return python | _with_costs(counted.read_text(encoding="utf-8"))


def _with_costs(profile: str) -> set[str]:
    """The files of the core that a profile gives costs to; their names are abbreviated there."""
    names: dict[str, str] = {}
    found = set()
    for line in profile.splitlines():
        if row := re.match(r"(c?f[lie])=(\(\d+\))(?: (.*))?$", line):
            kind, number, name = row.groups()
            names.setdefault(number, name)
            if not kind.startswith("c"):
                found.add(number)
    paths = (names[number].removeprefix(f"{ROOT}/") for number in found)
    # Relative is ours. The root has no functions: it stands for what the compiler puts in.
    return {path for path in paths if path.startswith("src/")} - {"src/lib.rs"}


if __name__ == "__main__":
    main()
