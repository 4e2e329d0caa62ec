"""Take the pictures of docs/page.md in Debian's Chromium: `python docs/make_page.py` (extra `dev`, apt's chromium)."""

import io
import json
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import Browser, Route, sync_playwright

import spot
from spot.page.page import ASSETS, LIVE_POLICY, Sources, asset, page_value, render_page

OUT = Path(__file__).with_name("page")
STUDY = Path(__file__).parents[1] / "studies" / "smollm2.toml"
ORIGIN = "http://127.0.0.1:8000"  # as the page shows it; every request is answered here
SST2, EMOTION = "c50132546eead3de", "3c18e82a93522007"
TEXT = "The plot is thin, but the cast is so warm that I smiled all the way home."
KINDS = {"css": "text/css", "js": "text/javascript"}
WIDE, PHONE = (1280, 900), (360, 780)


def main() -> None:
    """Write every picture."""
    library = spot.open_library("packaged")
    value = json.loads(json.dumps(page_value(library, Sources(studies=(STUDY,), transfers=()))))
    backbone = spot.Backbone.load("embedded")

    def serve(route: Route) -> None:
        """Answer as `spot serve` does."""
        path = route.request.url.removeprefix(ORIGIN)
        name = path.removeprefix("/page/")
        if path == "/":
            page = render_page(None, live=True, name="")
            route.fulfill(body=page, content_type="text/html", headers={"Content-Security-Policy": LIVE_POLICY})
        elif name in ASSETS:
            route.fulfill(body=asset(name), content_type=KINDS[name.rpartition(".")[2]])
        elif path == "/v1/classify":
            asked = json.loads(route.request.post_data or "")
            [answer] = spot.predict(library.get(asked["model"]), backbone, [asked["input"]])
            told = {"label": answer.text, "probabilities": answer.probabilities}
            route.fulfill(body=json.dumps({"data": [told]}), content_type="application/json")
        else:
            route.fulfill(body=json.dumps(value), content_type="application/json")

    OUT.mkdir(exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        take(browser, serve, "library", "library", WIDE, "light")
        take(browser, serve, "prompt", SST2, WIDE, "dark")
        take(browser, serve, "try", f"try/{SST2}", WIDE, "light")
        take(browser, serve, "study", "studies", WIDE, "light")
        take(browser, serve, "phone", "library", PHONE, "dark")
        browser.close()


def take(browser: Browser, serve: Any, name: str, part: str, size: tuple[int, int], scheme: Any) -> None:
    """Take one picture of a part of the page."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.route("**/*", serve)
    page.goto(f"{ORIGIN}/#{part}")
    page.wait_for_selector("#panel h2")
    if name == "try":
        page.get_by_label("Ask two side by side").check()
        page.get_by_label("Second prompt").select_option(EMOTION)
        page.get_by_label("Text", exact=True).fill(TEXT)
        page.get_by_role("button", name="Ask").click()
        page.wait_for_selector("#answer-right table")
    page.wait_for_timeout(1000)
    picture = Image.open(io.BytesIO(page.screenshot(full_page=size is WIDE)))
    picture.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE).save(OUT / f"{name}.png", optimize=True)
    context.close()


if __name__ == "__main__":
    main()
