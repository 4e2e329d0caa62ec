"""Prompts as they are: what is tried equals an evaluation of each alone, and ranks sources without an embedding."""

import logging
import math

import numpy as np
import pytest
import torch

from spot.collator import collator_for
from spot.evaluation.scoring import NoAnswers, evaluate_rows
from spot.strategies import as_is, report_rows
from spot.strategies.as_is import ranking_as_is, try_sources
from spot.strategies.news import Scored
from tests.support.toy_runs import SPLITS, TASK
from tests.support.toy_transfers import arm, results_in


def alone(target, prompt):
    collator = collator_for(target.backbone, TASK, length=target.config.length)
    return evaluate_rows(target.backbone, torch.tensor(prompt.value), TASK, collator, SPLITS.selection)


def test_each_prompt_is_tried_as_it_would_be_alone(target, library, prompts, caplog):
    with caplog.at_level(logging.INFO, "spot.strategies"):
        tried = try_sources(target, library, library.entries())
    assert [prompt.fit for prompt in tried] == sorted((prompt.fit for prompt in tried), reverse=True)
    for prompt in prompts:
        [entry] = [entry for entry in tried if entry.prompt == prompt.digest]
        wanted = alone(target, prompt)
        shares = np.array([np.exp(answer.log_probabilities) for answer in wanted.predictions])
        shares /= shares.sum(axis=1, keepdims=True)
        logs = np.log(
            [row[TASK.labels.index(example.answers[0])] for row, example in zip(shares, SPLITS.selection, strict=True)]
        )
        assert entry.evaluation.primary == wanted.primary
        assert entry.fit == pytest.approx(math.exp(np.mean(logs)), rel=1e-5)
    told = [record.msg for record in caplog.records if isinstance(record.msg, Scored)]
    assert [event.arm for event in told] == [f"the prompt of {entry.task} as it is" for entry in tried[:3]]
    assert all(event.is_as_is and event.interval[0] <= event.score <= event.interval[1] for event in told)


def test_a_large_library_is_tried_on_a_sample_of_the_rows(target, library, monkeypatch):
    monkeypatch.setattr(as_is, "MOST_RANKED", 12)
    monkeypatch.setattr(as_is, "FEWEST_ROWS", 2)
    assert {len(entry.evaluation.correct) for entry in try_sources(target, library, library.entries())} == {4}


def test_a_prompt_without_an_answer_comes_last(target, library, monkeypatch, caplog):
    broken = torch.tensor(library.get(library.entries()[0].digest).value)
    evaluate = report_rows.evaluate_rows

    def failing(backbone, prompt, *rest, **more):
        if torch.equal(prompt, broken):
            raise NoAnswers("no row has an answer.")
        return evaluate(backbone, prompt, *rest, **more)

    monkeypatch.setattr(report_rows, "evaluate_rows", failing)
    tried = try_sources(target, library, library.entries())
    assert tried[-1].prompt == library.entries()[0].digest and tried[-1].evaluation is None
    assert f"the prompt of {tried[-1].task} is not tried" in caplog.text


def test_sources_are_ranked_without_a_task_embedding(run, library, tmp_path):
    report = run("best", rank_by="as_is", starts=("classes",))
    assert [entry.arm for entry in report.arms] == ["constant", "frozen", "plain:classes", "source", "spot"]
    assert report.rank_by == "as_is" and len(report.ranking) == 3 and report.far == ""
    fits = [source.similarity for source in report.ranking]
    assert fits == sorted(fits, reverse=True) and all(0 < fit <= 1 for fit in fits)
    assert arm(report, "spot").source == report.ranking[0].task
    costs = {entry.arm: entry.relative_cost for entry in report.arms}
    assert costs["source"] == 0 and costs["spot"] == pytest.approx(1, abs=0.2), "no run was needed to rank them"
    [record] = library.transfers()[-1:]
    assert record.embedding is None, "the key of another start is no task embedding of this library"
    assert results_in(tmp_path / "out" / "plain-classes")
    assert not list((tmp_path / "out").glob("ranking-*"))


def test_the_keyed_start_is_an_arm_where_no_other_is_asked_for(run, library):
    report = run("average", rank_by="as_is")
    assert "plain:vocabulary" in [entry.arm for entry in report.arms]
    assert library.transfers() == [] or all(record.embedding is not None for record in library.transfers())


def test_no_prompts_no_ranking():
    assert ranking_as_is(()).sources == ()
