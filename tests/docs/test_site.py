"""The site: each page has a place, each public name and error its section; what is made from code is up to date."""

import inspect
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

import spot
from spot import errors
from spot.serving.requests import Refusal
from tests.support.scripts import script

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    """`make_site`, which lays out its pages in a folder of the test's."""
    module = script("docs/make_site.py")
    monkeypatch.setattr(module, "PAGES", tmp_path / "pages")
    return module


def test_every_page_has_a_place_and_every_link_to_a_file_leads_somewhere(site: ModuleType):
    assert site.lay_out() + site.astray() == []
    laid = site.PAGES
    assert (laid / "contributing.md").exists() and (laid / "page" / "docs.png").exists()
    assert not re.search(
        r"\]\(\.\./(README|CONTRIBUTING|src|tests|studies/smollm2\.toml)", (laid / "security.md").read_text()
    )


def test_links_that_leave_the_site_become_words_and_those_inside_stay(site: ModuleType):
    text = (
        "[a](../recipes/library.toml) [b](../errors.md#taskerror) [c](../../CHANGELOG.md) [d](https://x.org) [e](no.md)"
    )
    wrong: list[str] = []
    made = site.page(DOCS / "how-to" / "t5.md", text, Path("how-to/t5.md"), wrong)
    assert wrong == [
        "docs/how-to/t5.md links to ../recipes/library.toml, which is not there",
        "docs/how-to/t5.md links to no.md, which is not there",
    ]
    assert "[b](../errors.md#taskerror) [c](../changelog.md) [d](https://x.org)" in made
    assert site.page(DOCS / "log.md", "[a](../recipes/library.toml)", Path("log.md"), wrong) == "a"
    fenced = "```python\nwords[0](a.md)\n```"
    assert site.page(DOCS / "log.md", fenced, Path("log.md"), wrong) == fenced


def test_a_notebook_becomes_a_page(site: ModuleType, tmp_path: Path):
    content = {
        "cells": [
            {"cell_type": "markdown", "source": ["# Title"]},
            {"cell_type": "code", "source": ["print(1)"], "outputs": [{"text": ["1\n"]}]},
            {"cell_type": "code", "source": ["draw()"], "outputs": [{"data": {"image/svg+xml": ["<svg/>"]}}]},
        ]
    }
    text = site.notebook(content, tmp_path / "book.ipynb")
    assert text.startswith("# Title\n\n```python\nprint(1)\n```\n\n```text\n1\n```\n\n```python\ndraw()")
    assert "](book-2.svg)" in text and (tmp_path / "book-2.svg").read_text() == "<svg/>"


def test_every_public_name_is_on_the_page_of_python():
    page = (DOCS / "reference" / "api.md").read_text()
    described = set(re.findall(r"^::: spot\.(\w+)$", page, flags=re.MULTILINE))
    assert described == set(spot.__all__) - {"__version__", "tasks"}
    undocumented = [name for name in described if not inspect.getdoc(getattr(spot, name))]
    assert not undocumented


def test_every_class_of_errors_has_its_section():
    page = (DOCS / "errors.md").read_text()
    sections = re.findall(r"^## (\w+)$", page, flags=re.MULTILINE)
    classes = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert set(sections) == classes | {Refusal.__name__}
    for name in classes - {"SpotError"}:
        assert inspect.getdoc(getattr(errors, name)).split(";")[0].rstrip(".") in page, f"{name}: its own sentence"


def test_the_page_of_settings_is_made_from_them():
    module = script("docs/make_configuration.py")
    assert module.PAGE.read_text(encoding="utf-8") == module.page(), "run: python docs/make_configuration.py"


def test_the_site_loads_nothing_from_elsewhere():
    theme = tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["theme"]
    assert theme["font"] is False
    assert not re.search(r"https?://", (ROOT / "zensical.toml").read_text())


@pytest.mark.docs
def test_the_site_is_built_and_a_broken_anchor_is_not(site: ModuleType, monkeypatch, tmp_path: Path, capfd):
    pytest.importorskip("zensical")
    monkeypatch.setattr(site, "SITE", tmp_path / "site")
    monkeypatch.setattr(site, "ROOT", tmp_path)
    settings = (ROOT / "zensical.toml").read_text().replace("build/pages", "pages")
    (tmp_path / "zensical.toml").write_text(re.sub(r"nav = \[.*?^\]$", "nav = []", settings, flags=re.M | re.S))
    (tmp_path / "pages").mkdir()
    monkeypatch.setattr(site, "lay_out", list)
    monkeypatch.setattr(site, "astray", list)
    page = tmp_path / "pages" / "index.md"
    page.write_text("# Home\n\n[here](#home)\n")
    assert site.main() == 0
    assert not re.search(r'<(script|link|img)[^>]*(src|href)="https?:', (tmp_path / "site" / "index.html").read_text())
    page.write_text("# Home\n\n[nowhere](#nowhere)\n")
    assert site.main() == 1
    assert "anchor does not exist" in capfd.readouterr().err
