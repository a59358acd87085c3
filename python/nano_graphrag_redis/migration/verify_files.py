"""``verify``: are the host's files and Redis the same?"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from nano_graphrag_redis._core import BlockingKvStore, FileWork

from .find_host_files import check_names, files_in
from .namespaces_and_foreign_keys import namespaces_of
from .open_store import Settings, configuration, opened
from .progress import Report, run
from .retry_changing_files import steadily


@dataclass(frozen=True)
class VerifiedNamespace:
    """One namespace in its file and on the server. Lists hold the first 1,000 ids, sorted.

    Attributes:
        namespace: The namespace.
        ids_in_file: Number of ids in the file.
        ids_on_server: Number of ids on the server.
        file_digest: Digest of all ids and values in the file. Equal contents have equal digests
            within one run; order, spelling and white space do not matter.
        server_digest: The same for the server.
        differing: Ids whose values differ.
        differing_count: How many.
        missing: Ids that exist only in the file.
        missing_count: How many.
        extra: Ids that exist only on the server.
        extra_count: How many.
    """

    namespace: str
    ids_in_file: int
    ids_on_server: int
    file_digest: str
    server_digest: str
    differing: tuple[str, ...] = ()
    differing_count: int = 0
    missing: tuple[str, ...] = ()
    missing_count: int = 0
    extra: tuple[str, ...] = ()
    extra_count: int = 0

    @property
    def ok(self) -> bool:
        """Whether both hold the same."""
        return not (self.differing_count or self.missing_count or self.extra_count)


@dataclass(frozen=True)
class Verified:
    """The result of ``verify``.

    Attributes:
        namespaces: One for each.
    """

    namespaces: tuple[VerifiedNamespace, ...] = field(default_factory=tuple)

    @property
    def ok(self) -> bool:
        """Whether the files and the server hold the same."""
        return all(namespace.ok for namespace in self.namespaces)


def verify(
    directory: str | os.PathLike[str],
    settings: Settings = None,
    *,
    namespaces: Collection[str] | None = None,
    progress: Report | None = None,
) -> Verified:
    """Compares the host's files with the server, id by id; writes nothing.

    Two values are equal if ``json.loads`` returns the same for both, including types and the bits
    of floats; the order of a dict's keys does not matter. A value on the server that cannot be
    read differs. A namespace that exists only on the server is compared with an empty file.

    Args:
        directory: The host's ``working_dir``.
        settings: The settings of the server.
        namespaces: Only these; None for every file in the directory and every namespace in the
            keyspace, which requires scanning the whole database.
        progress: Called with the progress.

    Raises:
        JsonFileError: A file is damaged, or kept changing.
        StorageUnavailableError, StorageOperationError: The server failed.
    """
    check_names(namespaces)
    config = configuration(settings)
    compared = []
    for namespace, path in files_in(Path(directory), namespaces).items():
        with opened(namespace, config) as store:
            compared.append(_compare(store, namespace, path, progress))
    if namespaces is None:
        known = {each.namespace for each in compared}
        for namespace in (name for name in namespaces_of(config) if name not in known):
            with opened(namespace, config) as store, _empty_file() as path:
                compared.append(_compare(store, namespace, path, progress))
    return Verified(tuple(compared))


def _compare(
    store: BlockingKvStore, namespace: str, path: Path, progress: Report | None
) -> VerifiedNamespace:
    def compare(readable: Path) -> VerifiedNamespace:
        found = run(FileWork.compare(store, readable), namespace, progress)
        for kind in ("differing", "missing", "extra"):
            found[kind] = tuple(found[kind])
        return VerifiedNamespace(namespace, **found)

    return steadily(path, compare)


@contextmanager
def _empty_file() -> Iterator[Path]:
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(b"{}")
        file.flush()
        os.utime(file.name, (0, 0))  # nobody is writing it
        yield Path(file.name)
