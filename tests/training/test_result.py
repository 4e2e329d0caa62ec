"""`result.json`: what is written is read again, files of older versions are read, and damage is named."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from spot.errors import RunError
from spot.storage.run_dir import RunDir
from spot.training.result import (
    CurvePoint,
    RunResult,
    amount_at,
    mean_amount,
    mean_best_score,
    read_results,
    write_results,
)

RESULT = RunResult(
    task="cr",
    digest="0123",
    scores={"accuracy": 81.5},
    frozen_scores={"accuracy": 50.0},
    selection={"accuracy": 80.0},
    step=6,
    steps=6,
    tokens=1200,
    seconds=3.25,
    curve=(CurvePoint(0, 50.0, 0.7), CurvePoint(6, 80.0, None, 1200, 3.25)),
    diagnosis=("it stands still",),
    reported="rows",
)

TEXT = """{
  "runs": [
    {
      "task": "cr",
      "digest": "0123",
      "scores": {
        "accuracy": 81.5
      },
      "frozen_scores": {},
      "selection": {
        "accuracy": 80.0
      },
      "step": 0,
      "steps": 2,
      "tokens": 40,
      "seconds": 0.5,
      "curve": [
        {
          "step": 0,
          "score": 80.0,
          "nats": null,
          "tokens": 0,
          "seconds": 0.0
        }
      ],
      "diagnosis": [],
      "diverged": null,
      "dropped": false
    }
  ]
}
"""


BACKWARDS = [{"step": 2, "score": 1.0}, {"step": 0, "score": 1.0}]


def written(folder: Path, *results: RunResult) -> RunDir:
    with RunDir(folder) as run:
        run.create("", "0123")
        write_results(run, results)
    return RunDir(folder)


def test_results_survive_their_file(tmp_path):
    other = RunResult(
        task="cr",
        digest="4567",
        scores={},
        step=0,
        steps=1,
        tokens=4,
        seconds=0.0,
        curve=(CurvePoint(0, 50.0),),
        diverged="no number",
    )
    assert read_results(RunDir(tmp_path)) is None
    assert read_results(written(tmp_path, RESULT, other)) == (RESULT, other)


def test_a_file_has_the_keys_that_it_always_had(tmp_path):
    (tmp_path / "result.json").write_text(TEXT)
    (result,) = read_results(RunDir(tmp_path))
    assert result.curve == (CurvePoint(0, 80.0),) and result.diverged is None and result.best_score == 80.0
    written(tmp_path / "again", result)
    assert (tmp_path / "again" / "result.json").read_text() == TEXT
    assert json.loads((written(tmp_path / "b", RESULT).path / "result.json").read_text())["runs"][0]["reported"]


def test_files_of_older_versions_are_read(tmp_path):
    run = json.loads(TEXT)["runs"][0]
    for name in ("frozen_scores", "selection", "diverged", "dropped"):
        del run[name]
    (tmp_path / "result.json").write_text(json.dumps({"runs": [run]}))
    (result,) = read_results(RunDir(tmp_path))
    assert (result.frozen_scores, result.diverged, result.dropped, result.reported) == ({}, None, False, "")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("{", "it is not JSON"),
        ("[]", "found"),
        ("{}", "the field 'runs' is missing"),
        (TEXT.replace('"steps": 2', '"steps": "two"'), "the field 'runs.0.steps' holds 'two'"),
        (TEXT.replace('"tokens": 40,', ""), "the field 'runs.0.tokens' is missing"),
        (TEXT.replace('"score": 80.0', '"score": NaN'), "runs.0.curve.0.score"),
        (TEXT.replace('"score": 80.0', '"score": 1e9'), "the field 'runs.0.curve.0.score' holds 1000000000.0"),
        (TEXT.replace('"accuracy": 80.0', '"accuracy": -101.0'), "runs.0.selection.accuracy"),
        (TEXT.replace('"steps": 2', '"steps": -2'), "runs.0.steps"),
        (TEXT.replace('"steps": 2', '"steps": 1e400'), "runs.0.steps"),
        (TEXT.replace('"steps": 2', '"steps": true'), "runs.0.steps"),
        (TEXT.replace('"seconds": 0.5', '"seconds": -0.5'), "runs.0.seconds"),
        (TEXT.replace('"step": 0,\n      "steps"', '"step": 1,\n      "steps"'), "run 0 are not those of its curve"),
        (json.dumps({"runs": [{**json.loads(TEXT)["runs"][0], "curve": []}]}), "the field 'runs.0.curve' holds []"),
        (json.dumps({"runs": [{**json.loads(TEXT)["runs"][0], "curve": BACKWARDS}]}), "should rise in steps"),
        ("[" * 100_000, "it is not JSON"),
        ('{"runs": ' + "[" * 100_000, "it is not JSON"),
        (TEXT.replace('"digest"', '"mark"'), "there is a field 'runs.0.mark', which is not known here"),
    ],
)
def test_damage_is_named_with_file_and_field(tmp_path, text, named):
    (tmp_path / "result.json").write_text(text)
    with pytest.raises(RunError) as caught:
        read_results(RunDir(tmp_path))
    assert str(tmp_path / "result.json") in str(caught.value) and named in str(caught.value)
    assert str(caught.value).endswith("Delete it to let the run finish again.")


def test_results_of_other_runs_are_refused(tmp_path):
    folder = written(tmp_path, RESULT)
    assert read_results(folder, ["0123"]) == (RESULT,)
    for others in (["4567"], ["0123", "0123"], []):
        with pytest.raises(RunError, match=r"is of the runs '0123'.*Delete it"):
            read_results(folder, others)


def test_what_json_cannot_hold_is_refused_before_anything_is_written(tmp_path):
    wrong = RunResult(**{**vars(RESULT), "seconds": float("nan")})
    with RunDir(tmp_path) as folder:
        folder.create("", "0123")
        with pytest.raises(RunError, match="cannot be written as JSON"):
            write_results(folder, [wrong])
    assert read_results(RunDir(tmp_path)) is None


def test_results_are_read_without_torch():
    check = "import spot.training.result, sys; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_amounts_between_points_go_by_the_steps():
    walk = [CurvePoint(0, 50.0), CurvePoint(6, 60.0, tokens=600, seconds=3.0)]
    assert amount_at(walk, 4) == 400
    assert amount_at(walk, 4, "seconds") == 2.0


def test_means_are_over_the_runs():
    other = replace(RESULT, tokens=600, seconds=1.25, curve=(CurvePoint(0, 60.0),))
    assert (mean_amount([RESULT, other], "tokens"), mean_amount([RESULT, other], "seconds")) == (900, 2.25)
    assert mean_best_score([RESULT, other]) == 70.0
