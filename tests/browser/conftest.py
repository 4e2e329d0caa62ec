"""Debian's Chromium, and pages of libraries that it opens."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from spot.library.library import open_library
from spot.page.page import Sources, page_html, page_value
from spot.reading import Reading
from tests.support.live_pages import ORIGIN, Server
from tests.support.missing import missing
from tests.support.pages import HOSTILE, filled, prompts, write_run, write_study

CHROMIUM = Path("/usr/bin/chromium")
PATIENCE = 20_000  # milliseconds: other work may run beside the tests
expect.set_options(timeout=PATIENCE)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The browser, without a window."""
    if not CHROMIUM.exists() or shutil.which("chromium") is None:
        missing(f"needs Debian's browser at {CHROMIUM}: apt-get install chromium")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.fixture
def opened(browser) -> Iterator[Callable[..., Page]]:
    """A function from an address to a page, which must load nothing from elsewhere and log no error."""
    contexts, faults = [], []

    def open_page(address: str, width: int = 1280, scheme: str = "light", routes: Any = None) -> Page:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, reduced_motion="reduce"
        )
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.on("pageerror", lambda error: faults.append(str(error)))
        page.on("console", lambda message: faults.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: faults.append(request.url) if _is_foreign(request.url) else None)
        if routes is not None:
            page.route("**/*", routes)
        page.goto(address)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults, faults


def _is_foreign(address: str) -> bool:
    """Whether a request leaves the page's own file or server."""
    return not address.startswith(("file:", "data:", "blob:", ORIGIN))


@pytest.fixture(scope="session")
def shown(tmp_path_factory) -> Path:
    """The page of the library that ships here, with a study and a transfer."""
    folder = tmp_path_factory.mktemp("page")
    run = write_run(folder / "transfer" / "plain-vocabulary", [[(0, 40.0), (2, 60.0)], [(0, 50.0), (2, 55.0)]])
    write_run(folder / "transfer" / "spot-0-abcdef01", [[(0, 70.0), (2, 80.0)]])
    sources = Sources((write_study(folder / "study"),), (run.parent,))
    return written(folder / "page.html", page_html(open_library("packaged"), sources=sources))


@pytest.fixture(scope="session")
def hostile(tmp_path_factory) -> Path:
    """The page of a library whose names are a stranger's, with a study and a transfer of his."""
    folder = tmp_path_factory.mktemp("hostile")
    run = write_run(folder / "transfer" / "plain-vocabulary", [[(0, 40.0), (2, 60.0)]], task=HOSTILE)
    library = filled(folder / "library", prompts(HOSTILE, f"{HOSTILE} 2", "a" * 400, "plain"))
    return written(folder / "page.html", page_html(library, sources=Sources(transfers=(run.parent,))))


def written(path: Path, html: str) -> Path:
    path.write_text(html, encoding="utf-8")
    return path


@pytest.fixture
def server(tmp_path) -> Server:
    """A server with prompts that rank labels of one text, of two fields, and that write text."""
    pair = Reading(template="{premise} / {claim}", labels=(("0", "no"), ("1", "yes")))
    ranks, reads_pairs, writes = prompts("reviews", "pairs", "summaries")
    library = filled(
        tmp_path / "library",
        [ranks, replace(reads_pairs, reading=pair), replace(writes, reading=Reading(template="{text}"))],
    )
    return Server(json.loads(json.dumps(page_value(library, Sources(transfers=())))))
