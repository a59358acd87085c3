"""RESP2 as it lies in a proxy's record: commands that were sent, replies that were delivered."""

from __future__ import annotations

from collections.abc import Iterator


def commands(sent: bytes | bytearray) -> Iterator[list[bytes]]:
    """The words of each whole command."""
    at = 0
    while True:
        head = _line(sent, at)
        if head is None:
            return
        line, at = head
        words = []
        for _ in range(int(line[1:])):
            found = _text(sent, at)
            if found is None:
                return
            word, at = found
            words.append(word)
        yield words


def replies(delivered: bytes | bytearray) -> Iterator[bytes]:
    """Each whole reply that is a line: ``+OK``, an error, a number. A text stands for itself."""
    at = 0
    while (head := _line(delivered, at)) is not None:
        line, end = head
        if line.startswith(b"$") and line != b"$-1":
            found = _text(delivered, at)
            if found is None:
                return
            line, end = found
        at = end
        yield line


def _line(wire: bytes | bytearray, at: int) -> tuple[bytes, int] | None:
    end = wire.find(b"\r\n", at)
    return None if end < 0 else (bytes(wire[at:end]), end + 2)


def _text(wire: bytes | bytearray, at: int) -> tuple[bytes, int] | None:
    head = _line(wire, at)
    if head is None:
        return None
    line, at = head
    end = at + int(line[1:])
    return (bytes(wire[at:end]), end + 2) if len(wire) >= end + 2 else None
