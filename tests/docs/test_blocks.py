"""What the pages ask a reader to type works: each page is one session in a folder, from its first block to its last.

The models are tiny and random, the shipped library's place is taken by a tiny one: commands and programs are those of
the page word for word, figures are not.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spot.library.library import Library
from spot.models.checkpoints import locate
from spot.prompts.prompt import KeyRecipe, SoftPrompt
from spot.reading import Reading
from tests.support.commands import call
from tests.support.doc_pages import DOCS, RUN, SHOWN, Block, Session, blocks, pages

LENGTH = 4
RECIPE = KeyRecipe(4, LENGTH, "vocabulary", 0, "adamw", 0.005, 0.0, 4, 48)
SHIPPED = {
    "glue/sst2": Reading(template="sentence: {sentence}", labels=(("0", "negative"), ("1", "positive"))),
    "trec": Reading(template="sentence: {text}", labels=(("0", "who"), ("1", "where"), ("2", "why"))),
    "ag_news": Reading(template="sentence: {text}", labels=(("0", "world"), ("1", "sports"))),
}
CHAT = (
    "{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
OTHER = """name = "other"
rows = "reviews.csv"
input = "remark: {review}"
label = "stars"
"""
SLOW = ("tutorial.md", "scale.md", "how-to/own-model.md", "how-to/t5.md")  # seconds each, of the processor
RUN_PAGES = [
    pytest.param(page, id=name, marks=[pytest.mark.docs] if name in SLOW else [])
    for page in pages()
    if any(block.runs for block in blocks(page)) and (name := str(page.relative_to(DOCS)))
]


def library_of(folder: Path, backbone: str) -> None:
    """A library of prompts that nothing has trained."""
    identity = locate(backbone).id
    library = Library.create(folder)
    for number, (task, reading) in enumerate(SHIPPED.items()):
        arrays = np.random.default_rng(number).normal(size=(3, LENGTH, identity.width)).astype(np.float32)
        library.add(
            SoftPrompt(
                value=arrays[0],
                key=arrays[1],
                start=arrays[2],
                backbone=identity,
                task=task,
                step=8,
                seed=0,
                initialiser="vocabulary",
                key_recipe=RECIPE,
                reading=reading,
                config={"steps": 8},
                scores={"accuracy": 84.5},
                frozen_scores={"accuracy": 51.0},
            )
        )


@pytest.fixture(scope="session")
def desk(tiny_folder: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a reader has before the first page: rows, a causal and a T5 model, a library of the first."""
    folder = tmp_path_factory.mktemp("desk") / "desk"
    folder.mkdir()
    shutil.copy(DOCS / "data" / "reviews.csv", folder)
    (folder / "other.toml").write_text(OTHER)
    shutil.copytree(tiny_folder("llama"), folder / "my-model")
    (folder / "my-model" / "chat_template.jinja").write_text(CHAT)
    shutil.copytree(tiny_folder("t5"), folder / "my-t5")
    library_of(folder / "my_prompts", str(folder / "my-model"))
    return folder


@pytest.fixture
def session(desk: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Session:
    """A reader at the desk; `embedded` and `packaged` are the tiny model and its library."""
    here = tmp_path / "here"
    shutil.copytree(desk, here)
    shipped = tmp_path / "shipped"
    shutil.copytree(desk / "my-model", shipped / "model")
    (shipped / "model" / "spot.json").write_text(json.dumps({"fingerprint": "0123456789abcdef"}))
    monkeypatch.setattr("spot.models.checkpoints.ensure_embedded", lambda: shipped / "model")
    for module in ("spot.library.library", "spot.page.data"):
        monkeypatch.setattr(f"{module}.packaged", lambda: shipped / "library")
    library_of(shipped / "library", "embedded")
    monkeypatch.chdir(here)
    monkeypatch.setenv("PWD", str(here))
    monkeypatch.delenv("SPOT_DATA", raising=False)
    return Session(lambda *words: call(capsys, *words))


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(DOCS)))
def test_each_block_is_run_or_says_why_not(page: Path):
    fences = page.read_text(encoding="utf-8").count("```")
    listed = list(blocks(page))
    assert fences == 2 * len(listed), "a fence that nothing here reads"
    for block in listed:
        assert block.language in (*RUN, *SHOWN), f"{block.place}: the language {block.language!r}"
        assert block.mark in ("", "refused") or block.mark.partition("not run: ")[2], f"{block.place}: {block.mark!r}"


@pytest.mark.enable_socket
@pytest.mark.parametrize("page", RUN_PAGES)
def test_what_a_page_says_runs(page: Path, session: Session):
    if "tasks init reviews.csv" not in page.read_text(encoding="utf-8"):
        assert session.spot("tasks", "init", "reviews.csv").code == 0
    for block in blocks(page):
        session.do(block)


def test_a_block_that_fails_is_seen(session: Session):
    bad = Block(DOCS / "index.md", 1, "sh", "", "spot evaluate nothing\n", "")
    with pytest.raises(AssertionError, match=r"index\.md, line 1"):
        session.do(bad)


def test_an_answer_that_has_changed_is_seen(session: Session):
    text = "$ head -1 reviews.csv\nreview,star\n"
    with pytest.raises(AssertionError, match=r"head -1 reviews\.csv prints\nreview,stars"):
        session.do(Block(DOCS / "index.md", 1, "console", "", text, ""))
    session.do(Block(DOCS / "index.md", 1, "console", "", text.replace("star\n", "stars\n"), ""))
