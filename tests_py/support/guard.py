"""What runs while a ``with`` block does, and ends with it however the block ends."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Guard:
    """Owns what it starts: ended once, also where it did not start whole."""

    def start(self) -> None:
        """Starts it, and returns when it is of use; nothing, where making it has done so."""

    def close(self) -> None:
        """Ends it, and leaves nothing behind."""
        raise NotImplementedError

    def report(self) -> None:
        """Writes what helps with the failure that ended the block; pytest shows it."""

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None:
            self.report()
        self.close()
