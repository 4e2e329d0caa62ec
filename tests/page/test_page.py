"""The page as one file: it stands alone, says what is there, and no text of a stranger becomes markup or script."""

import base64
import hashlib
import html as markup
import json
import re
import shlex
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

import spot
from spot.errors import MissingExtra, SpotError
from spot.library.history import TransferRecord
from spot.library.library import Library, open_library
from spot.page import page
from spot.page.page import ASSETS, PLOTLY, Sources, asset, page_html, page_value, progress_value, script_json
from spot.prompts.prompt import Parent
from spot.storage.text import printable
from tests.support.html_outline import Outline
from tests.support.pages import HOSTILE, filled, prompts, write_run, write_study
from tests.support.prompts import BACKBONE

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**50), 2**50) | st.text(),
    lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(), part, max_size=4),
    max_leaves=12,
)
DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)


def written(html: str) -> str:
    """The page without plotly's script, which is not ours and is large."""
    assert asset(PLOTLY) in html
    return html.replace(asset(PLOTLY), "")


def told(html: str) -> dict:
    """The data in a page."""
    [text] = DATA.findall(html)
    return json.loads(text)


def stands_alone(html: str) -> Outline:
    """Check that a page loads and sends nothing, and that its policy lets nothing but its own scripts run."""
    outline = Outline(written(html))
    assert not {"link", "img", "image", "iframe", "object", "embed", "base", "form"} & set(outline.names())
    for tag, attributes in outline.tags:
        for name, value in attributes.items():
            assert name not in {"src", "srcset", "action", "data", "background", "poster", "style"}, (tag, name)
            assert not name.startswith("on"), (tag, name)
            if name.endswith("href"):
                assert value.startswith("#"), (tag, value)
    [policy] = [tag["content"] for name, tag in outline.tags if tag.get("http-equiv") == "Content-Security-Policy"]
    directives = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    assert directives["default-src"] == directives["connect-src"] == "'none'"
    scripts = re.findall(r"<script>(.*?)</script>", html, flags=re.DOTALL)
    assert len(scripts) == 2
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert sorted(directives["script-src"].split()) == sorted(f"'sha256-{digest}'" for digest in hashes)
    assert outline.names().count("script") == 3
    return outline


@pytest.fixture
def hostile(tmp_path) -> Library:
    """A library of which every text is a stranger's."""
    named = prompts(HOSTILE, f"{HOSTILE} 2", "plain")
    named[0] = replace(
        named[0],
        backbone=replace(BACKBONE, name=HOSTILE),
        scores={HOSTILE: 1.0},
        frozen_scores={},
        initialiser=HOSTILE,
        parents=(Parent(HOSTILE, 1.0),),
        config={HOSTILE: HOSTILE},
        data_digest=HOSTILE,
        code_version=HOSTILE,
        task_revision=HOSTILE,
        reading=replace(named[0].reading, template="{<b>}", labels=((HOSTILE, HOSTILE), ("b", "</script>"))),
    )
    library = filled(tmp_path / "library", named)
    library.record_transfers([TransferRecord(named[0].digest, HOSTILE, 1.0)])
    return library


def test_the_page_needs_nothing_else():
    html = page_html(open_library("packaged"))
    outline = stands_alone(html)
    assert outline.text["title"] == ["spot: packaged"]
    value = told(html)
    assert value == json.loads(json.dumps(page_value(open_library("packaged"))))
    assert len(value["library"]["prompts"]) == len(open_library("packaged").entries())


def test_equal_libraries_give_equal_pages():
    library = open_library("packaged")
    assert page_html(library) == page_html(library)


def test_texts_of_a_stranger_stay_texts(hostile, tmp_path):
    run = write_run(tmp_path / "transfer" / "plain-vocabulary", [[(0, 40.0)]], task=HOSTILE).parent
    html = page_html(hostile, sources=Sources(transfers=(run,)))
    stands_alone(html)
    assert "taken" not in DATA.sub("", written(html))
    value = told(html)
    tasks = {prompt["task"] for prompt in value["library"]["prompts"]}
    assert tasks == {printable(HOSTILE), printable(f"{HOSTILE} 2"), "plain"}
    assert value["transfers"][0]["target"] == printable(HOSTILE)
    assert "\u202e" not in html and "\x1b" not in html


def test_commands_quote_the_folder_of_a_library(tmp_path):
    library = filled(tmp_path / "it's $(reboot)", prompts("a"))
    [prompt] = page_value(library)["library"]["prompts"]
    words = shlex.split(prompt["command"])
    assert words[:2] == ["spot", "predict"] and words[2] == str(library.entries()[0].path)


def test_the_lines_of_python_find_the_prompt():
    library = open_library("packaged")
    for prompt in page_value(library)["library"]["prompts"]:
        compile(prompt["python"], "page", "exec")
        [line] = [line for line in prompt["python"].splitlines() if line.startswith("prompt = ")]
        assert eval(line.partition(" = ")[2], {"spot": spot}).digest == prompt["digest"]


@given(JSON)
def test_data_in_a_script_end_no_script(value):
    text = script_json(value)
    assert not set("<>&") & set(text) and text.isascii() and json.loads(text) == value


def test_an_empty_library_has_a_page(tmp_path):
    library = filled(tmp_path / "mine", [])
    html = page_html(library)
    stands_alone(html)
    assert told(html)["library"]["prompts"] == told(html)["library"]["groups"] == []


def test_a_page_of_a_single_prompt(tmp_path):
    value = page_value(filled(tmp_path, prompts("a")))["library"]
    assert value["groups"] == [] and value["history"] is None and value["prompts"][0]["nearest"] == []


def test_prompts_of_two_backbones_have_maps_of_their_own(tmp_path):
    other = prompts("d", "e", backbone=replace(BACKBONE, name="another", fingerprint="f" * 16))
    value = page_value(filled(tmp_path, [*prompts("a", "b", "c"), *other]))["library"]
    assert [group["name"] for group in value["groups"]] == ["embedded, keys of step 40", "another, keys of step 40"]
    digests = {prompt.digest for prompt in other}
    for prompt in value["prompts"]:
        near = {entry["digest"] for entry in prompt["nearest"]}
        assert near <= digests if prompt["digest"] in digests else not near & digests


def test_lineage_names_parents_and_children(tmp_path):
    [parent] = prompts("parent")
    [child] = prompts("child", parents=(Parent(parent.digest, 0.5),))
    known = {prompt["task"]: prompt for prompt in page_value(filled(tmp_path, [parent, child]))["library"]["prompts"]}
    assert known["child"]["parents"] == [{"digest": parent.digest, "weight": 0.5}]
    assert known["parent"]["children"] == [child.digest] and known["child"]["children"] == []


def test_what_is_generated_is_told_apart_from_what_is_ranked(tmp_path):
    [ranked], [open_answer] = prompts("ranked"), prompts("open")
    open_answer = replace(open_answer, reading=replace(open_answer.reading, labels=()))
    value = page_value(filled(tmp_path, [ranked, open_answer]))["library"]["prompts"]
    assert {prompt["task"]: prompt["decode"] for prompt in value} == {"ranked": "rank", "open": "generate"}


def test_studies_and_transfers_are_shown(tmp_path):
    sources = Sources((write_study(tmp_path / "study"),), (tmp_path / "transfer",))
    write_run(tmp_path / "transfer" / "plain-vocabulary", [[(0, 40.0), (2, 60.0)]])
    value = page_value(filled(tmp_path / "library", []), sources)
    [study], [transfer] = value["studies"], value["transfers"]
    assert [chart["title"] for chart in study["charts"]] == [
        "What each way of tuning gains",
        "Cost against quality",
        "Each source on each target",
    ]
    assert len(study["curves"]) == 3 and transfer["target"] == "toy" and len(transfer["charts"]) == 1


def test_the_stamp_changes_where_something_goes_on(tmp_path):
    library = filled(tmp_path / "library", [])
    sources = Sources(transfers=(tmp_path / "transfer",))
    write_run(tmp_path / "transfer" / "plain-vocabulary", [[(0, 40.0)]], is_finished=False)
    first = progress_value(library, sources)
    assert progress_value(library, sources)["stamp"] == first["stamp"]
    write_run(tmp_path / "transfer" / "plain-vocabulary", [[(2, 40.0)]], is_finished=False)
    assert progress_value(library, sources)["stamp"] != first["stamp"]


def test_transfers_in_the_cache_are_shown_and_broken_ones_passed_over(tmp_path, own_cache):
    write_run(own_cache / "transfers" / "reviews" / "plain-vocabulary", [[(0, 40.0)]])
    (own_cache / "transfers" / "other").mkdir()
    value = page_value(filled(tmp_path, []))
    assert [transfer["name"] for transfer in value["transfers"]] == ["reviews"]


@pytest.mark.parametrize("sources", [Sources(studies=("nothing",)), Sources(transfers=("nothing",))], ids=str)
def test_what_was_named_and_is_not_there_is_refused(sources, tmp_path):
    sources = Sources(tuple(tmp_path / name for name in sources.studies), sources.transfers and (tmp_path / "nothing",))
    with pytest.raises(SpotError, match="nothing"):
        page_html(filled(tmp_path / "library", []), sources=sources)


def test_a_server_shows_the_rest_where_something_has_gone(tmp_path):
    sources = Sources((tmp_path / "no study",), (tmp_path / "no transfer", tmp_path / "transfer"))
    write_run(tmp_path / "transfer" / "plain-vocabulary", [[(0, 40.0)]])
    value = page_value(filled(tmp_path / "library", prompts("a")), sources, patient=True)
    assert len(value["transfers"]) == len(value["library"]["prompts"]) == 1 and value["studies"] == []
    study, transfer = value["problems"]
    assert "no study" in study and "no transfer" in transfer


def test_the_live_page_takes_all_from_its_own_server():
    html = page_html(open_library("packaged"), live=True, with_data=False)
    outline = Outline(html)
    loaded = {tag.get("src") or tag.get("href") for name, tag in outline.tags if name in ("script", "link")}
    assert loaded == {"data:,", *(f"/page/{name}" for name in ASSETS)}
    assert not DATA.search(html) and "script" not in outline.text


def test_no_asset_but_ours():
    with pytest.raises(KeyError):
        asset("../page.py")


def test_our_script_writes_no_markup():
    script = asset("page.js")
    for word in (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "eval(",
        "new Function",
        "localStorage",
    ):
        assert word not in script
    assert "</script" not in script and "<!--" not in script


def test_a_page_without_plotly_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "plotly.offline", None)
    asset.cache_clear()
    with pytest.raises(MissingExtra, match=r"spot-transfer\[page\]"):
        page_html(open_library("packaged"))


def test_markup_in_the_name_of_a_library_is_escaped(tmp_path):
    html = page.render_page({}, live=False, name="<b>&")
    assert f"<title>spot: {markup.escape('<b>&')}</title>" in html
