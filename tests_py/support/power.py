"""Power cuts: what a disk has after one is what was synced, and a shim in the server knows that.

A process that is killed leaves its writes with the kernel, which loses nothing. So the server runs
with its ``fsync`` and ``fdatasync`` wrapped: each that returns notes how long the file was when it
began, and a cut shortens every append-only file to that.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .servers import RedisServer

_SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int synced(int fd, const char *name) {
    int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, name);
    struct stat file;
    int known = fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
    usleep(atoi(getenv("SYNC_MICROSECONDS")));
    int result = real(fd);
    if (result == 0 && known) {
        int log = open(getenv("SYNC_LOG"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        dprintf(log, "%lu %lld\n", (unsigned long)file.st_ino, (long long)file.st_size);
        close(log);
    }
    return result;
}

int fsync(int fd) { return synced(fd, "fsync"); }
int fdatasync(int fd) { return synced(fd, "fdatasync"); }
"""


class Disk:
    """The disk under a server: remembers what of its files was synced.

    Args:
        directory: Where to build the shim.
        binary: The server.
        sync_time: Seconds that a sync takes, at least.
    """

    def __init__(self, directory: Path, binary: Path, sync_time: float = 0.0) -> None:
        source, shim = directory / "synced.c", directory / "synced.so"
        source.write_text(_SHIM)
        subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
        self._log = directory / "synced.log"
        self.binary = directory / "server-on-this-disk"
        self.binary.write_text(
            f"#!/bin/sh\nexport LD_PRELOAD={shim} SYNC_LOG={self._log} "
            f'SYNC_MICROSECONDS={int(sync_time * 1e6)}\nexec {binary} "$@"\n'
        )
        self.binary.chmod(0o700)

    @contextmanager
    def server(self, **options: Any) -> Iterator[RedisServer]:
        """A server on this disk."""
        with RedisServer(self.binary, appendonly="yes", **options) as running:
            yield running

    def cut(self, server: RedisServer) -> int:
        """Takes the power from a server; it may be started again.

        Returns:
            How many bytes of its append-only files were not on the disk.
        """
        server.kill()
        synced: dict[int, int] = {}
        for line in self._log.read_text().splitlines():
            inode, size = map(int, line.split())
            synced[inode] = max(size, synced.get(inode, 0))
        lost = 0
        for file in (*server.directory.glob("*.aof"), *server.directory.glob("*/*.aof")):
            found = file.stat()
            kept = synced.get(found.st_ino, 0)
            lost += max(0, found.st_size - kept)
            with file.open("r+b") as opened:
                opened.truncate(min(found.st_size, kept))
        return lost
