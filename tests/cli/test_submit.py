"""`spot submit` from predictions in a folder and from prompts of a tiny model, and what it refuses."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt, save
from spot.tasks.registry import TABLE
from spot.tasks.submission import check_submission
from tests.support.commands import Result, call, refused
from tests.support.submissions import ROWS, SUPERGLUE, idx, write_predictions

PROMPTED = sorted({sheet.source for sheet in SUPERGLUE})


@pytest.fixture
def spot(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    return lambda *words: call(capsys, *words)


@pytest.fixture(scope="module")
def prompts(tmp_path_factory: pytest.TempPathFactory, tiny_folder: Callable[[str], Path]) -> Path:
    """A prompt for each task of SuperGLUE, half of them as files and half in runs."""
    folder = tmp_path_factory.mktemp("prompts")
    backbone = Backbone.load(str(tiny_folder("t5"))).id
    for number, task in enumerate(PROMPTED):
        value = np.random.default_rng(number).normal(size=(2, backbone.width)).astype(np.float32)
        name = f"{number}.safetensors" if number % 2 else f"{number}/prompt.safetensors"
        save(SoftPrompt(value=value, backbone=backbone, task=task, step=1, seed=0), folder / name)
    return folder


FIELDS = {
    "boolq": {"passage": "It rains.", "question": "is it wet"},
    "cb": {"premise": "It rains.", "hypothesis": "It is wet."},
    "copa": {"premise": "It rained.", "choice1": "Wet.", "choice2": "Dry.", "question": "effect"},
    "multirc": {"paragraph": "It rains.", "question": "What?", "answer": "Rain."},
    "record": {
        "passage": "Ann came.\n@highlight\nSo did Eve.",
        "query": "@placeholder left.",
        "entities": ["Ann", "Eve"],
        "answers": [],
    },
    "rte": {"premise": "It rains.", "hypothesis": "It is wet."},
    "wic": {
        "sentence1": "a bank",
        "sentence2": "the bank",
        "word": "bank",
        "start1": 2,
        "end1": 6,
        "start2": 4,
        "end2": 8,
    },
    "wsc": {
        "text": "Ann saw Eve and she left.",
        "span1_index": 0,
        "span1_text": "Ann",
        "span2_index": 4,
        "span2_text": "she",
    },
    "axb": {"sentence1": "It rains.", "sentence2": "It is wet."},
    "axg": {"premise": "It rains.", "hypothesis": "It is wet."},
}


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A data folder with test splits without labels, as the hub has them."""
    folder = tmp_path / "data"
    for sheet in SUPERGLUE:
        rows = [{**FIELDS[sheet.stem], "idx": idx(sheet.stem, number), "label": -1} for number in range(ROWS)]
        path = folder / (TABLE[sheet.task].folder or sheet.task.replace("/", "_")) / "test.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text("\n".join(map(json.dumps, rows)))
    monkeypatch.setenv("SPOT_DATA", str(folder))
    return folder


def test_predictions_become_a_submission(spot: Callable[..., Result], tmp_path: Path):
    folder, out = write_predictions(tmp_path / "predictions"), tmp_path / "out"
    result = spot("submit", "superglue", "--predictions", folder, "--out", out, "--trial", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out) == {
        "benchmark": "superglue",
        "folder": str(out),
        "zip": str(out / "superglue.zip"),
        "rows": {sheet.name: ROWS for sheet in SUPERGLUE},
    }
    assert check_submission(out, official=False) == {sheet.name: ROWS for sheet in SUPERGLUE}
    shown = spot("submit", "superglue", "--predictions", folder, "--out", out, "--trial")
    assert "MultiRC.jsonl" in shown.out and "superglue.zip" in shown.out
    assert "a trial: the server takes only the official numbers of rows" in shown.err


def test_prompts_answer_the_test_sets(
    spot: Callable[..., Result], prompts: Path, rows: Path, tiny_folder: Callable, tmp_path: Path
):
    out = tmp_path / "out"
    words = ["--prompts", prompts, "--backbone", tiny_folder("t5"), "--out", out, "--trial"]
    result = spot("submit", "superglue", *words)
    assert result.code == 0, result.err
    assert check_submission(out, official=False) == {sheet.name: ROWS for sheet in SUPERGLUE}
    assert result.err.count("loading ") == 2, "one model, loaded once: a line before and one after"
    assert f"answering {len(SUPERGLUE)} test sets" in result.err


def test_prompts_answer_only_what_has_no_predictions(
    spot: Callable[..., Result], prompts: Path, rows: Path, tiny_folder: Callable, tmp_path: Path
):
    folder, out = write_predictions(tmp_path / "predictions", skip="cb"), tmp_path / "out"
    words = ["--predictions", folder, "--prompts", prompts, "--backbone", tiny_folder("t5"), "--out", out, "--trial"]
    result = spot("submit", "superglue", *words)
    assert result.code == 0, result.err
    assert [line for line in result.err.splitlines() if "answering" in line and line.endswith("...")] == [
        "answering 1 test set ..."
    ]


def test_bad_input_is_one_message(spot: Callable[..., Result], tmp_path: Path):
    out = ["--out", tmp_path / "out"]
    predictions = ["--predictions", write_predictions(tmp_path / "predictions", skip="wsc")]
    refused(spot("submit", "superglu", *predictions, *out), "no benchmark 'superglu'; did you mean 'superglue'")
    refused(spot("submit", "superglue", *out), "nothing to hand in")
    refused(spot("submit", "superglue", *predictions, *out, "--trial"), "no predictions for superglue/wsc")
    refused(
        spot("submit", "superglue", *predictions, *out),
        "superglue/cb: missing: idx 3, 4, 5, 6, 7 and 242 more; expected 0 to 249",
    )
    refused(
        spot("submit", "glue", *predictions, *out), "axb.jsonl is named after no test set of glue; did you mean 'ax'"
    )
    refused(spot("submit", "glue", "--predictions", tmp_path / "none", *out), "none is no folder")
    with (tmp_path / "predictions" / "cb.jsonl").open("a") as file:
        file.write('{"idx": 0, "label": "entailment"}\n{"idx": 3, "label": "not_entailment"}\n')
    refused(
        spot("submit", "superglue", *predictions, *out),
        "superglue/cb: more than once: idx 0",
        "superglue/cb: no prediction: not_entailment; expected entailment, contradiction, neutral",
    )
    assert not (tmp_path / "out").exists()


def test_prompts_that_do_not_do_are_refused(spot: Callable[..., Result], prompts: Path, rows: Path, tmp_path: Path):
    words = ["submit", "superglue", "--out", tmp_path / "out", "--trial", "--prompts"]
    some = tmp_path / "some"
    some.mkdir()
    refused(spot(*words, some), "some holds no prompt for superglue/boolq, superglue/cb", "it has no prompts")
    for number in (0, 1):
        (some / f"{number}.safetensors").write_bytes((prompts / "1.safetensors").read_bytes())
    refused(spot(*words, some), f"two prompts for {PROMPTED[1]}", "0.safetensors", "1.safetensors")
    tests = rows / "boolq" / "test.jsonl"
    tests.write_text(json.dumps(FIELDS["boolq"]) + "\n")
    refused(spot(*words, prompts), "superglue/boolq test, row 1 has no field 'idx', which the server asks for")
    tests.unlink()
    refused(spot(*words, prompts), "no rows for superglue/boolq, split test")
    assert not (tmp_path / "out").exists()
