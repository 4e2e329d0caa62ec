"""Charts: what they show and where, that they are the same each time, and that they can be read."""

import re

import pytest

from spot.rendering.drawings import COLOURS, Measured, bars, interval_plot, learning_curves, reliability_diagram
from tests.support.html_outline import Outline, stands_alone

CURVES = {
    "plain": [[(0, 50.0), (10, 70.0), (20, 80.0)], [(0, 54.0), (10, 74.0), (20, 84.0)]],
    "spot": [[(0, 80.0), (10, 90.0), (20, 92.0)], [(0, 80.0), (10, 90.0), (20, 92.0)]],
}
HOSTILE = "</text><script>alert('$x^2$')</script>"


def luminance(colour: str) -> float:
    """Relative luminance of sRGB as the accessibility guidelines define it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted([luminance(first), luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


def lines(chart: str) -> list[list[tuple[float, float]]]:
    """The corners of the lines of a chart, in percent of the box, y downwards."""
    box = chart[chart.index("preserveAspectRatio") :]
    drawn = re.findall(r'<polyline stroke="[^"]*"[^>]* points="([^"]*)"', box)
    return [[tuple(map(float, point.split(","))) for point in line.split()] for line in drawn]


def told(chart: str) -> str:
    [label] = [attributes["aria-label"] for _, attributes in Outline(chart).tags if attributes.get("role") == "img"]
    return label


def texts(chart: str) -> list[str]:
    return [text for parts in Outline(chart).text.values() for text in parts]


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_stand_out_on_light_and_dark_pages(colour: str):
    assert contrast(colour, "#ffffff") >= 3
    assert contrast(colour, "#14181d") >= 3


def test_lines_are_the_means_over_seeds_on_an_axis_from_zero_to_a_hundred():
    plain, spot = lines(learning_curves(CURVES))
    assert plain == [(0, 48), (50, 28), (100, 18)]  # 52, 72 and 82 of 100
    assert spot == [(0, 20), (50, 10), (100, 8)]
    assert "The axis goes from 0 to 100." in learning_curves(CURVES)


def test_scores_far_below_a_hundred_have_an_axis_that_shows_them():
    chart = learning_curves({"open": [[(0, 2.0), (8, 17.0)]]})
    assert "The axis goes from 0 to 20." in chart and lines(chart) == [[(0, 90), (100, 15)]]
    assert "The axis goes from -25 to 100." in learning_curves({"r": [[(0, -12.0), (8, 90.0)]]})


def test_a_band_only_where_seeds_differ():
    assert learning_curves(CURVES).count('class="band"') == 1


def test_one_point_no_point_and_seeds_of_different_length():
    arms = {"frozen": [[(0, 55.0)]], "failed": [], "plain": [[(0, 50.0), (5, 60.0)], [(0, 52.0)]]}
    chart = learning_curves(arms)
    assert "frozen" in chart and "failed" not in chart
    assert "plain 60.0 at step 5" in told(chart)
    assert texts(learning_curves({}))


def test_intervals_stand_where_they_are_and_say_their_numbers():
    chart = interval_plot(
        [
            Measured(name="one", value=90.0, low=80.0, high=100.0, is_marked=True),
            Measured(name="two", value=60.0, low=60, high=60),
        ]
    )
    assert re.findall(r'<i style="left:(\S+)%;width:(\S+)%">', chart) == [("50", "50"), ("0", "0")]
    assert re.findall(r'<b style="left:(\S+)%">', chart) == ["75", "0"]
    assert "one 90.0 (80.0 to 100.0)" in told(chart) and "The axis goes from 60 to 100." in chart
    assert chart.count("line marked") == 1 and "60.0 to 60.0</small>" not in chart


def test_bars_are_sorted_by_what_they_draw_and_begin_at_zero():
    chart = bars([("a", 1.0, "+1.0"), ("b", 4.0, "+4.0"), ("c", -1.0, "-1.0")], subject="Gain, points")
    assert [text for text in Outline(chart).text["span"] if text in "abc"] == ["b", "a", "c"]
    assert re.findall(r"left:(\S+)%;width:(\S+)%", chart) == [("20", "80"), ("20", "20"), ("0", "20")]
    assert "Gain, points: b +4.0, a +1.0, c -1.0" in told(chart)
    assert bars([], subject="nothing") and bars([("a", 0.0, "0")], subject="zero")


def test_bins_of_answers_are_as_high_as_they_are_right():
    chart = reliability_diagram([(0, 50, 0.0, 0), (50, 100, 75.0, 8)])
    assert re.findall(r'<rect x="(\S+)" y="(\S+)" width="(\S+)" height="(\S+)"', chart) == [
        ("50.6", "25", "48.8", "75")
    ]
    assert "50 to 100 percent probable: 75 percent right, 8 rows" in told(chart)


CHARTS = {
    "curves": lambda name: learning_curves({name: [[(0, 1.0)]]}),
    "intervals": lambda name: interval_plot([Measured(name=name, value=1.0, low=0.0, high=2.0)], subject=name),
    "bars": lambda name: bars([(name, 1.0, name)], subject=name),
}


@pytest.mark.parametrize("chart", CHARTS)
def test_the_same_input_gives_the_same_text_and_nothing_from_outside(chart: str):
    html = CHARTS[chart]("a")
    assert html == CHARTS[chart]("a") and "http" not in html
    stands_alone(html)


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize(
    "name", [HOSTILE, "half \ud800", "bell \x07", "turned \u202e", "two\nlines", "文章分类 😀", "a" * 9000]
)
def test_names_are_letters_and_no_more(chart: str, name: str):
    html = CHARTS[chart](name)
    outline = stands_alone(html)
    assert not {"script"} & set(outline.names()) and not set("\ud800\x07\u202e") & set(html)
    assert len(html) < 12_000 and ("😀" in html) == ("😀" in name)
