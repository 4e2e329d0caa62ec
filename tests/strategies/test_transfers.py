"""Transfer on a tiny model: which rows choose, which report, what is remembered, what is refused."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch

from spot.collator import collator_for
from spot.config import TransferConfig
from spot.errors import ConfigError, LibraryError, RunError, TaskError
from spot.evaluation.scoring import evaluate_rows
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.prompts.overlap import contains
from spot.prompts.prompt import Parent, load, save
from spot.retrieval.embeddings import encoded_summaries
from spot.retrieval.ranking import history_of
from spot.strategies import transfers
from spot.strategies.transfers import transfer_rows
from spot.tasks.splits import Splits
from spot.tasks.task import Example
from spot.training.loop import Diverged
from spot.training.result import RunResult
from tests.support.toy_runs import BURST, break_large_prompts, library_of, named, word_rows, word_splits
from tests.support.toy_transfers import CONFIG, STEPS, WORDS, arm, results_in

SHORT = TransferConfig(steps=4, seeds=2, eval_every=2)


def test_the_arms_are_measured_on_the_same_untouched_rows(backbone, library, tmp_path):
    report = transfer_rows(named("toy"), word_splits("toy"), backbone, library, SHORT, out=tmp_path)
    assert [entry.arm for entry in report.arms] == ["constant", "frozen", "plain:vocabulary", "source", "spot"]
    _, frozen, plain, source, spot = report.arms
    assert frozen.steps == source.steps == 0 and plain.steps == spot.steps == 4
    assert (frozen.parameters, spot.parameters) == (0, 3 * 32)
    assert len(plain.scores) == len(spot.scores) == 2
    assert spot.source == source.source == report.ranking[0].task
    assert {ranked.task for ranked in report.ranking} == {"red", "green", "blue"}
    for entry in report.arms:
        correct = [np.mean(evaluation.correct) * 100 for evaluation in entry.evaluations]
        assert entry.score == pytest.approx(np.mean(correct))
        assert entry.interval[0] <= entry.score <= entry.interval[1]
    assert report.gain == pytest.approx(spot.score - plain.score)
    assert plain.steps_to_plain is not None
    assert report.prompt_file.exists() and report.prompt.task == "toy"


def test_a_finished_transfer_is_only_read(backbone, library, tmp_path):
    first = transfer_rows(named("toy"), word_splits("toy"), backbone, library, SHORT, out=tmp_path)
    steps = []
    again = transfer_rows(
        named("toy"), word_splits("toy"), backbone, library, SHORT, out=tmp_path, progress=lambda *at: steps.append(at)
    )
    assert again.to_json() == first.to_json() and steps == []


def test_best_of_k_is_chosen_on_selection_rows(backbone, library, tmp_path):
    config = SHORT.model_copy(update={"k": 3, "seeds": 1})
    report = transfer_rows(named("toy"), word_splits("toy"), backbone, library, config, out=tmp_path)
    spot = report.arms[-1]
    runs = [results_in(folder)[0] for folder in tmp_path.glob("spot-*")]
    selections = [max(point.score for point in run.curve) for run in runs]
    assert len(selections) == 3 and spot.selection == max(selections)
    assert spot.folder is not None and load(tmp_path / spot.folder / "prompt.safetensors").parents
    assert report.prompt_file.parent.name == next(arm.folder for arm in report.arms if arm.arm == report.chosen)
    wanted = pytest.approx(sum(run.seconds for run in runs), abs=0.01)
    assert spot.seconds == wanted, "the price of three runs belongs to the arm"


def test_average_starts_from_the_weighted_mean(backbone, library, tmp_path):
    config = SHORT.model_copy(update={"strategy": "average", "k": 2, "seeds": 1})
    report = transfer_rows(named("toy"), word_splits("toy"), backbone, library, config, out=tmp_path)
    prompt = load(next(tmp_path.glob("spot-0-*")) / "prompt.safetensors")
    weights = np.clip([ranked.similarity for ranked in report.ranking[:2]], 0, None)
    weights = weights / weights.sum()
    sources = [library.get(ranked.prompt).value for ranked in report.ranking[:2]]
    np.testing.assert_allclose(prompt.start, weights[0] * sources[0] + weights[1] * sources[1], atol=1e-6)
    assert prompt.parents == tuple(
        Parent(ranked.prompt, float(weight)) for ranked, weight in zip(report.ranking, weights, strict=False)
    )


def test_none_is_plain_tuning_alone(backbone, library, tmp_path):
    config = SHORT.model_copy(update={"strategy": "none"})
    report = transfer_rows(named("toy"), word_splits("toy"), backbone, library, config, out=tmp_path)
    assert [arm.arm for arm in report.arms] == ["constant", "frozen", "plain:vocabulary"]
    assert report.gain is None and report.ranking == () and "plain prompt tuning" in report.verdict


def test_a_tuned_model_stands_beside_the_prompts_and_is_never_chosen(backbone, library, tmp_path):
    config = SHORT.model_copy(update={"model_learning_rate": 0.002, "seeds": 2})
    report = transfer_rows(named("toy"), word_splits("toy"), backbone, library, config, out=tmp_path)
    model = report.arms[-1]
    assert model.arm == "model" and model.parameters == backbone.parameters and model.steps == 4
    assert len(model.scores) == 2 and report.chosen != "model"
    for seed in range(2):
        tuned = Backbone.load(str(tmp_path / f"model-{seed}" / "model"))
        collator = collator_for(tuned, named("toy"))
        wanted = evaluate_rows(tuned, torch.zeros(0, 32), named("toy"), collator, word_splits("toy").report)
        assert model.scores[seed] == pytest.approx(wanted.primary)


def seen_by(library: Library, word: str) -> tuple[Example, ...]:
    """The rows that the source's run drew."""
    sketch = library.get(word).sketch
    return tuple(row for row in word_rows(word, 0, 24) if contains(sketch, row.texts[0]))


def test_rows_that_a_source_has_seen_are_left_out_for_every_arm(backbone, library, tmp_path, caplog):
    ours = word_splits("toy")
    mixed = Splits(ours.train, ours.selection, ours.report[:10] + seen_by(library, "red")[:4])
    report = transfer_rows(named("toy"), mixed, backbone, library, SHORT, out=tmp_path)
    assert report.left_out == 4 and report.rows["report"] == 10
    assert "4 of 14 report rows are in a source's training rows" in caplog.text
    assert all(len(evaluation.correct) == 10 for arm in report.arms for evaluation in arm.evaluations)


def test_a_target_whose_rows_are_all_seen_is_refused(backbone, library, tmp_path):
    seen = Splits(word_rows("toy", 0, 8), word_rows("toy", 9, 12), seen_by(library, "red"))
    with pytest.raises(TaskError, match="no honest figure is possible"):
        transfer_rows(named("toy"), seen, backbone, library, SHORT, out=tmp_path)


def test_the_target_itself_is_no_source(backbone, library, tmp_path):
    fresh = Splits(word_rows("toy", 0, 24), word_rows("toy", 100, 112), word_rows("toy", 200, 216))
    report = transfer_rows(named("red"), fresh, backbone, library, SHORT, out=tmp_path)
    assert {ranked.task for ranked in report.ranking} == {"green", "blue"}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"steps": 2}, ConfigError, "ends before the library's key step 3"),
        ({"k": 4}, ConfigError, "k is 4, but .* 3 candidates"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(backbone, library, tmp_path, settings, error, message):
    config = SHORT.model_copy(update=settings)
    with pytest.raises(error, match=message):
        transfer_rows(named("toy"), word_splits("toy"), backbone, library, config, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_library_of_another_backbone_is_refused(tiny_folder, library, tmp_path):
    other = Backbone.load(str(tiny_folder("qwen2")))
    with pytest.raises(LibraryError, match=r"tiny-llama.*tiny-qwen2"):
        transfer_rows(named("toy"), word_splits("toy"), other, library, SHORT, out=tmp_path / "out")


# Plain tuning that diverges.


def test_plain_tuning_that_diverges_is_an_error(prompts, backbone, tmp_path, monkeypatch):
    break_large_prompts(monkeypatch)
    hot = replace(prompts[0], key_recipe=replace(prompts[0].key_recipe, learning_rate=BURST))
    library = library_of([hot], tmp_path / "hot")
    with pytest.raises(RunError, match="training diverged with adamw at learning rate 1000000"):
        transfer_rows(named("toy"), word_splits("toy"), backbone, library, CONFIG, out=tmp_path / "out")


def test_a_further_plain_start_that_diverges_is_no_arm(run, monkeypatch, caplog):
    tune_plain = transfers.tune_plain

    def diverging(target: Any, init: str) -> Any:
        if init == "uniform":
            result = {"task": "toy", "digest": "", "scores": {}, "step": 0, "steps": 0, "tokens": 0, "seconds": 0.0}
            raise Diverged([RunResult(**result, curve=(), diverged="the loss is nan")])
        return tune_plain(target, init)

    monkeypatch.setattr(transfers, "tune_plain", diverging)
    report = run("best", starts=("vocabulary", "uniform"))
    assert [one.arm for one in report.arms] == ["constant", "frozen", "plain:vocabulary", "source", "spot"]
    assert "no arm of plain tuning from 'uniform': the loss is nan" in caplog.text


def test_the_instruction_of_the_task_starts_a_plain_arm(run):
    report = run("none", starts=("vocabulary", "instruction"))
    assert [one.arm for one in report.arms] == ["constant", "frozen", "plain:vocabulary", "plain:instruction"]


def test_a_task_that_says_what_is_asked_has_that_start_in_every_transfer(backbone, library, tmp_path, few_resamples):
    asked = replace(named("toy"), instruction="Say yes or no.")
    config = CONFIG.model_copy(update={"strategy": "none"})
    report = transfer_rows(asked, word_splits("toy"), backbone, library, config, out=tmp_path)
    assert [one.arm for one in report.arms] == ["constant", "frozen", "plain:vocabulary", "plain:instruction"]


def test_plain_tuning_and_spot_both_have_the_rate_that_selection_rows_choose(run, tmp_path):
    raced = run("best", prompt_learning_rate="auto", seeds=2)
    plain, spot = arm(raced, "plain:vocabulary"), arm(raced, "spot")
    assert plain.folder == "plain-vocabulary-rates" and plain.setting.startswith("learning rate = ")
    rates = {load(file).config["learning_rate"] for one in (plain, spot) for file in one.files}
    assert rates <= {0.005, 0.02}
    embedded = [load(file) for file in sorted((tmp_path / "out" / "plain-vocabulary").glob("*.safetensors"))]
    assert all(prompt.key is not None and prompt.config["learning_rate"] == 0.05 for prompt in embedded)
    assert plain.tokens == 2 * run("none", out="other", seeds=2).arms[-1].tokens, "both rates are paid for"
    with pytest.raises(ValueError, match="should be 'recipe' where strategy is 'race'"):
        run("race", prompt_learning_rate="auto")


def test_a_plain_arm_without_one_of_its_seeds_is_nothing_to_compare_with(run, monkeypatch):
    tune_plain = transfers.tune_plain

    def half(target: Any, init: str) -> Any:
        candidate = tune_plain(target, init)
        first, second = candidate.results
        return replace(candidate, results=(first, replace(second, diverged="the loss is nan")))

    monkeypatch.setattr(transfers, "tune_plain", half)
    with pytest.raises(RunError, match=r"diverged in some seed of every start.*the loss is nan"):
        run("best", seeds=2)


# What is remembered.


def test_every_source_that_was_tuned_to_the_end_is_remembered_once(run, library, tmp_path):
    report = run("best", k=3)
    records = library.transfers()
    plain = arm(report, "plain:vocabulary")
    target = load(tmp_path / "out" / "plain-vocabulary" / "prompt.safetensors")
    assert [record.source for record in records] == [one.prompt for one in report.ranking]
    for record, one in zip(records, report.candidates, strict=True):
        assert record.gain == pytest.approx(one.selection - plain.selection)
        assert (record.source_task, record.target) == (one.source, "toy")
        assert (record.steps, record.rows, record.seeds) == (STEPS, 24, 1)
        assert record.embedding == encoded_summaries(target)
    run("best", k=3)
    run("oracle")
    assert library.transfers() == records


def test_report_rows_have_no_say_in_what_is_remembered(run, library, prompts, tmp_path):
    run("best")
    other = library_of(prompts, tmp_path / "other")
    ours = word_splits("toy")
    turned = tuple(replace(row, answers=("yes" if row.answers == ("no",) else "no",)) for row in ours.report)
    report = run("best", "turned", other, Splits(ours.train, ours.selection, turned))
    assert other.transfers() == library.transfers()
    assert arm(report, "spot").score == pytest.approx(100 - arm(run("best"), "spot").score)


def test_what_the_shipped_library_cannot_keep_is_in_the_cache(run, library, own_cache):
    shipped = Library(library.path, read_only=True)
    for _ in range(2):
        run("best", library=shipped)
    assert library.transfers() == [] and len(history_of(shipped)) == 1
    assert (own_cache / "experience.jsonl").read_text().count("\n") == 1


def test_learned_falls_back_to_mean_and_says_so(run, caplog):
    report = run("best", rank_by="learned")
    assert report.rank_by == "mean" and report.expected == () and "ranked by `mean`" in caplog.text


# Libraries and settings that cannot work.


def test_keys_of_several_recipes_are_refused_before_anything_is_trained(run, library, prompts, tmp_path):
    for changes in ({"learning_rate": 0.02}, {"length": 5}):
        odd = replace(prompts[0], task="odd", key_recipe=replace(prompts[0].key_recipe, **changes))
        path = library.path / "prompts" / f"{odd.digest}.safetensors"
        save(odd, path)
        name = next(iter(changes))
        with pytest.raises(LibraryError, match=rf"keys of more than one recipe, .*{name} is .* here and .* there"):
            run("best")
        library.remove(odd.digest)
    assert not (tmp_path / "out").exists()


def test_a_start_without_other_draws_has_no_twin_in_a_race(run, prompts, tmp_path):
    recipe = replace(prompts[0].key_recipe, init="text:Classify the text.")
    worded = library_of([replace(prompt, key_recipe=recipe) for prompt in prompts], tmp_path / "worded")
    with pytest.raises(ConfigError, match=r"restarts is 2, .* start from 'text:Classify.*no other draw"):
        run("race", library=worded, restarts=2)
    assert not (tmp_path / "out").exists()


def test_prompts_of_another_backbone_are_passed_over_and_counted(run, library, prompts, caplog):
    other = replace(prompts[0], task="foreign", backbone=replace(prompts[0].backbone, fingerprint="0" * 16))
    save(other, library.path / "prompts" / f"{other.digest}.safetensors")
    assert {one.task for one in run("best").ranking} == set(WORDS)
    assert "1 prompts in" in caplog.text and "are passed over" in caplog.text


def test_the_first_start_is_that_of_the_keys(run):
    arms = [one.arm for one in run("best", starts=("uniform", "vocabulary")).arms]
    assert [arm for arm in arms if arm.startswith("plain:")] == ["plain:vocabulary", "plain:uniform"]
    assert [one.arm for one in run("none", starts=("uniform",)).arms] == ["constant", "frozen", "plain:uniform"]


def test_an_average_of_unlike_sources_is_refused(run, monkeypatch):
    retrieve = transfers.retrieve

    def unlike(*args: Any, **settings: Any) -> Any:
        found = retrieve(*args, **settings)
        return replace(found, sources=tuple(replace(one, similarity=-0.1) for one in found.sources))

    monkeypatch.setattr(transfers, "retrieve", unlike)
    with pytest.raises(ConfigError, match="no source has a similarity above 0"):
        run("average", k=2)


def test_every_arm_says_what_it_cost(run):
    found = run("best", k=2).to_json()["arms"]
    assert all({"tokens", "relative_cost", "parameters", "shipped"} <= set(one) for one in found)
    constant, frozen, plain, source, spot = found
    assert constant["relative_cost"] == frozen["relative_cost"] == 0 and plain["relative_cost"] == 1
    assert all(before["tokens"] < after["tokens"] for before, after in pairwise((frozen, source, spot)))
    assert 2 < spot["relative_cost"] < 3
