"""The documents say what is so: the tree of the code, the README's length, its links."""

import re
from pathlib import Path

from tests.support.scripts import script

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text()


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 120


def test_the_tree_names_every_room_once_with_a_comment():
    named = re.findall(r"^ {4}([a-z_]+(?:\.py|/)) +\S.*$", CONTRIBUTING, flags=re.MULTILINE)
    source = ROOT / "src" / "spot"
    rooms = {f"{path.parent.name}/" for path in source.glob("*/__init__.py")}
    files = {path.name for path in source.glob("*.py") if not path.name.startswith("__")}
    assert sorted(named) == sorted(rooms | files)


def test_every_relative_link_leads_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_page_for_contributors_names_files_that_are_there():
    named = [word for word in re.findall(r"`([\w./-]+)`", CONTRIBUTING) if "/" in word or word.endswith((".py", ".md"))]
    stands_for_others = {"tests/ROOM/test_MODULE.py", "src/spot/ROOM/MODULE.py", "../shared/data"}
    roots = (ROOT, ROOT / "src", ROOT / "src" / "spot", ROOT / "tests")
    lost = [
        name for name in named if name not in stands_for_others and not any((root / name).exists() for root in roots)
    ]
    assert len(named) > 15 and not lost, lost


def test_the_page_of_tasks_is_made_from_the_tables(shared):
    module = script("docs/make_tasks.py")
    text = module.PAGE.read_text(encoding="utf-8")
    assert text == module.page(shared / "data"), "run: python docs/make_tasks.py ../shared/data"
    rows = re.findall(r"^\| `([^`]+)` \|", text, flags=re.MULTILINE)
    assert rows == module.registry.names()
