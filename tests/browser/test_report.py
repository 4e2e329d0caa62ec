"""The report of a transfer as people read it: by eye, by keyboard, on a phone, in the dark, on paper."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.support.made_up_reports import made_up_report

pytestmark = pytest.mark.browser

SCROLLED = """[...document.querySelectorAll("main *")].filter((node) => {
    if (node.closest(".scroll, pre, .away, legend, svg, thead")) return false;
    const box = node.getBoundingClientRect();
    return box.width && (box.right > innerWidth + 1 || box.left < -1);
}).map((node) => node.outerHTML.slice(0, 80))"""
PAPER = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> str:
    """The address of a report."""
    return made_up_report().save(tmp_path_factory.mktemp("report") / "report.html").as_uri()


def violations(page: Page) -> list[tuple[str, str]]:
    """What axe has against the page, be it serious or worse."""
    response = Axe().run(page).response
    assert len(response["passes"]) > 10
    grave = [entry for entry in response["violations"] if entry["impact"] in ("serious", "critical")]
    return [(entry["id"], entry["nodes"][0]["html"][:200]) for entry in grave]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 360])
def test_the_report_is_for_everybody(opened, shown, width, scheme):
    page = opened(shown, width, scheme)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(SCROLLED) == []


def test_the_table_of_arms_fits_a_desktop(opened, shown):
    page = opened(shown)
    widths = page.evaluate("[...document.querySelectorAll('.scroll')].map((box) => box.scrollWidth - box.clientWidth)")
    assert widths and set(widths) == {0}


def test_rows_of_wide_tables_are_cards_on_a_phone(opened, shown):
    page = opened(shown, 360)
    table = page.get_by_role("region", name="Table: What each arm reaches")
    assert table.evaluate("(box) => box.scrollWidth - box.clientWidth") == 0
    expect(table.get_by_role("rowheader", name="SPoT from glue/task0")).to_be_visible()
    assert "score, %" in table.locator("td").nth(1).evaluate("(cell) => getComputedStyle(cell, '::before').content")


def test_light_and_dark_can_be_chosen_by_keyboard_and_go_with_the_system_else(opened, shown):
    page = opened(shown, scheme="dark")
    dark = page.evaluate(PAPER)
    page.keyboard.press("Tab")
    expect(page.get_by_role("radio", name="System")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("radio", name="Light")).to_be_checked()
    light = page.evaluate(PAPER)
    assert (light, dark) == ("rgb(255, 255, 255)", "rgb(20, 24, 29)")
    page.emulate_media(color_scheme="light")
    page.keyboard.press("ArrowRight")
    assert page.evaluate(PAPER) == dark and violations(page) == []
    page.emulate_media(media="print")
    assert page.evaluate(PAPER) == light


def test_what_scrolls_can_be_reached_by_keyboard(opened, shown):
    page = opened(shown, 360)
    boxes = page.locator(".scroll, pre, figure")
    assert all(boxes.nth(at).get_attribute("tabindex") == "0" for at in range(boxes.count())) and boxes.count() > 5
