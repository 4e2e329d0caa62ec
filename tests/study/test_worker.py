"""What a worker of a study finds, against the same runs made by hand on a tiny model."""

import csv
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from spot.evaluation.scoring import evaluate_rows, interval
from spot.models.backbone import Backbone
from spot.models.batch import Batch
from spot.prompts.overlap import build
from spot.prompts.prompt import SoftPrompt, from_bytes
from spot.study import records
from spot.study.cells import Cell, Gang, StudyPlan, Work, gangs, read_plan
from spot.study.executors import serial
from spot.study.record_folder import mistakes_of
from spot.study.records import Record, prompt_file, runs_folder
from spot.study.scheduler import run
from spot.study.worker import work
from spot.tasks.splits import Splits
from spot.training.run import Member, members_of, prepare_run
from spot.training.tuning import tune_runs

STUDY = """
name = "toy"
sources = ["red.toml", "green.toml"]
targets = ["blue.toml"]
seeds = 2
strategies = ["best", "average", "mixture"]
k = [2]
[source]
steps = 6
length = 3
batch_size = 4
key_step = 4
eval_every = 2
learning_rate = 0.05
train_rows = 24
select_rows = 12
report_rows = 16
[target]
steps = 4
length = 3
batch_size = 4
eval_every = 2
learning_rate = 0.05
train_rows = 24
select_rows = 12
report_rows = 16
"""
WORDS = ("red", "green", "blue")


@pytest.fixture(scope="module")
def backbone(tiny_folder) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


def write_rows(folder: Path, word: str, count: int = 160) -> None:
    with (folder / f"{word}.csv").open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow(["text", "label"])
        texts = [f"a {word} row with the number {number:04d}" for number in range(count)]
        lines.writerows((text, ("no", "yes")[number % 2]) for number, text in enumerate(texts))


@pytest.fixture
def planned(tmp_path, tiny_folder):
    for word in WORDS:
        write_rows(tmp_path, word)
        (tmp_path / f"{word}.toml").write_text(f'name = "{word}"\nrows = "{word}.csv"\n')

    def make(*overrides: str) -> StudyPlan:
        path = tmp_path / "study.toml"
        path.write_text(STUDY)
        return read_plan(path, [f"backbone={tiny_folder('llama')}", *overrides])

    return make


def gang_of(made: StudyPlan, kind: str, task: str, **wanted) -> Gang:
    return next(
        gang
        for gang in gangs(made.cells)
        if (gang.cells[0].kind, gang.cells[0].task) == (kind, task)
        and all(getattr(gang.cells[0], name) == value for name, value in wanted.items())
    )


def done(backbone: Backbone, item: Work) -> list[tuple[Cell, Record, SoftPrompt]]:
    found = work(backbone, item)
    assert not found.reason
    return list(zip(item.gang.cells, found.records, [from_bytes(one) for one in found.prompts], strict=True))


def measured(backbone: Backbone, cell: Cell, value: np.ndarray) -> tuple[float, tuple[float, float]]:
    """Score and interval of a prompt on all report rows of a cell's task."""
    [member], _ = members_of(cell.config, None)
    run = prepare_run(cell.config, (member,), backbone)
    collator, rows = run.collator_of(member, backbone), member.splits.report
    found = evaluate_rows(backbone, torch.tensor(value), member.task, collator, rows)
    return found.primary, interval([found], member.task, rows)


def test_a_gang_from_scratch_is_the_runs_of_its_seeds(planned, backbone, tmp_path):
    gang = gang_of(planned(), "plain", "blue")
    runs = []
    for cell in gang.cells:
        [member], _ = members_of(cell.config, None)
        blind = Splits(member.splits.train, member.splits.selection, ())
        runs.append(prepare_run(cell.config, (Member(member.task, blind),), backbone))
    by_hand = [tuned.prompt for tuned in tune_runs(runs, backbone, tmp_path / "by-hand")]
    for (cell, record, prompt), expected in zip(done(backbone, Work(gang)), by_hand, strict=True):
        np.testing.assert_array_equal(prompt.value, expected.value)
        np.testing.assert_array_equal(prompt.key, expected.key)
        assert (record.score, record.interval) == measured(backbone, cell, expected.value)
        assert record.frozen == measured(backbone, cell, np.zeros((0, 32), np.float32))[0]
        moved = (expected.key - expected.start).mean(axis=0)
        np.testing.assert_allclose(record.embedding["mean"], moved / np.linalg.norm(moved), rtol=1e-5)
        assert record.rows == {"train": 24, "select": 12, "report": 16, "overlap": 0}
        assert (record.steps, record.tuned, record.shipped) == (4, 3 * 32, 3 * 32) and record.as_is is None
        assert [point.step for point in record.curve] == [0, 2, 4] and record.tokens > 0
        assert record.digest == cell.digest and record.config["backbone_parameters"] == backbone.parameters


def test_a_pair_starts_from_its_source(planned, backbone):
    made = planned()
    sources = done(backbone, Work(gang_of(made, "source", "red")))
    gang = gang_of(made, "pair", "blue")
    contents = work(backbone, Work(gang_of(made, "source", "red"))).prompts
    item = Work(gang, starts=tuple((content,) for content in contents), sources=(("red",),) * 2)
    for (cell, record, prompt), (_, _, source) in zip(done(backbone, item), sources, strict=True):
        np.testing.assert_array_equal(prompt.start, source.value)
        assert [parent.digest for parent in prompt.parents] == [source.digest]
        assert record.as_is == measured(backbone, cell, source.value)[0]
        assert record.score == measured(backbone, cell, prompt.value)[0] and record.frozen is None
        assert record.sources == ("red",) and record.weights == () and not record.embedding


def test_the_start_of_an_average_is_the_weighted_mean(planned, backbone):
    made = planned()
    contents = [work(backbone, Work(gang_of(made, "source", word))).prompts for word in ("red", "green")]
    weights = (0.25, 0.75)
    item = Work(
        gang_of(made, "average", "blue"),
        starts=tuple(zip(*contents, strict=True)),
        sources=(("red", "green"),) * 2,
        weights=(weights,) * 2,
    )
    for (_, record, prompt), parts in zip(done(backbone, item), zip(*contents, strict=True), strict=True):
        red, green = (from_bytes(content).value for content in parts)
        np.testing.assert_allclose(prompt.start, 0.25 * red + 0.75 * green, atol=1e-6)
        assert record.weights == weights and record.sources == ("red", "green")


def test_a_mixture_is_tuned_on_all_its_tasks_to_the_end_before(planned, backbone, tmp_path):
    made = planned()
    gang = gang_of(made, "mixture", "blue")
    item = Work(gang, starts=((b"",),) * 2, sources=(("red",),) * 2, mixed=((str(tmp_path / "red.toml"),),) * 2)
    for at, (_, record, prompt) in enumerate(done(backbone, item)):
        folder = runs_folder() / f"{gang.digest}-before"
        before = from_bytes((folder / f"prompt-{at}.safetensors").read_bytes())
        assert before.task == "mixture of blue + red" and before.step == 6
        np.testing.assert_array_equal(prompt.start, before.value)
        assert record.tokens > record.curve[-1].tokens and record.sources == ("red",)


def test_report_rows_that_a_source_has_seen_are_left_out(planned, backbone):
    gang = gang_of(planned(), "plain", "blue")
    [member], _ = members_of(gang.cells[0].config, None)
    known, rest = member.splits.report[:5], member.splits.report[5:]
    sketches = (build(row.texts[0] for row in known[:2]), build(row.texts[0] for row in known[2:]))
    item = Work(gang, sketches=(sketches, ()))
    (cell, record, prompt), (_, other, _) = done(backbone, item)
    assert other.rows["overlap"] == 0, "another seed's sources have not seen these rows"
    assert record.rows["overlap"] == 5 and record.rows["report"] == len(rest) == 11
    run = prepare_run(cell.config, (member,), backbone)
    found = evaluate_rows(backbone, torch.tensor(prompt.value), member.task, run.collator_of(member, backbone), rest)
    assert record.score == found.primary
    clean = done(backbone, Work(gang))[0][1]
    assert clean.data != record.data and clean.rows["overlap"] == 0
    sketch = build(row.texts[0] for row in member.splits.report)
    all_seen = work(backbone, Work(gang, sketches=((sketch,), ())))
    assert "all 16 report rows of blue" in all_seen.reason and all_seen.records == ()


def test_a_whole_model_is_tuned_measured_and_thrown_away(planned, backbone):
    made = planned("models=0.01", 'strategies=["none"]')
    gang = gang_of(made, "model", "blue")
    found = work(backbone, Work(gang))
    [record] = found.records
    assert found.prompts == (b"",) and record.tuned == record.shipped == backbone.parameters
    assert 0 <= record.score <= 100 and record.interval and not (runs_folder() / gang.digest).exists()


def test_multi_task_model_tuning_tunes_on_the_mixture_first(planned, backbone, tmp_path):
    (tmp_path / "both.toml").write_text('name = "both"\ntasks = ["red.toml", "green.toml"]\n')
    made = planned("models=0.01", 'strategies=["none"]', "model_mixture=both.toml")
    alone = gang_of(made, "model", "blue", sources=())
    after = gang_of(made, "model", "blue", sources=("mixture:both",))
    [one], [other] = (work(backbone, Work(gang)).records for gang in (alone, after))
    assert one.curve[0].nats != other.curve[0].nats and other.tokens > other.curve[-1].tokens
    assert one.tokens == one.curve[-1].tokens


@pytest.mark.parametrize("broken", [(1,), (0, 1)])
def test_a_run_that_diverges_has_a_reason_in_the_place_of_a_score(planned, backbone, monkeypatch, broken):
    loss = Backbone.loss

    def diverging(self: Backbone, batch: Batch, prompts: torch.Tensor) -> torch.Tensor:
        is_broken = torch.isin(batch.prompt_index, torch.tensor(broken, device=batch.prompt_index.device))
        return loss(self, batch, prompts) * torch.where(is_broken, float("nan"), 1.0)

    monkeypatch.setattr(Backbone, "loss", diverging)
    found = work(backbone, Work(gang_of(planned(), "plain", "blue")))
    assert not found.reason
    for at, (record, content) in enumerate(zip(found.records, found.prompts, strict=True)):
        if at in broken:
            assert content == b"" and math.isnan(record.score) and "diverged" in record.reason and not record.embedding
        else:
            assert content and 0 <= record.score <= 100 and record.embedding and not record.reason


def test_rows_that_are_not_here_are_a_reason(planned, backbone, tmp_path):
    made = planned('targets=["cr"]')
    found = work(backbone, Work(gang_of(made, "plain", "cr"), data=str(tmp_path)))
    assert found.records == () and str(tmp_path / "cr") in found.reason


def test_what_one_would_pick_instead_is_measured_on_the_rows_of_the_prompts(planned, backbone):
    made = planned('instead=["tfidf"]')
    plain = done(backbone, Work(gang_of(made, "plain", "blue")))
    for kind in ("constant", "tfidf"):
        found = work(backbone, Work(gang_of(made, kind, "blue")))
        assert found.prompts == (b"", b"") and not found.reason
        for cell, record, (_, beside, _) in zip(gang_of(made, kind, "blue").cells, found.records, plain, strict=True):
            [member], _ = members_of(cell.config, None)
            assert (
                record.data == beside.data and record.rows == beside.rows and record.answers.rows == beside.answers.rows
            )
            assert not mistakes_of(record, made.expected[cell.digest]) and record.seconds >= 0
            [point] = record.curve
            if kind == "constant":
                answers = [row.answers[0] for row in member.splits.train]
                most = max(member.task.labels, key=answers.count)
                assert record.config["chosen"] == {"answer": most} and record.tuned == 0
                share = [row.answers[0] == most for row in member.splits.selection]
                assert point.score == pytest.approx(100 * np.mean(share))
                assert record.score == pytest.approx(
                    100 * np.mean([row.answers[0] == most for row in member.splits.report])
                )


def test_an_arm_that_does_not_suit_a_task_says_why_and_the_others_go_on(planned, backbone, tmp_path):
    rows = "".join(f"row {n},answer {n % 7} of many\n" for n in range(160))
    (tmp_path / "open.csv").write_text(f"text,answer\n{rows}")
    (tmp_path / "open.toml").write_text('name = "open"\nrows = "open.csv"\nanswer = "answer"\n')
    made = planned('targets=["open.toml"]', 'instead=["tfidf"]')
    tfidf, constant = (work(backbone, Work(gang_of(made, kind, "open"))).records for kind in ("tfidf", "constant"))
    assert all(math.isnan(record.score) and "open answers" in record.reason for record in tfidf)
    assert all(0 <= record.score <= 100 for record in constant)


def test_a_run_in_the_cache_of_other_rows_is_made_again(planned, backbone, tmp_path):
    gang = gang_of(planned(), "plain", "blue")
    before = done(backbone, Work(gang))[0][1]
    write_rows(tmp_path, "blue", 200)
    after = done(backbone, Work(gang))[0][1]
    assert after.data != before.data


def test_a_study_with_real_workers_finishes_and_starts_transfers_where_it_should(planned, backbone):
    made = planned("restarts=1")
    outcome = run(made, serial, lambda: backbone, work)
    assert outcome.finished == outcome.cells == len(made.cells) and not outcome.failed
    found = {record.digest: record for record in records.read_records(made.records)}
    for cell in made.cells:
        assert found[cell.digest].reason or 0 <= found[cell.digest].score <= 100
        if cell.kind == "pair":
            prompt = from_bytes(prompt_file(cell.digest).read_bytes())
            source = from_bytes(prompt_file(cell.needs[0]).read_bytes())
            np.testing.assert_array_equal(prompt.start, source.value)
            assert set(found[cell.digest].similarity) == {"mean", "token", "max"}
    for seed in range(2):
        report_rows = {record.data for record in found.values() if record.kind != "source" and record.seed == seed}
        assert len(report_rows) == 1, "all arms of a target and seed share their report rows"


def test_each_seed_draws_rows_of_its_own_unless_all_share_one(planned, backbone):
    for rows, draws in (("per_seed", 2), ("fixed", 1)):
        [gang] = [gang for gang in gangs(planned(f"rows={rows}").cells) if gang.cells[0].start == "classes"]
        ends = done(backbone, Work(gang))
        assert (
            len({record.data for _, record, _ in ends}) == len({prompt.data_digest for _, _, prompt in ends}) == draws
        )
        for cell, record, prompt in ends:
            assert record.rows_seed == (cell.seed if rows == "per_seed" else 0)
            assert record.score == measured(backbone, cell, prompt.value)[0]
            assert record.answers and 100 * record.answers.right().mean() == pytest.approx(record.scores["accuracy"])
