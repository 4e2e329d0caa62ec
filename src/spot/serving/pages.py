"""Serve the page of a library beside the API: the frame, its own files, and its data as JSON."""

import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spot.library.library import Library
from spot.page.page import ASSETS, LIVE_POLICY, Sources, asset, page_value, progress_value, render_page

if TYPE_CHECKING:
    from fastapi import FastAPI

# They hold nothing of the library, so that a browser loads them without a token; the page then asks for it.
OPEN_PAGES = frozenset({"/", *(f"/page/{name}" for name in ASSETS)})
FRESH = 2.0  # seconds for which all who look share one look at studies and transfers
KINDS = {"css": "text/css", "js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": LIVE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add_pages(app: "FastAPI", library: Library, sources: Sources | None = None) -> None:
    """Serve the page at `/`, its files below `/page/`, and its data at `/page/data.json` and `/page/progress.json`.

    All but `OPEN_PAGES` is for who bears the token, where there is one. The work is done in threads, beside the event
    loop.

    Args:
        app: to add the routes to.
        library: to show.
        sources: studies and transfers.

    Raises:
        MissingExtra: plotly is not installed.
        SpotError: a study or a transfer that was named cannot be read.
    """
    from starlette.responses import Response

    frame = render_page(None, live=True, name="")
    progress_value(library, sources)  # a mistake is refused now, not when somebody looks
    lock = threading.Lock()  # one look at the library's folder at a time

    def fixed(content: str, kind: str) -> Callable[[], Response]:
        return lambda: Response(content, media_type=kind, headers={**HEADERS, "Cache-Control": "no-cache"})

    def data() -> dict[str, Any]:
        with lock:
            return page_value(library, sources, patient=True)

    last: dict[str, Any] = {}
    read_at = -math.inf

    def progress() -> dict[str, Any]:
        nonlocal last, read_at
        with lock:
            if time.monotonic() - read_at > FRESH:
                last, read_at = progress_value(library, sources, patient=True), time.monotonic()
            return last

    app.add_api_route("/", fixed(frame, "text/html"), include_in_schema=False)
    for name in ASSETS:
        kind = KINDS[name.rpartition(".")[2]]
        app.add_api_route(f"/page/{name}", fixed(asset(name), kind), include_in_schema=False)
    app.add_api_route("/page/data.json", data, include_in_schema=False)
    app.add_api_route("/page/progress.json", progress, include_in_schema=False)
