"""Mixtures of sources and the target: what is trained and what it costs, whose rows it may see."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spot.errors import TaskError
from spot.library.library import Library
from spot.prompts.prompt import load
from spot.strategies import source_mixtures
from spot.tasks import registry
from spot.tasks.splits import LazyRows, Splits, split_rows
from spot.training.tuning import tune_prompt
from tests.support.small_runs import put
from tests.support.toy_runs import source_config, word_splits
from tests.support.toy_transfers import arm, results_in, tokens_by


@pytest.fixture
def known(backbone, tiny_folder, tmp_path) -> tuple[Library, Path]:
    """A library of known tasks, and their rows."""
    data = put(tmp_path / "data", "cr", "glue/sst2")
    made = Library.create(tmp_path / "known")
    for name in ("cr", "glue/sst2"):
        task = registry.get(name, data)
        config = source_config(name, tiny_folder("llama"), train_rows=16, select_rows=6)
        made.add(tune_prompt(config, task, backbone, split_rows(task, 16, 6, 0, 0), out=tmp_path / name))
    return made, data


def test_a_mixture_is_tuned_on_the_nearest_tasks_and_the_target(run, known, tmp_path):
    library, data = known
    report = run("mixture", library=library, data=data, mixture_steps=6)
    (folder,) = (tmp_path / "out").glob("mixture-*")
    prompt = load(folder / "prompt.safetensors")
    names = [one.task for one in report.ranking]
    assert prompt.task == f"mixture:{'+'.join([*names, 'toy'])}" and prompt.step == 6, "the last checkpoint"
    (spot,) = (tmp_path / "out").glob("spot-0-*")
    child = load(spot / "prompt.safetensors")
    assert np.array_equal(child.start, prompt.value) and [one.digest for one in child.parents] == [prompt.digest]
    plain = results_in(tmp_path / "out" / "plain-vocabulary")
    key = np.mean([(tokens_by(one, 2) + tokens_by(one, 4)) / 2 for one in plain])
    own = results_in(folder)[0].tokens
    runs = results_in(spot)
    assert arm(report, "spot").tokens == round(key + own + np.mean([one.tokens for one in runs]))
    assert arm(report, "source").tokens == round(key + own)
    assert arm(report, "spot").seconds >= results_in(folder)[0].seconds
    assert (report.k, report.candidates[0].kind) == (2, "mixture") and library.transfers() == []


def test_a_mixture_does_not_see_rows_of_the_target(run, known, monkeypatch):
    library, data = known
    ours, path = word_splits("toy"), registry.TABLE["cr"].folder
    file = data / path / "train.jsonl"
    shared = [*ours.selection[:2], *ours.report[:3]]
    file.write_text("".join(json.dumps({"text": row.texts[0], "label": 0}) + "\n" for row in shared))
    seen: list[set[str]] = []
    mixed = source_mixtures.mixed

    def watched(parts: Any, config: Any) -> Any:
        seen.append({row.texts[0] for _, splits in parts for row in splits.train})
        return mixed(parts, config)

    monkeypatch.setattr(source_mixtures, "mixed", watched)
    report = run("mixture", library=library, data=data)
    assert not seen[0] & {row.texts[0] for row in ours.selection}
    assert {row.texts[0] for row in ours.report[:3]} <= seen[0]
    assert report.left_out == 3 and report.rows["report"] == len(ours.report) - 3


def test_a_mixture_keeps_the_report_rows_shut(run, known, tmp_path):
    library, data = known

    def read() -> tuple:
        assert list((tmp_path / "out").glob("spot-0-*/result.json")), "everything is tuned"
        return word_splits("toy").report

    ours = word_splits("toy")
    run("mixture", library=library, data=data, splits=Splits(ours.train, ours.selection, LazyRows(read)))


def test_a_mixture_names_the_rows_that_are_missing(run, known, library, tmp_path):
    both, _ = known
    with pytest.raises(TaskError, match=r"those of 3 of 3 are not at hand: blue \(no task 'blue'.*; red .*--data DIR"):
        run("mixture")
    assert not (tmp_path / "out").exists(), "nothing is trained before"
    empty = tmp_path / "nothing"
    empty.mkdir()
    with pytest.raises(TaskError, match=r"those of 2 of 2 are not at hand: cr .*; glue/sst2 "):
        run("mixture", library=both, data=empty)
    put(empty, "cr")
    with pytest.raises(TaskError, match=r"those of 1 of 2 are not at hand: glue/sst2 "):
        run("mixture", library=both, data=empty)
    try:  # one task is enough for k = 1, unless it is the other one that is nearest
        run("mixture", library=both, data=empty, k=1)
    except TaskError as error:
        assert "glue/sst2" in str(error)
