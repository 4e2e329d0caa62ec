"""Pictures: what they show, that they are the same each time, and that they can be read."""

import builtins
import re
import xml.etree.ElementTree as ElementTree

import pytest

from spot.errors import MissingExtra
from spot.rendering.plots import COLOURS, learning_curves, similarity_bars

SVG = "{http://www.w3.org/2000/svg}"
CURVES = {
    "plain": [[(0, 50.0), (10, 70.0), (20, 80.0)], [(0, 54.0), (10, 74.0), (20, 84.0)]],
    "spot": [[(0, 80.0), (10, 90.0), (20, 92.0)], [(0, 80.0), (10, 90.0), (20, 92.0)]],
}


def texts(svg: str) -> list[str]:
    """Every text that a reader sees, in the order of the file."""
    return ["".join(node.itertext()) for node in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def points(svg: str, colour: str) -> list[tuple[float, float]]:
    """The corners of the line of one colour, in picture units, y downwards."""
    styled = [(node.get("style", ""), node) for node in ElementTree.fromstring(svg).iter(f"{SVG}path")]
    line = next(node for style, node in styled if f"stroke: {colour}" in style and "stroke-width: 2" in style)
    return [(float(x), float(y)) for x, y in re.findall(r"[ML] (\S+) (\S+)", line.get("d"))]


def luminance(colour: str) -> float:
    """Relative luminance of sRGB as the accessibility guidelines define it."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.03928 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(first: str, second: str) -> float:
    darker, lighter = sorted([luminance(first), luminance(second)])
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_stand_out_on_light_and_dark_pages(colour: str):
    assert contrast(colour, "#ffffff") >= 3
    assert contrast(colour, "#14181d") >= 3


def test_lines_are_the_means_over_seeds():
    svg = learning_curves(CURVES)
    plain, spot = points(svg, COLOURS[0]), points(svg, COLOURS[1])
    # Both lines share one linear scale: fix it at two known points, then check all others.
    (x0, y0), (x1, _) = plain[0], plain[1]
    per_step, per_percent = (x1 - x0) / 10, (plain[2][1] - y0) / (82 - 52)
    for line, means in ((plain, [52, 72, 82]), (spot, [80, 90, 92])):
        for (x, y), step, mean in zip(line, (0, 10, 20), means, strict=True):
            assert x == pytest.approx(x0 + per_step * step, abs=0.01)
            assert y == pytest.approx(y0 + per_percent * (mean - 52), abs=0.01)


def test_a_band_only_where_seeds_differ():
    assert len(re.findall(r'id="[^"]*FillBetween', learning_curves(CURVES))) == 1


def test_axes_have_units_and_arms_have_names():
    shown = texts(learning_curves(CURVES, score="accuracy"))
    assert {"training steps (batches)", "accuracy (%)", "plain", "spot"} <= set(shown)


def test_one_point_no_point_and_seeds_of_different_length():
    arms = {"frozen": [[(0, 55.0)]], "failed": [], "plain": [[(0, 50.0), (5, 60.0)], [(0, 52.0)]]}
    shown = texts(learning_curves(arms))
    assert "frozen" in shown and "failed" not in shown
    assert "plain 60.0 at step 5" in learning_curves(arms)
    assert texts(learning_curves({}))


def test_bars_keep_their_order_and_show_their_values():
    shown = texts(similarity_bars(["sst2", "trec", "trec"], [0.613, 0.1, -0.05]))
    named = [text for text in shown if text in {"sst2", "trec"}]
    assert named == ["sst2", "trec", "trec"]
    assert [text for text in shown if text in {"0.61", "0.10", "-0.05"}] == ["0.61", "0.10", "-0.05"]


def test_small_similarities_keep_two_digits():
    shown = texts(similarity_bars(["a", "b"], [0.00123, 0.0004]))
    assert {"0.0012", "0.0004"} <= set(shown)
    assert texts(similarity_bars(["a"], [0.0]))
    assert texts(similarity_bars([], []))


@pytest.mark.parametrize("draw", [lambda: learning_curves(CURVES), lambda: similarity_bars(["a", "b"], [0.5, 0.2])])
def test_the_same_input_gives_the_same_bytes_and_nothing_from_outside(draw):
    svg = draw()
    assert svg == draw()
    assert svg.startswith("<svg")
    outside = [link for link in re.findall(r"https?://[^\"'\s<]+", svg) if not link.startswith("http://www.w3.org/")]
    assert not outside
    assert "<script" not in svg and "<metadata" not in svg and "<image" not in svg


def test_pictures_are_announced_and_take_the_colour_of_their_page():
    root = ElementTree.fromstring(similarity_bars(["sst2"], [0.5], title="Nearest tasks"))
    assert root.get("role") == "img"
    ids = {node.get("id"): node for node in root.iter() if node.get("id")}
    title, description = (ids[name] for name in root.get("aria-labelledby").split())
    assert title.text == "Nearest tasks" and "sst2 0.50" in description.text
    assert all("fill: currentColor" in node.get("style") for node in root.iter(f"{SVG}text"))
    assert all("sans-serif" in node.get("style") for node in root.iter(f"{SVG}text"))


def test_two_pictures_in_one_page_share_no_id():
    first, second = (
        re.findall(r'\bid="([^"]+)"', svg) for svg in (learning_curves(CURVES), similarity_bars(["a"], [0.5]))
    )
    assert len(set(first)) == len(first) and not set(first) & set(second)


def test_references_inside_a_picture_point_at_something():
    svg = learning_curves(CURVES)
    targets = re.findall(r'(?:url\(#|href="#)([^")]+)', svg)
    assert targets and set(targets) <= set(re.findall(r'\bid="([^"]+)"', svg))


def test_hostile_names_are_letters():
    name = "</text><script>alert('$x^2$')</script>"
    svg = similarity_bars([name], [0.5], title="<b>&")
    assert name in texts(svg)
    assert "<script" not in svg
    assert name in texts(learning_curves({name: [[(0, 1.0)]]}))


@pytest.mark.parametrize(
    "name", ["half \ud800", "bell \x07", "turned \u202e", "two\nlines", "\x00", "文章分类 😀", "a" * 2000]
)
def test_names_that_no_picture_can_hold_are_escaped(name: str):
    for svg in (similarity_bars([name], [0.5], title=name), learning_curves({name: [[(0, 1.0)]]}, title=name)):
        ElementTree.fromstring(svg.encode())
        assert not set("\ud800\x07\u202e\x00") & set(svg)
    assert ("😀" in svg) == ("😀" in name)


def test_drawing_leaves_the_settings_of_the_session_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    learning_curves(CURVES)
    assert dict(matplotlib.rcParams) == before


def test_a_missing_matplotlib_names_the_install_line(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=re.escape("run: pip install 'spot-transfer[plots]'")):
        learning_curves(CURVES)
