"""Opens every page of the built site in a real Chromium, from the disk: ``make site-check``.

A page fails where something is wider than it or cut off in it, at the width of a telephone, a
tablet and a desk; where it asks a network for anything; and where axe-core finds a fault of
accessibility (headings, alternative texts, contrast, names) in the light or the dark colours. The
search has to find something. ``--screenshots DIR`` keeps a picture of each page that was opened.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Error, Page, Request, sync_playwright

SITE = Path(__file__).parents[1] / "target" / "site"
WIDTHS = {"telephone": 400, "tablet": 800, "desk": 1400}
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SCRIPT = Path(__file__).with_suffix(".js")


def browser_path() -> str:
    """The browser of the system.

    Raises:
        SystemExit: There is none.
    """
    named = os.environ.get("CHROMIUM")
    for name in (named,) if named else ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise SystemExit(
        "site-check needs Chromium and found none: apt-get install chromium (Debian), "
        "apt-get install chromium-browser (Ubuntu), or CHROMIUM=/path/to/chrome"
    )


def check_page(path: Path, open_page: Callable[[str], Page], pictures: Path | None) -> list[str]:
    """What is wrong with the page."""
    axe = files("axe_playwright_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    ours = SCRIPT.read_text(encoding="utf-8")
    found: list[str] = []

    def on_request(request: Request) -> None:
        if request.url.startswith("http"):
            found.append(f"asks a network for {request.url}")

    def on_error(error: Error) -> None:
        found.append(f"a script fails: {error}")

    for scheme in ("light", "dark"):
        page = open_page(scheme)
        page.on("request", on_request)
        page.on("pageerror", on_error)
        page.goto(path.as_uri())
        for script in (axe, ours):
            page.add_script_tag(content=script)
        for device, width in WIDTHS.items():
            page.set_viewport_size({"width": width, "height": 900})
            if scheme == "light":
                found += [f"{width} pixels: {fault}" for fault in page.evaluate("tooWide()")]
            if pictures is not None:
                name = "-".join((*path.relative_to(SITE).with_suffix("").parts, scheme, device))
                page.screenshot(path=pictures / f"{name}.png")
            faults = page.evaluate("inaccessible", [scheme, path == SITE / "index.html"])
            found += [f"{width} pixels, {scheme}: {fault}" for fault in faults]
        page.close()
    return found


def check_search(page: Page) -> list[str]:
    """What is wrong with the search, from the disk."""
    page.goto((SITE / "index.html").as_uri())
    page.set_viewport_size({"width": WIDTHS["desk"], "height": 900})
    try:
        # What is typed before the index is there, which entering the field loads, finds nothing.
        page.focus("input.md-search__input")
        page.wait_for_selector(".md-search-result__meta >> text=Type to start")
        page.keyboard.type("redis_outage_policy")
        page.wait_for_selector(".md-search-result__link[href*='configuration.html']")
    except Error as missing:
        return [f"the search does not find a setting: {missing}"]
    return []


def opener(browser: Browser) -> Callable[[str], Page]:
    """Opens an empty page in a scheme of colours."""
    contexts: dict[str, Any] = {
        scheme: browser.new_context(color_scheme=scheme, reduced_motion="reduce", offline=True)
        for scheme in ("light", "dark")
    }
    return lambda scheme: contexts[scheme].new_page()


def chosen(pages: list[str]) -> Iterator[Path]:
    """The pages to open: those named, or all."""
    if pages:
        yield from (SITE / page for page in pages)
    else:
        # The page of a web server for what is not there: its links are absolute.
        yield from sorted(path for path in SITE.rglob("*.html") if path.name != "404.html")


def main() -> None:
    """Checks the site; exits with 1 where something is wrong."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--pages", nargs="+", default=[], help="below target/site; all if none")
    options.add_argument("--screenshots", type=Path, help="a directory for pictures of the pages")
    given = options.parse_args()
    program = browser_path()
    if given.screenshots is not None:
        given.screenshots.mkdir(parents=True, exist_ok=True)
    wrong = opened = 0
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=list(FLAGS))
        open_page = opener(browser)
        for path in chosen(given.pages):
            faults = list(dict.fromkeys(check_page(path, open_page, given.screenshots)))
            opened += 1
            wrong += bool(faults)
            for fault in faults:
                print(f"{path.relative_to(SITE)}: {fault}", flush=True)
        for fault in check_search(open_page("light")):
            wrong += 1
            print(fault)
        browser.close()
    print(f"{opened} pages at {', '.join(map(str, WIDTHS.values()))} pixels, light and dark")
    if wrong:
        sys.exit(f"{wrong} of them are wrong")


if __name__ == "__main__":
    main()
