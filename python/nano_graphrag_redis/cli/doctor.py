"""``doctor``: what is wrong with a deployment, why it matters, and what to do."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Group, RenderableType
from rich.text import Text

from nano_graphrag_redis import doctor as diagnosis
from nano_graphrag_redis.acl import acl_line
from nano_graphrag_redis.doctor import Finding, Repaired, Severity
from nano_graphrag_redis.exceptions import StorageConfigError, StorageError
from nano_graphrag_redis.humanize import plural
from nano_graphrag_redis.printable import visible

from .exit_codes import Exit
from .log_output import untold
from .progress_bars import Bars
from .session import Session

Acl = Annotated[
    bool, typer.Option("--acl", help="Print the ACL line of a least-privilege user, and exit.")
]
Limits = Annotated[
    bool,
    typer.Option("--llm-limits", help="With --acl: the user may also keep limit_llm's limits."),
]
Repair = Annotated[
    bool, typer.Option("--repair", help="First fix what can be fixed without a decision.")
]
Kept = Annotated[
    Path | None,
    typer.Option(
        "--in",
        metavar="DIR",
        help="The host's working_dir, whose files --repair updates under REDIS_DUAL_WRITE.",
    ),
]

_MARKS = {
    Severity.OK: ("✓", "+", "green"),
    Severity.WARNING: ("!", "!", "yellow"),
    Severity.ERROR: ("✗", "x", "red"),
}
"""The second is for a terminal that does not know the first."""


_WITHOUT_A_SERVER = {"reach": Exit.NO_SERVER, "login": Exit.USAGE}
"""Findings after which nothing else was looked at, and how the command ends."""


def doctor(
    session: Session,
    acl: Acl = False,
    limits: Limits = False,
    repair: Repair = False,
    directory: Kept = None,
) -> Exit | None:
    """Check the server and the contents of the keyspace; changes nothing without --repair.

    With REDIS_METRICS_DIR, also compares the service's running processes.

    Exits 1 if it finds an error, 2 if the server refuses the login, 3 if it cannot be reached.
    """
    if acl:
        line = acl_line(session.config, limits=limits)
        session.output.show({"acl": line}, lambda: Text(line, no_wrap=True, overflow="ignore"))
        return None
    repaired: list[Repaired] = []
    findings: list[Finding] = []
    try:
        # What a storage would log of its server at first use is a finding here.
        with session.output.progress() as bars, untold("server_at_risk"):
            if repair:
                _repair(session, directory, bars, repaired)
            findings.extend(
                diagnosis.examine(
                    session.config,
                    lambda met: bars.tell("examine", met, None, "keys"),
                    metrics_dir=session.metrics_dir,
                )
            )
    except (StorageError, KeyboardInterrupt):  # what came before it is in the lists
        if repaired or findings:
            _show(session, repaired, findings, complete=False)
        raise
    _show(session, repaired, findings, complete=True)
    for finding in findings:
        if finding.check in _WITHOUT_A_SERVER:
            return _WITHOUT_A_SERVER[finding.check]
    return Exit.FOUND if _count(findings, Severity.ERROR) else None


def _show(
    session: Session, repaired: list[Repaired], findings: list[Finding], *, complete: bool
) -> None:
    session.output.show(
        {
            "complete": complete,
            "repaired": [asdict(each) for each in repaired],
            "findings": [_data(finding) for finding in findings],
            "errors": _count(findings, Severity.ERROR),
            "warnings": _count(findings, Severity.WARNING),
        },
        lambda: _report(repaired, findings, marks=session.output.says("✓✗⚒"), complete=complete),
    )


def _repair(session: Session, directory: Path | None, bars: Bars, repaired: list[Repaired]) -> None:
    """Repairs, and notes each repair when it is done."""
    config = session.config
    if directory is not None:
        config = config.model_copy(update={"working_dir": str(directory)})
    elif config.redis_dual_write:
        raise StorageConfigError(
            "under redis_dual_write, --repair changes the host's files too: name its working_dir "
            "with --in DIR"
        )
    repaired.extend(diagnosis.repair(config, lambda met: bars.tell("look", met, None, "keys")))


def _count(findings: list[Finding], severity: Severity) -> int:
    return sum(finding.severity is severity for finding in findings)


def _data(finding: Finding) -> dict[str, Any]:
    return asdict(finding) | {"severity": finding.severity.value}


def _report(
    repaired: list[Repaired], findings: list[Finding], *, marks: bool, complete: bool
) -> RenderableType:
    lines: list[RenderableType] = [
        Text(f"{'⚒' if marks else '*'} {visible(each.title)}", "cyan") for each in repaired
    ]
    for finding in findings:
        known, plain, colour = _MARKS[finding.severity]
        mark = known if marks else plain
        lines.append(
            Text.assemble(
                (f"{mark} ", colour), (visible(finding.title), "bold" * bool(finding.why))
            )
        )
        said = {"why": finding.why, "do": finding.remedy, "ids": _ids(finding)}
        lines += [
            Text.assemble((f"  {name:<4}", "dim"), visible(text))
            for name, text in said.items()
            if text
        ]
        if finding.repairable:
            lines.append(Text("  --repair mends it", "cyan"))
    errors, warnings = (_count(findings, each) for each in (Severity.ERROR, Severity.WARNING))
    summary = f"{plural(errors, 'error')}, {plural(warnings, 'warning')}"
    if not complete:
        summary += " so far: it was broken off"
    lines.append(Text(summary, "bold red" if errors else "bold green"))
    return Group(*lines)


def _ids(finding: Finding) -> str:
    more = finding.count - len(finding.ids)
    named = ", ".join(map(visible, finding.ids))
    return f"{named}{f' and {more:,} more' if named and more > 0 else ''}"
