"""`spot study replay`: its JSON and its text on the paper's Table 6, and every table that it refuses.

`data/spot_table6.csv` holds the scores of Table 6 of Vu et al., "SPoT" (ACL 2022, arXiv 2110.07904).
"""

import csv
import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.commands import Result, call

TABLE6 = Path(__file__).parents[1] / "data" / "spot_table6.csv"
HEADER = "source,target,mean,std"
GOOD = (HEADER, "BASELINE,x,50,1", "BASELINE,y,60,1", "a,x,55,1", "a,y,58,1")

Replay = Callable[..., Result]


@pytest.fixture
def replay(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Replay:
    monkeypatch.setenv("COLUMNS", "240")  # the terminal that runs the tests may be a narrow one
    return lambda path, *words: call(capsys, "study", "replay", path, *words)


def write(folder: Path, *lines: str, name: str = "table.csv") -> Path:
    path = folder / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_the_json_of_table_6(replay: Replay):
    result = replay(TABLE6, "--json")
    assert (result.code, result.err) == (0, "")
    found = json.loads(result.out)
    assert {"cells": 160, "improved": 93, "worsened": 60, "tied": 7}.items() <= found.items()
    assert len(found["above_10"]) == 30
    first = found["above_10"][0]
    assert (first["source"], first["target"], round(first["rer"], 1)) == ("MNLI", "CB", 58.9)
    assert round(found["source_means"]["MNLI"], 1) == 78.6
    assert found["best_sources"][3]["sources"] == ["C4", "CxC", "MNLI", "SQuAD"]
    assert set(found) == {
        "cells",
        "improved",
        "worsened",
        "tied",
        "above_10",
        "source_means",
        "source_rer",
        "source_worsened",
        "baseline_mean",
        "mean",
        "always_best",
        "oracle_mean",
        "best_sources",
    }


def test_the_text_of_table_6(replay: Replay):
    result = replay(TABLE6)
    assert (result.code, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:2] == [
        "160 cells: 93 improved, 60 worsened, 7 tied; 30 reduce the error by more than 10 %",
        "mean score: plain tuning 74.7, any source 74.7, always MNLI 78.6, the best source of each target 79.4",
    ]
    words = [line.split() for line in lines]
    targets = ["BoolQ", "CB", "COPA", "CR", "CoLA", "MRPC", "RTE", "STS-B", "WSC", "WiC"]
    heading = words.index(["source", "mean", "worse", "all", *targets])
    rows = words[heading + 2 : heading + 18]
    gains = ["17.0", "58.9", "29.1", "6.2", "2.8", "16.5", "19.2", "11.8", "1.1", "16.2"]
    assert rows[0] == ["MNLI", "78.6", "0", "17.9", *gains]
    assert [row[0] for row in rows[1:3]] == ["QNLI", "SQuAD"]
    assert rows[-1][:4] == ["HellaSwag", "70.8", "7", "-17.9"]
    assert ["MRPC", "86.1", "88.7", "18.7", "ReCoRD,", "SQuAD"] in words


@pytest.mark.parametrize(("width", "blocks"), [(80, 2), (60, 4), (10, 10)])
def test_a_narrow_terminal_gets_the_targets_in_blocks(
    replay: Replay, monkeypatch: pytest.MonkeyPatch, width: int, blocks: int
):
    wide = replay(TABLE6).out.splitlines()
    monkeypatch.setenv("COLUMNS", str(width))
    lines = replay(TABLE6).out.splitlines()
    rows = [line.split()[4:] for line in lines if line.startswith("MNLI")]
    assert len(rows) == blocks
    assert [gain for row in rows for gain in row] == next(line.split()[4:] for line in wide if line.startswith("MNLI"))
    if width == 80:
        assert max(len(line) for line in lines if line.startswith(("source", *"CDHMQRSWY"))) <= width


def test_neither_the_order_of_rows_nor_further_columns_change_a_byte(replay: Replay, tmp_path: Path):
    with TABLE6.open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    random.Random(0).shuffle(rows)
    mixed = tmp_path / "mixed.csv"
    with mixed.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["seeds", "target", "mean", "source"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows({**row, "seeds": 3, "source": f" {row['source']} "} for row in rows)
    assert replay(mixed, "--json").out == replay(TABLE6, "--json").out


def test_other_formats_of_rows_are_read(replay: Replay, tmp_path: Path):
    rows = list(csv.DictReader(GOOD))
    lines = [json.dumps({**row, "mean": float(row["mean"])}) for row in rows]
    other = write(tmp_path, *lines, name="table.jsonl")
    assert replay(other, "--json").out == replay(write(tmp_path, *GOOD), "--json").out


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ((), r"is empty: expected a header and rows"),
        ((HEADER,), r"holds a header and no rows"),
        (("source,target,maen", "BASELINE,x,50"), r"row 1 lacks column 'mean' of .*; did you mean 'maen'\?"),
        (("src,target,mean", "BASELINE,x,50"), r"row 1 lacks column 'source'"),
        (("source,targets,mean", "BASELINE,x,50"), r"row 1 lacks column 'target'.*did you mean 'targets'\?"),
        ((*GOOD, "b,x,high,1"), r"row 5: mean holds 'high', expected a number from 0 to 100"),
        ((*GOOD, "b,x,,1"), r"row 5: mean holds ''"),
        ((*GOOD, "b,x,nan,1"), r"row 5: mean holds 'nan'"),
        ((*GOOD, "b,x,inf,1"), r"row 5: mean holds 'inf'"),
        ((*GOOD, "b,x,100.01,1"), r"row 5: mean holds '100.01'"),
        ((*GOOD, "b,x,-0.1,1"), r"row 5: mean holds '-0.1'"),
        ((*GOOD, " ,x,50,1"), r"row 5: source '', target 'x': a blank is no name"),
        ((*GOOD, "a,,50,1"), r"row 5: source 'a', target '': a blank is no name"),
        ((*GOOD, "a,x,56,1"), r"rows 3 and 5 both hold source 'a' on target 'x'\. Keep one"),
        ((*GOOD, "BASELINE ,x,50,1"), r"rows 1 and 5 both hold source 'BASELINE' on target 'x'"),
        ((*GOOD, "a,z,56,1"), r"has no BASELINE row for target 'z'"),
        ((*GOOD, "BASELINE,z,70,1"), r"lacks 1 of 3 cells \(source > target\): 'a > z'\."),
        ((*GOOD, "b,x,70,1"), r"lacks 1 of 4 cells \(source > target\): 'b > y'\."),
        ((*GOOD, "BASELINE,z,100,0", "a,z,99,1"), r"BASELINE is 100 on target 'z': no error to reduce"),
        (GOOD[:3], r"has source 'BASELINE': expected BASELINE \(plain tuning\) and others"),
        ((HEADER, *GOOD[3:]), r"has source 'a': expected BASELINE"),
        ((HEADER, "BASELINE,x,0.5,0", "a,x,1,0"), r"no mean is above 1, so these are shares; expected percent"),
        ((*GOOD, "b,x,70"), r"row 5 \(line 6\): found 3 cells, the header has 4"),
        (("source,mean,mean,target", "a,1,2,x"), r"column 'mean' stands in the header more than once"),
    ],
)
@pytest.mark.parametrize("words", [(), ("--json",)])
def test_a_bad_table_is_one_message(
    replay: Replay, tmp_path: Path, lines: tuple[str, ...], message: str, words: tuple[str, ...]
):
    path = write(tmp_path, *lines)
    result = replay(path, *words)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith(f"error: {path}") and result.err.count("\n") == 1
    assert re.search(message, result.err), result.err


@pytest.mark.parametrize(("name", "message"), [("none.csv", "does not exist"), ("here.csv", "is a folder")])
def test_a_missing_file_and_an_unknown_format_are_one_message(replay: Replay, tmp_path: Path, name: str, message: str):
    (tmp_path / "here.csv").mkdir()
    result = replay(tmp_path / name)
    assert (result.code, result.out) == (2, "")
    assert result.err.startswith("error: ") and result.err.count("\n") == 1 and message in result.err


def test_a_gain_of_exactly_ten_percent_is_not_above_it(replay: Replay, tmp_path: Path):
    result = replay(write(tmp_path, *GOOD), "--json")
    found = json.loads(result.out)
    assert (found["cells"], found["improved"], found["worsened"]) == (2, 1, 1)
    assert found["above_10"] == []  # x gains exactly 10 % of its error
    assert found["source_rer"] == {"a": pytest.approx((10 - 5) / 2)}
