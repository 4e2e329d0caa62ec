"""The report: self-contained, escaped, complete."""

import pytest
from jinja2 import UndefinedError

from spot.rendering.drawings import bars, learning_curves
from spot.rendering.html import render
from tests.support.html_outline import Outline, stands_alone

HOSTILE = "<script>alert(1)</script><img src=https://example.org/x onerror='a'>\"'&{{ 7 * 7 }}"
SVG = '<svg role="img" aria-labelledby="a b"><title id="a">A</title><desc id="b">B</desc></svg>'
TABLE = {"columns": ["arm", "score (%)", "steps"], "rows": [["plain", 86.66, 36], ["frozen", None, 0]]}


def page(**changes) -> dict:
    sections = [
        {"heading": "Results", "text": "One.\n\nTwo.", "table": TABLE},
        {"heading": "Curves", "chart": learning_curves({"plain": [[(0, 50.0), (6, 70.0)]]})},
        {"heading": "Sources", "svg": SVG},
    ]
    whole = {"title": "A report", "verdict": "It helped.", "facts": [("model", "tiny"), ("seeds", 3)]}
    return {**whole, "sections": sections, "command": "spot demo --seeds 3", **changes}


def test_the_page_needs_nothing_else():
    stands_alone(render(page()))


def test_what_was_given_is_there_in_order():
    outline = Outline(render(page()))
    assert outline.text["h1"] == ["A report"]
    assert outline.text["title"][0] == "A report"
    assert outline.text["p"][:3] == ["It helped.", "One.", "Two."]
    assert outline.text["dt"] == ["model", "seeds"] and outline.text["dd"] == ["tiny", "3"]
    assert outline.text["h2"] == ["Results", "Curves", "Sources", "Make this report again"]
    assert outline.text["th"] == ["arm", "score (%)", "steps", "plain", "frozen"]
    assert outline.text["td"] == ["86.7", "36", "-", "0"]
    assert outline.text["code"] == ["spot demo --seeds 3"]
    assert outline.names().count("svg") == 3  # the picture, the chart and the line in its legend


def test_numbers_stand_on_the_right():
    columns = [attributes for tag, attributes in Outline(render(page())).tags if tag == "th"][:3]
    assert [attributes.get("class") for attributes in columns] == [None, "number", "number"]


def test_tables_scroll_and_can_be_reached_by_keyboard():
    regions = [attributes for _, attributes in Outline(render(page())).tags if attributes.get("role") == "region"]
    labels = [("0", "Table: Results"), ("0", "Picture: Sources")]
    assert [(region["tabindex"], region["aria-label"]) for region in regions] == labels


def test_hostile_text_is_text():
    table = {"columns": [HOSTILE], "rows": [[HOSTILE]]}
    chart = bars([(HOSTILE, 0.5, HOSTILE)], subject=HOSTILE)
    code = [(HOSTILE, HOSTILE)]
    section = {"heading": HOSTILE, "text": HOSTILE, "table": table, "chart": chart, "code": code, "has_cards": True}
    page = {"title": HOSTILE, "verdict": HOSTILE, "text": HOSTILE, "facts": code, "sections": [section]}
    html = render({**page, "command": HOSTILE})
    outline = Outline(html)
    assert not {"script", "img"} & set(outline.names())
    for tag in ("h1", "p", "dt", "dd", "h2", "th", "code", "span"):
        assert HOSTILE in outline.text[tag], tag
    assert not any(name.startswith("on") for _, attributes in outline.tags for name in attributes)


@pytest.mark.parametrize("text", ["half \ud800", "bell \x07", "\x00", "\x9b2J"])
def test_text_that_no_page_can_hold_is_escaped(text: str):
    section = {"heading": text, "text": text, "table": {"columns": [text], "rows": [[text]]}}
    html = render({"title": text, "verdict": text, "facts": [(text, text)], "sections": [section], "command": text})
    assert html.encode() and not set("\ud800\x07\x00\x9b") & set(html)
    assert text.encode("unicode_escape").decode() in html


def test_arabic_keeps_its_marks():
    assert "\u200f" in render({"title": "\u200fتقرير", "verdict": ""})


def test_ids_are_unique_and_labels_point_at_them():
    tags = Outline(render(page())).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    labels = [attributes["aria-labelledby"] for _, attributes in tags if "aria-labelledby" in attributes]
    assert len(labels) == 1 and {name for label in labels for name in label.split()} <= set(ids)


def test_light_dark_phone_and_paper():
    html = render(page())
    assert "prefers-color-scheme: dark" in html and "@media print" in html
    assert 'content="width=device-width, initial-scale=1"' in html
    assert 'content="light dark"' in html
    choices = [attributes["id"] for tag, attributes in Outline(html).tags if attributes.get("type") == "radio"]
    assert choices == ["system", "light", "dark"] and ":has(#dark:checked)" in html


def test_a_cell_is_filled_by_its_share_and_a_row_can_be_a_card():
    section = {"heading": "Matrix", "table": TABLE, "shades": [[0.5, 0.25], [0.0, 1.0]], "has_cards": True}
    cells = [attributes for tag, attributes in Outline(render(page(sections=[section]))).tags if tag == "td"]
    assert [cell["style"] for cell in cells] == [f"--shade-of:{share}%" for share in (50, 25, 0, 100)]
    assert [cell["data-column"] for cell in cells] == ["score (%)", "steps"] * 2
    assert '<table role="table" class="cards">' in render(page(sections=[section]))


def test_what_can_be_run_stands_as_it_is():
    outline = Outline(render(page(sections=[{"heading": "Next", "code": [("Do this:", "spot\n  demo")]}])))
    assert outline.text["code"] == ["spot\n  demo", "spot demo --seeds 3"] and "Do this:" in outline.text["p"]


def test_only_title_and_verdict_are_needed():
    outline = Outline(render({"title": "A", "verdict": "B"}))
    assert not {"dl", "section", "table", "pre"} & set(outline.names())
    with pytest.raises(UndefinedError, match="verdict"):
        render({"title": "A"})


def test_equal_pages_give_equal_text():
    assert render(page()) == render(page())
