"""Imports point down: no file names a layer above its own, and no two files need each other."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "nano_graphrag_redis"

CORE = (
    *("python", "migration", "store"),
    *("client.connections_per_process", "client.metrics_samples"),
    *(
        "client.durability",
        "client.tracking_connection",
        "client.breaker_and_idle_probes",
        "client.transaction",
        "client.retry_loop",
        "client.topology",
    ),
    *(
        "client.node",
        "client.direct_connections",
        "client.pool",
        "client.connection",
    ),
    *("client.connection_permits", "client.circuit_breaker", "client.transport", "client.protocol"),
    *(
        "client.deadline",
        "client.exit_backlog",
        "client.backoff",
        "near_cache",
        "local_single_flight",
        "log_events",
        "metrics",
        "config",
    ),
    *(
        "value",
        "key_layout",
        "files",
        "json",
        "panics",
        "memory",
        "stack",
        "error",
        "enumeration",
        "mutex",
        "printable",
    ),
)
"""The core, from the top down. What is not named has the place of the folder that it lies in."""

SHIM = (
    *("__main__", "cli", "doctor", "hosts", "integrations", "migration", "metrics"),
    *("llm", "storage", "host_redis_client", "sync", "host_base", "optional_imports"),
    *("storage_lifetime", "deferred_drop_context"),
    *("tracing", "embedded", "workers", "acl", "config"),
    "process_exit",
    *(
        "_core",
        "useless_cached_answers",
        "threads",
        "typed_dicts",
        "exceptions",
        "humanize",
        "printable",
    ),
)
"""The package, from the top down."""

Imports = Mapping[str, set[str]]


@cache
def rust_imports() -> Imports:
    """What each module of the core names of others: by `use`, and where they are called."""
    files = {_rust_module(path): path for path in (ROOT / "src").rglob("*.rs")}
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        code = re.sub(r"//[^\n]*", "", path.read_text(encoding="utf-8"))
        code = code.split("#[cfg(test)]\nmod tests", 1)[0]
        targets = {_longest(name, files) for name in _paths(code, module)}
        found[module] = {target for target in targets if target is not None} - {module}
    return found


def _rust_module(path: Path) -> str:
    parts = list(path.relative_to(ROOT / "src").with_suffix("").parts)
    if parts[-1] in {"mod", "lib"}:
        parts.pop()
    return ".".join(parts)


def _paths(code: str, module: str) -> Iterator[str]:
    """Paths from the root of the crate, their parts joined by full stops."""
    here = module.split(".") if module else []
    for match in re.finditer(r"\b(crate|super)((?:::\w+)*)(?:::\{([^;]*?)\};)?", code):
        start, rest, group = match.groups()
        base = [] if start == "crate" else here[:-1]
        parts = [part for part in rest.split("::") if part]
        while start == "super" and parts and parts[0] == "super":
            base, parts = base[:-1], parts[1:]
        for leaf in re.findall(r"[\w:]+", group) if group else [""]:
            yield ".".join([*base, *parts, *[part for part in leaf.split("::") if part]])


def _longest(name: str, known: Mapping[str, object]) -> str | None:
    """The module that a path leads into."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        if ".".join(parts[:length]) in known:
            return ".".join(parts[:length])
    return None


@cache
def python_imports() -> Imports:
    """What each module of the package imports of others, wherever the import stands."""
    base = ROOT / "python" / PACKAGE
    files = {_python_module(path, base): path for path in base.rglob("*.py")}
    files["_core"] = base / "_core.pyi"
    found: dict[str, set[str]] = {}
    for module, path in files.items():
        package = module if path.name == "__init__.py" else module.rpartition(".")[0]
        targets: set[str] = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                source = node.module or ""
                if node.level:
                    source = ".".join(part for part in (PACKAGE, package, source) if part)
                names = [f"{source}.{alias.name}" for alias in node.names]
            else:
                continue
            ours = (name.removeprefix(f"{PACKAGE}.") for name in names if name.startswith(PACKAGE))
            targets.update(target for name in ours if (target := _longest(name, files)) is not None)
        found[module] = targets - {module}
    return found


def _python_module(path: Path, base: Path) -> str:
    parts = list(path.relative_to(base).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def _layer(module: str, layers: Sequence[str]) -> int | None:
    """The place of a module; None for one above them all, as the root is."""
    named = [layer for layer in layers if f"{module}.".startswith(f"{layer}.")]
    return layers.index(max(named, key=len)) if named else None


def _are_kin(one: str, other: str) -> bool:
    """Whether one of the two is a folder that the other lies in: these know each other."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def upward(imports: Imports, layers: Sequence[str]) -> list[str]:
    """Imports from a layer to one above it."""
    return sorted(
        f"{module} -> {target}"
        for module, targets in imports.items()
        for target in targets
        if (own := _layer(module, layers)) is not None
        and (theirs := _layer(target, layers)) is not None
        and theirs < own
    )


def circles(imports: Imports) -> list[list[str]]:
    """Files that need each other, over however many others."""
    reached: dict[str, set[str]] = {}
    for module in imports:
        seen: set[str] = set()
        ahead = [module]
        while ahead:
            at = ahead.pop()
            for target in imports.get(at, set()):
                if target not in seen and not _are_kin(at, target):
                    seen.add(target)
                    ahead.append(target)
        reached[module] = seen
    found = {
        tuple(sorted(other for other in others if module in reached.get(other, set())))
        for module, others in reached.items()
        if module in others
    }
    return [list(circle) for circle in sorted(found)]


def test_the_core_imports_only_from_layers_below() -> None:
    assert upward(rust_imports(), CORE) == []


def test_the_maps_of_the_core_name_every_module_in_that_order() -> None:
    for path, folder in (("lib.rs", ""), ("client/mod.rs", "client.")):
        text = (ROOT / "src" / path).read_text(encoding="utf-8")
        named = re.findall(r"^//! - \[?`(\w+)`", text, re.MULTILINE)
        there = re.findall(r"^(?:pub(?:\(\w+\))? )?mod (\w+);", text, re.MULTILINE)
        assert sorted(named) == sorted(there)
        places = [_layer(f"{folder}{name}", CORE) for name in named]
        known = [place for place in places if place is not None]
        assert known == sorted(known), path


def test_the_package_imports_only_from_layers_below() -> None:
    assert upward(python_imports(), SHIM) == []


def test_no_files_of_the_core_need_each_other() -> None:
    assert circles(rust_imports()) == []


def test_no_files_of_the_package_need_each_other() -> None:
    assert circles(python_imports()) == []


def test_every_file_has_a_layer() -> None:
    roots = {"", "client", "fuzz"}
    assert [
        name for name in rust_imports() if _layer(name, CORE) is None and name not in roots
    ] == []
    assert [name for name in python_imports() if _layer(name, SHIM) is None and name] == []


def test_every_layer_that_is_named_is_there() -> None:
    assert [layer for layer in CORE if layer not in rust_imports()] == []
    assert [layer for layer in SHIM if layer not in python_imports()] == []
