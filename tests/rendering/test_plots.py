"""Pictures of matplotlib as SVG: the same each time, alone in their page, in its colours."""

import builtins
import re
import xml.etree.ElementTree as ElementTree

import pytest

from spot.errors import MissingExtra
from spot.rendering import plots

SVG = "{http://www.w3.org/2000/svg}"


def picture(name: str = "sst2", title: str = "Nearest tasks", description: str = "sst2 0.50") -> str:
    from matplotlib.figure import Figure

    with plots.settings():
        figure = Figure(figsize=(plots.WIDTH, 2.0), layout="constrained")
        axes = figure.add_subplot()
        axes.barh([0], [0.5])
        axes.set_yticks([0], labels=[name])
        return plots.svg(figure, title, description)


def test_the_same_input_gives_the_same_bytes_and_nothing_from_outside():
    svg = picture()
    assert svg == picture() and svg.startswith("<svg")
    outside = [link for link in re.findall(r"https?://[^\"'\s<]+", svg) if not link.startswith("http://www.w3.org/")]
    assert not outside
    assert "<script" not in svg and "<metadata" not in svg and "<image" not in svg


def test_pictures_are_announced_and_take_the_colour_of_their_page():
    root = ElementTree.fromstring(picture())
    assert root.get("role") == "img"
    ids = {node.get("id"): node for node in root.iter() if node.get("id")}
    title, description = (ids[name] for name in root.get("aria-labelledby").split())
    assert title.text == "Nearest tasks" and "sst2 0.50" in description.text
    assert all("fill: currentColor" in node.get("style") for node in root.iter(f"{SVG}text"))
    assert all("sans-serif" in node.get("style") for node in root.iter(f"{SVG}text"))


def test_two_pictures_in_one_page_share_no_id():
    first, second = (re.findall(r'\bid="([^"]+)"', svg) for svg in (picture(), picture(title="Others")))
    assert len(set(first)) == len(first) and not set(first) & set(second)


def test_references_inside_a_picture_point_at_something():
    svg = picture()
    targets = re.findall(r'(?:url\(#|href="#)([^")]+)', svg)
    assert targets and set(targets) <= set(re.findall(r'\bid="([^"]+)"', svg))


@pytest.mark.parametrize(
    "name", ["half \ud800", "bell \x07", "turned \u202e", "\x00", "<script>alert('$x^2$')</script>"]
)
def test_titles_that_no_picture_can_hold_are_escaped(name: str):
    svg = picture(title=name, description=name)
    ElementTree.fromstring(svg.encode())
    assert not set("\ud800\x07\u202e\x00") & set(svg) and "<script" not in svg


def test_drawing_leaves_the_settings_of_the_session_alone():
    import matplotlib

    before = dict(matplotlib.rcParams)
    picture()
    assert dict(matplotlib.rcParams) == before


def test_a_missing_matplotlib_names_the_install_line(monkeypatch: pytest.MonkeyPatch):
    real = builtins.__import__

    def without(name: str, *arguments, **options):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(name)
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MissingExtra, match=re.escape("run: pip install 'spot-transfer[plots]'")), plots.settings():
        pass
