"""The pictures of the command are what it shows, figures aside, and say nothing of a machine."""

from __future__ import annotations

import html
import importlib.util
import re
import socket
from pathlib import Path
from types import ModuleType

import pytest

from support.host import ROOT
from support.pages import read


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("screens", ROOT / "tools/screens.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def words(svg: str) -> str:
    """Its text, from the top, without what differs between runs: figures, and where lines end."""
    lines: dict[float, str] = {}
    for place, text in re.findall(r'<text [^>]*?\by="([\d.]+)"[^>]*>([^<]*)</text>', svg):
        lines[float(place)] = lines.get(float(place), "") + html.unescape(text)
    told = re.sub(r"\s+", " ", " ".join(lines[place] for place in sorted(lines)))
    return re.sub(r"0 (?:bytes|[kMG]?B)\b", "0 B", re.sub(r"[\d,.]*\d", "0", told))


def test_the_pictures_show_what_the_command_shows(tool: ModuleType) -> None:
    fresh = tool.screens()
    assert fresh.keys() == tool.COMMANDS.keys() == {path.stem for path in tool.SCREENS.iterdir()}
    for name, text in fresh.items():
        kept = words((tool.SCREENS / f"{name}.svg").read_text(encoding="utf-8"))
        assert kept == words(tool.picture(name, text)), "make screens"


def test_the_pictures_name_no_machine_and_fetch_nothing(tool: ModuleType) -> None:
    for path in tool.SCREENS.iterdir():
        svg = path.read_text(encoding="utf-8")
        assert not re.search(r"/(?:tmp|home|root|Users)\b|127\.0\.0\.1", svg)
        assert socket.gethostname() not in svg
        assert re.findall(r"https?://[^\"<\s]+", svg) == ["http://www.w3.org/2000/svg"]


def test_the_page_of_the_command_describes_each_picture(tool: ModuleType) -> None:
    told = dict(re.findall(r"!\[([^\]]+)\]\(images/screens/(\w+)\.svg\)", read("docs/command.md")))
    assert sorted(told.values()) == sorted(tool.COMMANDS)
    assert all(Path(name).stem in text for text, name in told.items())
