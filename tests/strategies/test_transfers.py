"""Transfer on a tiny model: which rows choose, which report, and what the report says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from spot.collator import collator_for
from spot.config import TransferConfig, TuneConfig
from spot.errors import ConfigError, LibraryError, TaskError
from spot.evaluation.evaluation import evaluate
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.prompts.overlap import contains
from spot.prompts.prompt import Parent, load
from spot.storage.run_dir import RunDir
from spot.strategies.report import TransferReport
from spot.strategies.target import embed_target
from spot.strategies.transfers import transfer_rows
from spot.tasks.splits import Splits
from spot.tasks.task import Example, Task
from spot.training.result import read_results
from spot.training.tuning import tune_prompt

LABELS = ("no", "yes")
CONFIG = TransferConfig(steps=4, seeds=2, eval_every=2)


def rows(word: str, *numbers: int) -> tuple[Example, ...]:
    texts = [f"a {word} row with the number {number:04d}" for number in range(*numbers)]
    labels = [LABELS[number % 2] for number in range(*numbers)]
    return tuple(Example(text, text, (label,), texts=(text,)) for text, label in zip(texts, labels, strict=True))


def named(name: str) -> Task:
    return Task(name, lambda split: iter(()), ("train",), LABELS, ("accuracy",))


def roles_of(word: str) -> Splits:
    return Splits(rows(word, 0, 24), rows(word, 100, 112), rows(word, 200, 216))


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


@pytest.fixture(scope="module")
def library(backbone, tiny_folder, tmp_path_factory) -> Library:
    folder = tmp_path_factory.mktemp("sources")
    library = Library.create(folder / "library")
    for word in ("red", "green", "blue"):
        config = TuneConfig(
            task=word,
            backbone=str(tiny_folder("llama")),
            steps=4,
            length=3,
            batch_size=4,
            learning_rate=0.05,
            eval_every=2,
            key_step=3,
        )
        library.add(tune_prompt(config, named(word), backbone, roles_of(word), out=folder / word))
    return library


def test_the_arms_are_measured_on_the_same_untouched_rows(backbone, library, tmp_path):
    report = transfer_rows(named("toy"), roles_of("toy"), backbone, library, CONFIG, out=tmp_path)
    assert [arm.arm for arm in report.arms] == ["frozen", "plain:vocabulary", "source", "spot"]
    frozen, plain, source, spot = report.arms
    assert frozen.steps == source.steps == 0 and plain.steps == spot.steps == 4
    assert (frozen.parameters, spot.parameters) == (0, 3 * 32)
    assert len(plain.scores) == len(spot.scores) == 2
    assert spot.source == source.source == report.ranking[0].task
    assert {ranked.task for ranked in report.ranking} == {"red", "green", "blue"}
    for arm in report.arms:
        correct = [np.mean(evaluation.correct) * 100 for evaluation in arm.evaluations]
        assert arm.score == pytest.approx(np.mean(correct))
        assert arm.interval[0] <= arm.score <= arm.interval[1]
    assert report.gain == pytest.approx(spot.score - plain.score)
    assert plain.steps_to_plain is not None
    assert report.prompt_file.exists() and report.prompt.task == "toy"


def test_the_embedding_comes_from_the_plain_run_and_equals_a_run_of_its_own(backbone, library, tmp_path):
    transfer_rows(named("toy"), roles_of("toy"), backbone, library, replace_seeds(CONFIG, 1), out=tmp_path / "transfer")
    plain = load(tmp_path / "transfer" / "plain-vocabulary" / "prompt.safetensors")
    alone = embed_target(named("toy"), roles_of("toy"), backbone, library.key_recipe, out=tmp_path / "alone")
    assert np.array_equal(plain.key, alone.key) and np.array_equal(plain.start, alone.start)
    assert plain.key_recipe == alone.key_recipe == library.key_recipe


def replace_seeds(config: TransferConfig, seeds: int) -> TransferConfig:
    return config.model_copy(update={"seeds": seeds})


def test_a_finished_transfer_is_only_read(backbone, library, tmp_path):
    first = transfer_rows(named("toy"), roles_of("toy"), backbone, library, CONFIG, out=tmp_path)
    steps = []
    again = transfer_rows(
        named("toy"), roles_of("toy"), backbone, library, CONFIG, out=tmp_path, progress=lambda *at: steps.append(at)
    )
    assert again.to_json() == first.to_json() and steps == []


def test_best_of_k_is_chosen_on_selection_rows(backbone, library, tmp_path):
    config = CONFIG.model_copy(update={"k": 3, "seeds": 1})
    report = transfer_rows(named("toy"), roles_of("toy"), backbone, library, config, out=tmp_path)
    spot = report.arms[-1]
    runs = [read_results(RunDir(folder))[0] for folder in tmp_path.glob("spot-*")]
    selections = [max(point.score for point in run.curve) for run in runs]
    assert len(selections) == 3 and spot.selection == max(selections)
    assert spot.folder is not None and load(tmp_path / spot.folder / "prompt.safetensors").parents
    assert report.prompt_file.parent.name == next(arm.folder for arm in report.arms if arm.arm == report.chosen)
    wanted = pytest.approx(sum(run.seconds for run in runs), abs=0.01)
    assert spot.seconds == wanted, "the price of three runs belongs to the arm"


def test_average_starts_from_the_weighted_mean(backbone, library, tmp_path):
    config = CONFIG.model_copy(update={"strategy": "average", "k": 2, "seeds": 1})
    report = transfer_rows(named("toy"), roles_of("toy"), backbone, library, config, out=tmp_path)
    prompt = load(next(tmp_path.glob("spot-0-*")) / "prompt.safetensors")
    weights = np.clip([ranked.similarity for ranked in report.ranking[:2]], 0, None)
    weights = weights / weights.sum()
    sources = [library.get(ranked.prompt).value for ranked in report.ranking[:2]]
    np.testing.assert_allclose(prompt.start, weights[0] * sources[0] + weights[1] * sources[1], atol=1e-6)
    assert prompt.parents == tuple(
        Parent(ranked.prompt, float(weight)) for ranked, weight in zip(report.ranking, weights, strict=False)
    )


def test_none_is_plain_tuning_alone(backbone, library, tmp_path):
    config = CONFIG.model_copy(update={"strategy": "none"})
    report = transfer_rows(named("toy"), roles_of("toy"), backbone, library, config, out=tmp_path)
    assert [arm.arm for arm in report.arms] == ["frozen", "plain:vocabulary"]
    assert report.gain is None and report.ranking == () and "plain prompt tuning" in report.verdict


def test_a_tuned_model_stands_beside_the_prompts_and_is_never_chosen(backbone, library, tmp_path):
    config = CONFIG.model_copy(update={"model_learning_rate": 0.002, "seeds": 2})
    report = transfer_rows(named("toy"), roles_of("toy"), backbone, library, config, out=tmp_path)
    model = report.arms[-1]
    assert model.arm == "model" and model.parameters == backbone.parameters and model.steps == 4
    assert len(model.scores) == 2 and report.chosen != "model"
    for seed in range(2):
        tuned = Backbone.load(str(tmp_path / f"model-{seed}" / "model"))
        collator = collator_for(tuned, named("toy"))
        wanted = evaluate(tuned, torch.zeros(0, 32), named("toy"), collator, roles_of("toy").report)
        assert model.scores[seed] == pytest.approx(wanted.primary)


def seen_by(library: Library, word: str) -> tuple[Example, ...]:
    """The rows that the source's run drew."""
    sketch = library.get(word).sketch
    return tuple(row for row in rows(word, 0, 24) if contains(sketch, row.texts[0]))


def test_rows_that_a_source_has_seen_are_left_out_for_every_arm(backbone, library, tmp_path, caplog):
    ours = roles_of("toy")
    mixed = Splits(ours.train, ours.selection, ours.report[:10] + seen_by(library, "red")[:4])
    report = transfer_rows(named("toy"), mixed, backbone, library, CONFIG, out=tmp_path)
    assert report.left_out == 4 and report.rows["report"] == 10
    assert "4 of 14 report rows are in a source's training rows" in caplog.text
    assert all(len(evaluation.correct) == 10 for arm in report.arms for evaluation in arm.evaluations)


def test_a_target_whose_rows_are_all_seen_is_refused(backbone, library, tmp_path):
    seen = Splits(rows("toy", 0, 8), rows("toy", 9, 12), seen_by(library, "red"))
    with pytest.raises(TaskError, match="no honest figure is possible"):
        transfer_rows(named("toy"), seen, backbone, library, CONFIG, out=tmp_path)


def test_the_target_itself_is_no_source(backbone, library, tmp_path):
    fresh = Splits(rows("toy", 0, 24), rows("toy", 100, 112), rows("toy", 200, 216))
    report = transfer_rows(named("red"), fresh, backbone, library, CONFIG, out=tmp_path)
    assert {ranked.task for ranked in report.ranking} == {"green", "blue"}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"steps": 2}, ConfigError, "ends before the library's key step 3"),
        ({"k": 4}, ConfigError, "k is 4, but .* 3 candidates"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_trained(backbone, library, tmp_path, settings, error, message):
    config = CONFIG.model_copy(update=settings)
    with pytest.raises(error, match=message):
        transfer_rows(named("toy"), roles_of("toy"), backbone, library, config, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_library_of_another_backbone_is_refused(tiny_folder, library, tmp_path):
    other = Backbone.load(str(tiny_folder("qwen2")))
    with pytest.raises(LibraryError, match=r"tiny-llama.*tiny-qwen2"):
        transfer_rows(named("toy"), roles_of("toy"), other, library, CONFIG, out=tmp_path / "out")


def test_the_verdict_follows_the_interval(backbone, library, tmp_path):
    report = transfer_rows(named("toy"), roles_of("toy"), backbone, library, CONFIG, out=tmp_path)
    for gain, interval, words in (
        (5.0, (1.0, 9.0), "helped: +5.0 points"),
        (-5.0, (-9.0, -1.0), "HURT"),
        (1.0, (-3.0, 5.0), "did not win clearly"),
    ):
        assert words in replace(report, gain=gain, gain_interval=interval).verdict
    assert isinstance(report, TransferReport)
