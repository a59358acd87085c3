"""``server start|stop|status``: an embedded server that outlives the applications that use it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from nano_graphrag_redis.config.secrets import redacted
from nano_graphrag_redis.config.url import RedisUrl, embedded_url
from nano_graphrag_redis.exceptions import StorageConfigError
from nano_graphrag_redis.humanize import duration

from .exit_codes import Exit
from .session import Session

Directory = Annotated[
    str | None,
    typer.Argument(
        metavar="DIRECTORY",
        help="The server's directory, or embedded://DIRECTORY. Default: REDIS_URL.",
        show_default=False,
    ),
]


def start(session: Session, directory: Directory = None) -> None:
    """Start the embedded server of a directory, and keep it running until stop."""
    from nano_graphrag_redis.embedded.holder import leave_holder

    home = _home(session, directory)
    leave_holder(home)
    _show(session, home)


def stop(session: Session, directory: Directory = None) -> Exit | None:
    """Stop the embedded server of a directory. Exits 1 if others still use it."""
    from nano_graphrag_redis.embedded.holder import dismiss_holder

    home = _home(session, directory)
    ended = dismiss_holder(home)
    _show(session, home)
    return None if ended else Exit.FOUND


def status(session: Session, directory: Directory = None) -> Exit | None:
    """Show whether the embedded server of a directory runs. Exits 3 if it does not."""
    running = _show(session, _home(session, directory))
    return None if running else Exit.NO_SERVER


def _show(session: Session, home: Path) -> bool:
    from nano_graphrag_redis.embedded.holder import facts_of, is_kept

    facts, kept = facts_of(home), is_kept(home)
    found: dict[str, Any] = {"url": embedded_url(home), "running": bool(facts)}
    if facts:
        name = "Valkey" if "valkey_version" in facts else "Redis"
        found |= {
            "version": f"{name} {facts.get('valkey_version', facts['redis_version'])}",
            "pid": int(facts["process_id"]),
            "uptime_seconds": int(facts["uptime_in_seconds"]),
            "kept": kept,
        }

    def said() -> str:
        if not facts:
            return f"{found['url']} does not run"
        up = duration(found["uptime_seconds"])
        until = "until stop" if kept else "until its last user leaves"
        return f"{found['url']} runs {until}: {found['version']}, process {found['pid']}, up {up}"

    session.output.show(found, said)
    return bool(facts)


def _home(session: Session, directory: str | None) -> Path:
    home = _named(directory) if directory else session.config.embedded_directory
    if home is None:
        raise StorageConfigError(
            "name the directory of the server, or set REDIS_URL=embedded://DIRECTORY"
        )
    home = home.expanduser().resolve()
    if home.exists():
        from nano_graphrag_redis.embedded.ownership import check_ours

        check_ours(home)
    return home


def _named(directory: str) -> Path:
    if "://" not in directory:
        return Path(directory)
    try:
        home = RedisUrl.parse(directory).embedded_directory
    except ValueError:
        home = None
    if home is None:
        raise StorageConfigError(
            f"{redacted(directory)} names no embedded server: give its directory, or "
            "embedded://DIRECTORY"
        )
    return home
