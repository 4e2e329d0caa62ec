"""The page as people use it: by eye, by keyboard, by screen reader, on a phone, in the dark."""

import re
from itertools import pairwise

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from spot.library.library import open_library

pytestmark = pytest.mark.browser

PARTS = ("library", "transfers", "studies")
WIDTHS = (1280, 360)
SCHEMES = ("light", "dark")


def address(file, part: str = "") -> str:
    return f"{file.as_uri()}#{part}"


def digest_of(task: str) -> str:
    return next(entry.digest for entry in open_library("packaged").entries() if entry.task == task)


def wait_until(page: Page, expression: str) -> None:
    """Wait until JavaScript says so; the browser's own way to wait would evaluate a text, which the policy forbids."""
    for _ in range(150):
        if page.evaluate(expression):
            return
        page.wait_for_timeout(100)
    pytest.fail(f"never: {expression}")


def settled(page: Page) -> None:
    """Wait until the charts of the part that is shown are drawn."""
    wait_until(page, "[...document.querySelectorAll('.plot')].every((plot) => plot.querySelector('.main-svg'))")


def violations(page: Page) -> list[tuple[str, str, str]]:
    """What axe has against the page, be it serious or worse."""
    response = Axe().run(page).response
    assert len(response["passes"]) > 10
    return [
        (violation["id"], violation["impact"], violation["nodes"][0]["html"][:200])
        for violation in response["violations"]
        if violation["impact"] in ("serious", "critical")
    ]


def rows(page: Page) -> list[str]:
    return page.locator("#prompt-rows th").all_inner_texts()


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("part", [*PARTS, "prompt"])
def test_every_part_is_for_everybody(opened, shown, part, width, scheme):
    page = opened(address(shown, digest_of("glue/sst2") if part == "prompt" else part), width, scheme)
    settled(page)
    assert violations(page) == []
    for summary in page.locator("summary").all():
        summary.click()
    expect(page.locator("details:not(:has(:nth-child(2)))")).to_have_count(0)
    assert violations(page) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    headings = page.evaluate("[...document.querySelectorAll('h1,h2,h3,h4')].map((heading) => heading.tagName)")
    levels = [int(tag[1]) for tag in headings]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels)), levels


@pytest.mark.parametrize("part", PARTS)
def test_every_chart_has_a_table_and_a_text(opened, shown, part):
    page = opened(address(shown, part))
    settled(page)
    figures = page.locator("figure").all()
    assert figures
    for figure in figures:
        label = figure.get_by_role("img").first.get_attribute("aria-label")
        assert label is not None and len(label) > 30
        figure.locator("summary").click()
        expect(figure.locator("details table tbody tr")).not_to_have_count(0)


def test_the_filter_finds_prompts(opened, shown):
    page = opened(address(shown))
    count = len(rows(page))
    page.get_by_label(re.compile("^Filter")).fill("tweet")
    assert rows(page) == ["tweet_eval/emotion", "tweet_eval/offensive"]
    expect(page.locator("#count")).to_have_text(f"2 of {count} prompts")
    page.get_by_label(re.compile("^Filter")).fill("no such prompt")
    assert rows(page) == []
    page.get_by_label(re.compile("^Filter")).fill("")
    assert len(rows(page)) == count


def test_columns_are_sorted_both_ways(opened, shown):
    page = opened(address(shown))
    entries = open_library("packaged").entries()
    by_step = [entry.task for entry in sorted(entries, key=lambda entry: (entry.step, entry.digest))]
    head = page.get_by_role("columnheader", name="Step")
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "descending" and rows(page)[0] == by_step[-1]
    head.get_by_role("button").click()
    assert head.get_attribute("aria-sort") == "ascending" and rows(page) == by_step
    assert page.locator("th[aria-sort=ascending], th[aria-sort=descending]").count() == 1


def test_a_keyboard_reaches_everything(opened, shown):
    page = opened(address(shown))
    settled(page)
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to the content")).to_be_focused()
    page.keyboard.press("Tab")
    expect(page.get_by_role("tab", name="Library")).to_be_focused()
    page.keyboard.press("ArrowRight")
    expect(page.get_by_role("tab", name="Transfers")).to_be_focused()
    expect(page.get_by_role("tab", name="Transfers")).to_have_attribute("aria-selected", "true")
    page.keyboard.press("End")
    expect(page.get_by_role("heading", name="Study study")).to_be_visible()
    page.keyboard.press("Home")
    settled(page)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.id || document.activeElement.textContent"))
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        is_shown = page.evaluate("document.activeElement === document.body") or outline != "none"
        assert is_shown, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
    assert {"filter", "glue/sst2", "Task", "Digest"} <= reached


def test_skipping_leads_to_the_content(opened, shown):
    page = opened(address(shown))
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_be_focused()
    assert len(rows(page)) > 5
    expect(page.locator("#status")).to_be_empty()


def test_a_prompt_has_a_view_of_its_own(opened, shown):
    page = opened(address(shown))
    page.get_by_role("link", name="glue/sst2", exact=True).click()
    heading = page.get_by_role("heading", name="glue/sst2")
    expect(heading).to_be_focused()
    digest = digest_of("glue/sst2")
    assert page.url.endswith(f"#{digest}")
    expect(page.get_by_text(f"spot predict packaged:{digest} --input new.csv")).to_be_visible()
    expect(page.get_by_text("It ranks 2 labels: negative, positive.")).to_be_visible()
    expect(page.locator("svg.lineage")).to_be_visible()
    page.get_by_role("link", name="yelp_polarity").first.click()
    expect(page.get_by_role("heading", name="yelp_polarity")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="glue/sst2")).to_be_visible()
    page.get_by_role("link", name="All prompts").click()
    expect(page.get_by_role("heading", name="Library", exact=True)).to_be_visible()


def test_a_point_of_the_map_leads_to_its_prompt(opened, shown):
    page = opened(address(shown))
    settled(page)
    point = page.locator(".plot").first.locator("path.point").first
    point.scroll_into_view_if_needed()
    box = point.bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    expect(page.locator(".hovertext").first).to_be_visible()
    page.mouse.down()
    page.mouse.up()
    expect(page.locator("#prompt-title")).to_be_visible()


def test_a_name_of_the_legend_hides_its_line(opened, shown):
    page = opened(address(shown, "transfers"))
    settled(page)
    figure = page.locator("figure").last
    assert figure.locator(".trace.scatter").count() == 2
    button = figure.get_by_role("button", name="candidate 0")
    button.press("Enter")
    expect(button).to_have_attribute("aria-pressed", "false")
    expect(figure.locator(".trace.scatter")).to_have_count(1)
    button.press("Enter")
    expect(figure.locator(".trace.scatter")).to_have_count(2)


def test_learning_curves_of_another_target(opened, shown):
    page = opened(address(shown, "studies"))
    settled(page)
    page.get_by_label("Learning curves of the target").select_option("target/02")
    expect(page.get_by_role("heading", name="Learning curves: target/02")).to_be_visible()
    settled(page)


def test_colours_follow_the_system(opened, shown):
    page = opened(address(shown))
    settled(page)
    ink = "getComputedStyle(document.querySelector('.plot text')).fill"
    light = page.evaluate(ink)
    page.emulate_media(color_scheme="dark")
    wait_until(page, f"({ink}) !== {light!r}")


def test_a_window_that_grows_draws_its_charts_anew(opened, shown):
    page = opened(address(shown), width=360)
    settled(page)
    page.set_viewport_size({"width": 1280, "height": 900})
    wait_until(page, "document.querySelector('.plot .main-svg').clientWidth > 450")


def test_an_address_that_is_none_shows_the_library(opened, shown):
    page = opened(address(shown, "%E0%A4%A"))
    assert len(rows(page)) > 5
    expect(page.locator("#status")).to_contain_text("nothing at this address")


@pytest.mark.parametrize("width", WIDTHS)
def test_names_of_a_stranger_run_nothing_and_break_nothing(opened, hostile, width):
    page = opened(address(hostile), width)
    settled(page)
    assert violations(page) == []
    links = page.locator("#prompt-rows a")
    assert links.count() == 4
    for number in range(4):
        links.nth(number).click()
        expect(page.locator("#prompt-title")).to_be_visible()
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        page.go_back()
        expect(page.locator("#prompt-rows")).to_be_visible()
    page.goto(address(hostile, "transfers"))
    settled(page)
    assert page.title() == "spot: library"
    assert page.locator("img, iframe, script[src]").count() == 0
    assert page.locator(".plot a").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
