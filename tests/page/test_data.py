"""What the page knows of a library is what its files say, whoever wrote them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.cluster.hierarchy import cophenet
from scipy.spatial.distance import pdist, squareform

from spot.library.history import TransferRecord
from spot.library.library import open_library
from spot.page import data
from spot.page.data import KINDS, OWN_KIND, fields_of, kind_of, plane, task_tree, view_library
from spot.prompts.prompt import header
from spot.reading import Reading
from spot.retrieval.search import nearest
from spot.tasks import registry
from tests.support.pages import HOSTILE, filled, prompts
from tests.support.prompts import BACKBONE, RECIPE


def units(count: int, width: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, width))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_every_prompt_is_shown_as_its_header_says():
    library = open_library("packaged")
    view = view_library(library)
    assert view.name == "packaged" and not view.problems and len(view.prompts) == len(library.entries()) > 5
    for prompt, entry in zip(view.prompts, library.entries(), strict=True):
        content = header(entry.path, library.path)
        for name in ("digest", "task", "step", "length", "width", "scores", "frozen_scores", "config", "seed"):
            assert getattr(prompt, name) == content[name], name
        assert (prompt.bytes, prompt.changed) == (entry.path.stat().st_size, entry.path.stat().st_mtime)
        assert prompt.score == pytest.approx(np.mean(list(content["scores"].values())))
        assert prompt.reading is not None and prompt.reading.words and prompt.fields
    assert len(view.transfers) >= len(library.transfers()) > 0


def test_similarities_are_those_of_retrieval():
    library = open_library("packaged")
    [group] = view_library(library).groups
    for at, digest in enumerate(group.digests):
        target = library.get(digest)
        for source in nearest(target, library, k=3, without={target.task}):
            cosine = group.cosines[at, group.digests.index(source.prompt)]
            assert cosine == pytest.approx(source.similarity, abs=1e-6)


def test_an_empty_library_is_shown(tmp_path):
    view = view_library(filled(tmp_path, []))
    assert (view.prompts, view.groups, view.transfers, view.problems) == ((), (), (), ())


def test_a_single_prompt_has_nothing_to_be_compared_with(tmp_path):
    view = view_library(filled(tmp_path, prompts("reviews")))
    assert len(view.prompts) == 1 and view.groups == ()


def test_prompts_of_two_backbones_are_compared_apart(tmp_path):
    other = replace(BACKBONE, name="another", fingerprint="f" * 16)
    ours, theirs = prompts("a", "b", "c"), prompts("d", "e", backbone=other)
    view = view_library(filled(tmp_path, [*ours, *theirs]))
    assert [set(group.digests) for group in view.groups] == [
        {prompt.digest for prompt in ours},
        {prompt.digest for prompt in theirs},
    ]


def test_prompts_of_two_key_recipes_are_compared_apart(tmp_path):
    ours, theirs = prompts("a", "b"), prompts("c", "d", "e", key_recipe=replace(RECIPE, step=41))
    view = view_library(filled(tmp_path, [*ours, *theirs]))
    assert [len(group.digests) for group in view.groups] == [3, 2]


def test_a_prompt_without_a_key_stands_in_no_group(tmp_path):
    keyed, keyless = prompts("a", "b"), prompts("c", key=None, key_recipe=None)
    view = view_library(filled(tmp_path, [*keyed, *keyless]))
    assert len(view.prompts) == 3 and [len(group.digests) for group in view.groups] == [2]


def test_a_prompt_whose_key_is_its_start_is_left_out_and_said(tmp_path):
    good, [still] = prompts("a", "b", "d"), prompts("c")
    still = replace(still, key=still.start)
    [group] = view_library(filled(tmp_path, [*good, still])).groups
    assert set(group.digests) == {prompt.digest for prompt in good}
    assert "equals its start" in group.left_out[still.digest]


def test_prompts_beyond_what_can_be_compared_are_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "MOST_COMPARED", 2)
    [group] = view_library(filled(tmp_path, prompts("a", "b", "c"))).groups
    assert (len(group.digests), group.passed_over) == (2, 1)


def test_a_damaged_history_is_said_and_the_prompts_are_shown(tmp_path):
    library = filled(tmp_path, prompts("a"))
    (tmp_path / "transfers.jsonl").write_text("no record\n")
    view = view_library(library)
    assert len(view.prompts) == 1 and view.transfers == () and "transfers.jsonl" in view.problems[0]


def test_transfers_of_the_library_are_known(tmp_path):
    library = filled(tmp_path, prompts("a"))
    record = TransferRecord(library.entries()[0].digest, HOSTILE, 3.5)
    library.record_transfers([record])
    assert view_library(library).transfers == (record,)


def test_every_known_task_has_a_kind():
    assert {kind_of(task) for task in registry.names()} == set(KINDS)
    assert kind_of("a task of one's own") == OWN_KIND


@pytest.mark.parametrize(
    ("reading", "fields"),
    [
        (None, ()),
        (Reading(), ()),
        (Reading(form="no such data set"), ()),
        (Reading(template="{review}"), ("review",)),
        (Reading(template="{title}: {text}, {title}"), ("title", "text")),
        (Reading(form="glue/sst2"), ("text",)),
        (Reading(form="glue/mnli"), ("hypothesis", "premise")),  # T5 has them in this order
        (Reading(form="quora_pairs"), ("question1", "question2")),
    ],
)
def test_the_fields_of_a_row(reading, fields):
    assert fields_of(reading) == fields


def test_no_known_form_breaks_the_search_for_its_fields():
    for task in registry.names():
        assert all(isinstance(field, str) for field in fields_of(Reading(form=task)))


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 1000))
def test_the_plane_is_classical_scaling(count, width, seed):
    rows = units(count, width, seed)
    squared = squareform(pdist(rows)) ** 2
    centring = np.eye(count) - 1 / count
    values, vectors = np.linalg.eigh(-centring @ squared @ centring / 2)
    expected = vectors[:, ::-1][:, :2] * np.sqrt(np.clip(values[::-1][:2], 0, None))
    np.testing.assert_allclose(pdist(plane(rows)), pdist(expected), atol=1e-6)


def test_three_tasks_keep_their_distances_on_the_plane():
    rows = units(3, 50)
    np.testing.assert_allclose(pdist(plane(rows)), pdist(rows), atol=1e-9)


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_tasks_stand_at_the_origin(count):
    assert plane(units(count, 4)).tolist() == [[0.0, 0.0]] * count


def test_the_tree_joins_tasks_at_their_mean_distance():
    rows = units(6, 20)
    tree, order = task_tree(rows @ rows.T)
    assert sorted(order) == list(range(6))
    joined = cophenet(tree)
    assert joined.min() == pytest.approx((1 - rows @ rows.T)[np.triu_indices(6, 1)].min())


def test_a_tree_needs_two_tasks():
    tree, order = task_tree(np.ones((1, 1)))
    assert tree.shape == (0, 4) and order == (0,)
