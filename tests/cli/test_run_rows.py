"""Which rows a run reads: those of a mixture's tasks by their rates, and test rows not before the report."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from spot.cli import tune as tune_command
from spot.config import TransferConfig, TuneConfig
from spot.errors import TaskError
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.prompts.prompt import load
from spot.storage.run_dir import RunDir
from spot.strategies.transfers import transfer_rows
from spot.tasks.registry import get
from spot.tasks.splits import LazyRows, Splits, split_rows
from spot.tasks.task import Example
from spot.training.tuning import tune_prompt
from tests.support.commands import Spot, refused
from tests.support.data_rows import split_path, write_jsonl
from tests.support.small_runs import FAST, STEPS, put, settings, user_task
from tests.support.toy_runs import named, word_rows

# Mixtures.

PARAPHRASE = ("cxc", "glue/mrpc", "glue/qqp", "glue/stsb")


@pytest.fixture(scope="module")
def paraphrase(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("paraphrase"), *PARAPHRASE)


@pytest.mark.parametrize("family", ["t5", "llama"])
def test_a_mixture_by_name_is_tuned_and_scored_task_by_task(
    spot: Spot, tiny_folder: Callable[[str], Path], paraphrase: Path, tmp_path: Path, family: str
):
    common = ["--backbone", tiny_folder(family), "--data", paraphrase]
    found = spot("tune", "mixture:paraphrase", *common, *FAST, "--out", tmp_path / "run", "--json").json
    assert found["task"] == "mixture:paraphrase" == load(found["prompt"]).task
    wanted = {f"{name} {metric}" for name in ("glue/mrpc", "glue/qqp") for metric in ("f1", "accuracy")}
    assert wanted < set(found["scores"]) == set(found["frozen_scores"]) == set(found["selection"])
    assert {key.split()[0] for key in found["scores"]} == set(PARAPHRASE)
    for name in ("glue/mrpc", "glue/stsb"):  # a test split reports, which the prompt can be scored on again
        words = ["--task", name, "--split", "test", *common, "--json"]
        for prompt, key in ((tmp_path / "run", "scores"), ("none", "frozen_scores")):
            scored = spot("evaluate", prompt, *words).json["scores"]
            assert scored == {k.removeprefix(f"{name} "): v for k, v in found[key].items() if k.startswith(name)}
    records = RunDir(tmp_path / "run").read_log()
    drawn = Counter()
    for record in records:
        drawn.update({name: part["rows"] for name, part in record["members"].items()})
    assert set(drawn) == set(PARAPHRASE) and drawn.total() == 4 * STEPS
    text = spot("tune", "mixture:paraphrase", *common, *FAST, "--out", tmp_path / "run").out
    parts = [split_rows(get(name, paraphrase), None, 100, 400, 0) for name in PARAPHRASE]
    assert f"on {sum(len(part.report) for part in parts)} rows (without a prompt: " in text
    assert f"chosen on {sum(len(part.selection) for part in parts)} other rows" in text


def test_a_mixture_by_file_draws_by_its_rates(spot: Spot, model: list[str], tmp_path: Path):
    data = put(tmp_path / "data", "cr", "glue/sst2")
    user_task(tmp_path)
    mixture = tmp_path / "mixture.toml"
    rates = '[rates]\ncr = 1\n"glue/sst2" = 1\n"mood.toml" = 6\n'
    mixture.write_text(f'name = "mine"\ntasks = ["cr", "glue/sst2", "mood.toml"]\n{rates}')
    words = [*model, "--data", data, *FAST, "--steps", 12, "--out", tmp_path / "run"]
    found = spot("tune", mixture, *words, "--json").json
    assert found["task"] == "mixture:mine"
    assert set(found["scores"]) == {"cr accuracy", "glue/sst2 accuracy", "mood accuracy"}
    drawn = Counter()
    for record in RunDir(tmp_path / "run").read_log():
        drawn.update({name: part["rows"] for name, part in record["members"].items()})
    for name, share in {"cr": 1 / 8, "glue/sst2": 1 / 8, "mood": 6 / 8}.items():
        assert abs(drawn[name] - share * 48) <= 3
    for task, name in ((tmp_path / "mood.toml", "mood"), ("glue/sst2", "glue/sst2")):
        scored = spot("evaluate", tmp_path / "run", "--task", task, "--split", "test", *model, "--data", data, "--json")
        assert scored.json["scores"] == {"accuracy": found["scores"][f"{name} accuracy"]}


def test_a_mixture_that_was_interrupted_goes_on_to_the_same_bytes(
    spot: Spot, model: list[str], paraphrase: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = ["tune", "mixture:paraphrase", *model, "--data", paraphrase, *FAST, "--steps", 8, *settings(key_step=4)]
    assert spot(*words, "--out", tmp_path / "whole").code == 0
    for stop in (3, 6):
        folder = tmp_path / f"part-{stop}"
        with hooked(monkeypatch, stop, interrupt):
            result = spot(*words, "--out", folder)
        assert (result.code, result.out) == (130, "") and "goes on from its last checkpoint" in result.err
        assert not (folder / "prompt.safetensors").exists()
        steps: list[int] = []
        with hooked(monkeypatch, None, None, steps):
            assert spot(*words, "--out", folder).code == 0
        assert steps[0] == stop // 2 * 2 + 1, "nothing before the checkpoint is done again"
        assert (folder / "prompt.safetensors").read_bytes() == (tmp_path / "whole" / "prompt.safetensors").read_bytes()


def interrupt() -> None:
    raise KeyboardInterrupt


@contextmanager
def hooked(
    monkeypatch: pytest.MonkeyPatch, at: int | None, action: Callable[[], None] | None, seen: list[int] | None = None
) -> Iterator[None]:
    """Within it `spot tune` calls `action` when training step `at` is done, the first time; and lists its steps."""
    waiting = True

    def step(done: int, total: int) -> None:
        nonlocal waiting
        if seen is not None:
            seen.append(done)
        if waiting and done == at and action is not None:
            waiting = False
            action()

    @contextmanager
    def progress(label: str) -> Iterator[Callable[[int, int], None]]:
        yield step if label.startswith("tuning ") else lambda done, total: None

    with monkeypatch.context() as patch:
        patch.setattr(tune_command, "progress", progress)
        yield


# Mixtures that cannot be used.


def test_mixtures_that_cannot_be_used(spot: Spot, model: list[str], tmp_path: Path):
    data = put(tmp_path / "data", "cr", "glue/sst2", "glue/stsb")
    user_task(tmp_path)
    words = [*model, "--data", data, *FAST, "--out", tmp_path / "run"]
    refused(spot("tune", "mixture:parafrase", *words), "no mixture 'parafrase'", "did you mean 'paraphrase'")
    mixed = tmp_path / "mixed.toml"
    mixed.write_text('name = "mine"\ntasks = ["cr", "glue/stsb", "mood.toml"]\n')
    refused(
        spot("tune", mixed, *words), "mixture:mine", "different forms", "label: cr, mood; number: glue/stsb", '"any"'
    )
    mixed.write_text('name = "mine"\ntasks = ["cr", "glue/sst"]\n')
    refused(spot("tune", mixed, *words), "mixed.toml", "unknown task 'glue/sst'", "did you mean 'glue/sst2'")
    mixed.write_text('name = "mine"\ntasks = ["cr", "none.toml"]\n')
    refused(spot("tune", mixed, *words), "mixed.toml", "there is no file", "none.toml")
    refused(spot("tune", "mixture:glue", *words), "no rows for glue/cola, split validation", "cola/validation.jsonl")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ["empty file", "no example"])
def test_a_member_without_rows_is_named(spot: Spot, model: list[str], tmp_path: Path, kind: str):
    data = put(tmp_path / "data", "cr")
    if kind == "empty file":
        put(data, "glue/sst2")
        split_path(data, "glue/sst2", "train").write_text("")
        name, said = "glue/sst2", "sst2/train.jsonl is empty"
    else:
        row = {"text": "a cat saw it", "span1_text": "a cat", "span2_text": "it", "span2_index": 3, "label": 0}
        for split, count in (("train", 6), ("validation", 12)):
            write_jsonl(data / "wsc" / f"{split}.jsonl", [{**row, "text": f"a cat saw it {n}"} for n in range(count)])
        name, said = "superglue/wsc", "superglue/wsc has no row left for train"
    mixture = tmp_path / "mixed.toml"
    mixture.write_text(f'name = "mine"\ntasks = ["cr", "{name}"]\noutputs = "any"\n')
    refused(spot("tune", mixture, *model, "--data", data, *FAST), said)


def test_a_budget_of_tokens_is_for_one_task(spot: Spot, model: list[str], paraphrase: Path, tmp_path: Path):
    words = ["tune", "mixture:paraphrase", *model, "--data", paraphrase, *FAST, *settings(batch_tokens=90)]
    refused(spot(*words, "--out", tmp_path / "run"), "batch_tokens is for one task", "batch_size")
    assert not (tmp_path / "run").exists()


# Test rows are read when training is done, and not before.

GARBAGE = "{this is no row\n"


@dataclass(frozen=True)
class Closed:
    """A task whose test split can be opened later."""

    task: object
    data: Path
    file: Path  # of the test split
    content: str

    def shut(self) -> None:
        self.file.write_text(GARBAGE)

    def open(self) -> None:
        self.file.write_text(self.content)


def close_later(kind: str, folder: Path) -> Closed:
    data = put(folder / "data", "glue/sst2", "cr")
    file = split_path(data, "glue/sst2", "test")
    task: object = "glue/sst2"
    if kind == "task file":
        task, file = user_task(folder), folder / "mood-test.jsonl"
    elif kind == "mixture":
        task = folder / "mixture.toml"
        task.write_text('name = "mine"\ntasks = ["cr", "glue/sst2"]\n')
    return Closed(task, data, file, file.read_text())


KINDS = pytest.mark.parametrize(
    ("kind", "method"), [("known", "prompt"), ("known", "model"), ("task file", "prompt"), ("mixture", "prompt")]
)


@KINDS
def test_a_test_split_that_opens_after_the_last_step_is_early_enough(
    spot: Spot, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
):
    closed = close_later(kind, tmp_path)
    words = ["tune", closed.task, *model, "--data", closed.data, *FAST, "--method", method, "--json", "--out"]
    whole = spot(*words, tmp_path / "whole").json
    closed.shut()
    with hooked(monkeypatch, STEPS, closed.open):
        late = spot(*words, tmp_path / "late").json
    kept = ("task", "scores", "frozen_scores", "selection", "step", "steps", "tokens")
    assert {key: late[key] for key in kept} == {key: whole[key] for key in kept}
    assert late["scores"] != {} and set(late["scores"]) == set(late["selection"])


@KINDS
def test_a_test_split_that_cannot_be_read_is_said_at_the_report_and_the_training_is_kept(
    spot: Spot, model: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, method: str
):
    closed = close_later(kind, tmp_path)
    words = ["tune", closed.task, *model, "--data", closed.data, *FAST, "--method", method, "--out"]
    whole = spot(*words, tmp_path / "whole", "--json").json
    closed.shut()
    steps: list[int] = []
    with hooked(monkeypatch, None, None, steps):
        refused(spot(*words, tmp_path / "run"), f"{closed.file}, line 1: not JSON")
    assert steps[:STEPS] == list(range(1, STEPS + 1)), "every step was trained"
    log = (tmp_path / "run" / "log.jsonl").read_bytes()
    assert [record["step"] for record in RunDir(tmp_path / "run").read_log()] == [0, 2, 4]
    closed.open()
    found = spot(*words, tmp_path / "run", "--json").json
    assert (tmp_path / "run" / "log.jsonl").read_bytes() == log, "nothing is trained a second time"
    assert (found["scores"], found["step"]) == (whole["scores"], whole["step"])
    name = "prompt.safetensors" if method == "prompt" else "model/model.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("kind", ["known", "task file"])
@pytest.mark.parametrize("found", ["nothing", "a folder"])
def test_a_test_file_that_is_none_is_one_message(spot: Spot, model: list[str], tmp_path: Path, kind: str, found: str):
    closed = close_later(kind, tmp_path)
    closed.file.unlink()
    if found == "a folder":
        closed.file.mkdir()
    words = ["tune", closed.task, *model, "--data", closed.data, *FAST, "--out", tmp_path / "run"]
    refused(spot(*words), str(closed.file))


# The same for a transfer.


@pytest.fixture(scope="module")
def sources(t5: Path, tmp_path_factory: pytest.TempPathFactory) -> Library:
    folder, backbone = tmp_path_factory.mktemp("sources"), Backbone.load(str(t5))
    library = Library.create(folder / "library")
    for word in ("red", "green"):
        config = TuneConfig(
            task=word, backbone=str(t5), steps=4, length=3, batch_size=4, learning_rate=0.05, eval_every=2, key_step=3
        )
        parts = Splits(word_rows(word, 0, 16), word_rows(word, 100, 108), word_rows(word, 200, 208))
        library.add(tune_prompt(config, named(word), backbone, parts, out=folder / word))
    return library


def test_a_transfer_reads_no_report_row_before_the_last_arm_is_tuned(t5: Path, sources: Library, tmp_path: Path):
    backbone = Backbone.load(str(t5))
    train, select, report = word_rows("toy", 0, 16), word_rows("toy", 100, 108), word_rows("toy", 200, 210)
    config = TransferConfig(
        steps=4, seeds=1, eval_every=2, k=2, starts=("vocabulary", "uniform"), model_learning_rate=0.001
    )
    gangs = {"plain-vocabulary", "plain-uniform", "spot-0", "spot-1", "model-0"}
    reads: list[bool] = []
    is_shut = True

    def read() -> tuple[Example, ...]:
        finished = {"-".join(path.parent.name.split("-")[:2]) for path in tmp_path.glob("out/*/result.json")}
        assert finished == gangs and not (tmp_path / "out" / "report-rows").exists()
        reads.append(is_shut)
        if is_shut:
            raise TaskError("test.jsonl: not now")
        return report

    def run(out: Path, rows: Any, steps: list[tuple[int, int]]) -> Any:
        return transfer_rows(
            named("toy"),
            Splits(train, select, rows),
            backbone,
            sources,
            config,
            out=out,
            progress=lambda *at: steps.append(at),
        )

    first: list[tuple[int, int]] = []
    with pytest.raises(TaskError, match="not now"):
        run(tmp_path / "out", LazyRows(read), first)
    assert len(first) >= 5 * 4, "five arms were tuned"
    made = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.safetensors")}
    is_shut = False
    again: list[tuple[int, int]] = []
    found = run(tmp_path / "out", LazyRows(read), again)
    assert reads == [True, False], "rows are read once"
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.safetensors")} == made
    assert not [at for at in again if at[1] == 4], "nothing is tuned a second time"
    wanted = run(tmp_path / "whole", report, [])
    assert [(arm.arm, arm.scores) for arm in found.arms] == [(arm.arm, arm.scores) for arm in wanted.arms]
    assert (found.chosen, found.gain, found.rows) == (wanted.chosen, wanted.gain, wanted.rows)
