"""Serve the page of a library beside the API: the frame, its own files, and its data as JSON."""

import threading
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from spot.library.library import Library
from spot.page.page import ASSETS, LIVE_POLICY, Sources, asset, page_value, progress_value, render_page

if TYPE_CHECKING:
    from fastapi import FastAPI

KINDS = {".css": "text/css", ".js": "text/javascript"}
HEADERS = {
    "Content-Security-Policy": LIVE_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def add_pages(
    app: "FastAPI", library: Library, sources: Sources | None = None, *, guards: Sequence[Any] = ()
) -> None:
    """Serve the page at `/`, its files below `/page/`, and its data at `/page/data.json` and `/page/progress.json`.

    The frame and its files hold nothing of the library, so that a browser loads them without a token; the data are
    behind `guards`. The work is done in threads, beside the event loop.

    Args:
        app: to add the routes to.
        library: to show.
        sources: studies and transfers.
        guards: dependencies of FastAPI that refuse who may not read.

    Raises:
        MissingExtra: plotly or fastapi is not installed.
    """
    from fastapi import Response

    frame = render_page(None, live=True, name=library.path.name)
    files = {name: asset(name) for name in ASSETS}
    lock = threading.Lock()  # one look at the library's folder at a time

    def answer(content: str, kind: str, cache: str) -> Response:
        return Response(content, media_type=kind, headers={**HEADERS, "Cache-Control": cache})

    def index() -> Response:
        return answer(frame, "text/html", "no-cache")

    def file(content: str, kind: str) -> Callable[[], Response]:
        return lambda: answer(content, kind, "max-age=3600")

    def data() -> dict[str, Any]:
        with lock:
            return page_value(library, sources)

    def progress() -> dict[str, Any]:
        with lock:
            return progress_value(library, sources)

    app.add_api_route("/", index, include_in_schema=False)
    for name, content in files.items():
        kind = KINDS[name[name.rindex(".") :]]
        app.add_api_route(f"/page/{name}", file(content, kind), include_in_schema=False)
    app.add_api_route("/page/data.json", data, include_in_schema=False, dependencies=list(guards))
    app.add_api_route("/page/progress.json", progress, include_in_schema=False, dependencies=list(guards))
