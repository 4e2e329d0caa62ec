"""A server of a live page that answers inside the browser, so that no port is needed."""

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from spot.page.page import ASSETS, LIVE_POLICY, asset, render_page

if TYPE_CHECKING:
    from playwright.sync_api import Route

ORIGIN = "http://127.0.0.1:9"  # nothing listens there
KINDS = {"css": "text/css", "js": "text/javascript"}


class Server:
    """Answers the requests of a live page, as a server would."""

    def __init__(self, value: dict[str, Any]) -> None:
        self.value = value
        self.token = ""
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.answers: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {}

    def __call__(self, route: "Route") -> None:
        path = route.request.url.removeprefix(ORIGIN).partition("?")[0]
        if path == "/":
            html = render_page(None, live=True, name="")
            return route.fulfill(body=html, content_type="text/html", headers={"Content-Security-Policy": LIVE_POLICY})
        name = path.removeprefix("/page/")
        if name in ASSETS:
            return route.fulfill(body=asset(name), content_type=KINDS[name.rpartition(".")[2]])
        if self.token and route.request.headers.get("authorization") != f"Bearer {self.token}":
            return self.say(route, {"error": {"message": "no such token"}}, 401)
        if path == "/page/data.json":
            return self.say(route, self.value)
        if path == "/page/progress.json":
            return self.say(route, {name: self.value[name] for name in ("studies", "transfers", "problems", "stamp")})
        body = json.loads(route.request.post_data or "{}")
        self.asked.append((path, body))
        return route.fulfill(**self.answers[path](body))

    @staticmethod
    def say(route: "Route", value: dict[str, Any], status: int = 200) -> None:
        route.fulfill(body=json.dumps(value), content_type="application/json", status=status)
