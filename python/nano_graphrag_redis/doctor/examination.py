"""The examination: every check in order, what is wrong with the server first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from nano_graphrag_redis.config import RedisConfig
from nano_graphrag_redis.doctor.checks.workers import examine_workers
from nano_graphrag_redis.exceptions import (
    StorageAuthError,
    StorageOperationError,
    StorageUnavailableError,
)

from .checks import contents, server
from .findings import Finding, Severity
from .keyspace_scan import Progress, take
from .target import Target

Check = Callable[[Target], Iterator[Finding]]

SERVER_CHECKS: Final[tuple[Check, ...]] = (
    server.version,
    server.latency,
    server.rights,
    server.unseen,
    server.eviction_policy,
    server.memory,
    server.persistence,
    server.replication,
)


def examine(
    config: RedisConfig, progress: Progress | None = None, *, metrics_dir: Path | None = None
) -> Iterator[Finding]:
    """Checks a deployment; changes nothing.

    Visits every key of the keyspace and reads every value, page by page. Other processes may write
    meanwhile, so documents that seem to be half-indexed are checked again at the end.

    Args:
        config: The service's settings.
        progress: Called from time to time with the number of keys visited so far.
        metrics_dir: The directory of the service's counters, to compare its processes.

    Yields:
        Findings as they are made, including those that are as they should be.

    Raises:
        StorageError: The server went away during the check. A server that is not there at the
            start, or refuses the login, is a finding.
        StorageConfigError: A setting is invalid.
    """
    if metrics_dir is not None:
        yield from examine_workers(metrics_dir)
    with Target(config) as target:
        try:
            target.any_store.ping()
        except StorageOperationError:
            pass  # an error is an answer: a server that cannot persist refuses even a PING
        except StorageAuthError as error:
            yield _refused_login(error)
            return
        except StorageUnavailableError as error:
            yield _unreachable(error)
            return
        for check in SERVER_CHECKS:
            yield from _or_refused(check(target))
        yield from _or_refused(_contents(target, progress))


def _contents(target: Target, progress: Progress | None) -> Iterator[Finding]:
    keyspace = take(target, progress)
    for check in contents.CHECKS:
        yield from _or_refused(check(target, keyspace))


def _or_refused(findings: Iterator[Finding]) -> Iterator[Finding]:
    """A check's findings, the last of which may be that the server refused it something."""
    try:
        yield from findings
    except StorageOperationError as error:
        yield Finding(
            "refused",
            Severity.ERROR,
            f"not everything was looked at: {error}",
            why="what else is wrong goes unnoticed",
            remedy="examine it as another user too, one who may do that"
            if "NOPERM" in str(error)
            else "see why the server refuses that, then examine it again",
        )


def _unreachable(error: StorageUnavailableError) -> Finding:
    return Finding(
        "reach",
        Severity.ERROR,
        f"no answer from the server: {error}",
        why="nothing works without it",
        remedy="check that the server runs, and that redis_url names it",
    )


def _refused_login(error: StorageAuthError) -> Finding:
    return Finding(
        "login",
        Severity.ERROR,
        f"the server refused the login: {error}",
        why="nothing works without it",
        remedy="check redis_username and redis_password",
    )
