"""Where work is cut into pieces, read from the sources: a new constant is tried without a word."""

from __future__ import annotations

import ast
import operator
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]

CUTS = re.compile(r"PIECE|PAGE|BATCH|TURN|WINDOW|CHUNK|STEP|RUN_|KEPT|SCAN|SAMPLE|LISTED|FIRST$")
"""What the name of such a constant holds."""

_RUST = re.compile(
    r"^(?:pub(?:\([a-z]+\))? )?const ([A-Z_]+): (?:usize|u64) = ([^;]+);", re.MULTILINE
)
_PYTHON = re.compile(r"^([A-Z_]+)(?:: Final)? = ([\d_ *<]+)$", re.MULTILINE)
_OPERATORS = {ast.Mult: operator.mul, ast.LShift: operator.lshift}


def limits() -> tuple[dict[str, int], dict[str, int]]:
    """What work is cut by: numbers of items, and numbers of bytes, each by the constant's name."""
    constants: dict[str, int] = {}
    of_bytes: set[str] = set()
    sources = [(path, _RUST) for path in _rust()]
    sources += [(path, _PYTHON) for path in sorted((ROOT / "python").rglob("*.py"))]
    for path, pattern in sources:
        for name, value in pattern.findall(path.read_text(encoding="utf-8")):
            if not CUTS.search(name):
                continue
            full_name = f"{path.relative_to(ROOT)}: {name}"
            constants[full_name] = _value(ast.parse(value.strip(), mode="eval").body, constants)
            if "BYTES" in name or "<<" in value or "1024" in value:
                of_bytes.add(full_name)
    window = _named("WINDOW", constants)
    for name in ("BATCH_ITEMS", "KEY_BATCH"):
        constants[f"WINDOW * {name}"] = window * _named(name, constants)
    asked = _named("EXISTS_WINDOW", constants) * _named("EXISTS_BATCH", constants)
    constants["EXISTS_WINDOW * EXISTS_BATCH"] = asked
    items = {name: value for name, value in constants.items() if name not in of_bytes}
    return items, {name: constants[name] for name in sorted(of_bytes)}


def _rust() -> list[Path]:
    # Those first that others are made of.
    paths = sorted((ROOT / "src").rglob("*.rs"))
    return sorted(paths, key=lambda path: path != ROOT / "src/store/batch_sizes.rs")


def _value(node: ast.expr, constants: dict[str, int]) -> int:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return node.value
    if isinstance(node, ast.Name):
        return _named(node.id, constants)
    assert isinstance(node, ast.BinOp), f"a constant that this cannot read: {ast.unparse(node)}"
    evaluate = _OPERATORS[type(node.op)]
    result: int = evaluate(_value(node.left, constants), _value(node.right, constants))
    return result


def _named(name: str, constants: dict[str, int]) -> int:
    return next(value for known, value in constants.items() if known.endswith(f": {name}"))
