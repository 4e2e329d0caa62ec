"""What commands print: values for people and for pipes, warnings, progress."""

import json
import logging
import sys

import pytest

from spot.cli import output


def test_warnings_of_the_library_are_plain_lines_on_stderr(capsys: pytest.CaptureFixture[str]):
    output.quieten()
    output.quieten()
    logging.getLogger("spot.anything").warning("%d rows were cut", 3)
    logging.getLogger("spot.anything").info("not this")
    assert capsys.readouterr() == ("", "3 rows were cut\n")


def test_variables_that_the_user_has_set_stay(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TRANSFORMERS_VERBOSITY", "debug")
    monkeypatch.delenv("HF_HUB_DISABLE_PROGRESS_BARS", raising=False)
    output.quieten()
    assert output.os.environ["TRANSFORMERS_VERBOSITY"] == "debug"
    assert output.os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] == "1"


def test_progress_without_a_terminal_is_two_lines(capsys: pytest.CaptureFixture[str]):
    with output.progress("counting") as step:
        step(1, 2)
    out, err = capsys.readouterr()
    assert out == ""
    first, last = err.splitlines()
    assert first == "counting ..." and last.startswith("counting: ") and last.endswith(" s")


def test_progress_on_a_terminal_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with output.progress("counting [rows]") as step:
        step(1, 4)
        step(3, 4)
    err = capsys.readouterr().err
    assert "counting [rows]" in err and "3/4" in err


def test_tables_show_numbers_and_gaps(capsys: pytest.CaptureFixture[str]):
    output.emit({}, False, output.table(("name", "score"), [("[b]x[/b]", 81.25), ("y", None)]))
    lines = ["name       score", "────────────────", "[b]x[/b]    81.2", "y              -"]
    assert capsys.readouterr().out.splitlines() == lines


def test_json_is_one_document_and_nothing_beside_it(capsys: pytest.CaptureFixture[str]):
    output.emit({"name": "naïve", "score": None}, True, "for people", output.table(("a",), [(1,)]))
    assert json.loads(capsys.readouterr().out) == {"name": "naïve", "score": None}
    with pytest.raises(ValueError, match="not JSON compliant"):
        output.emit({"score": float("nan")}, True)


def test_scores_stand_on_one_line():
    assert output.scores({"accuracy": 86.25, "f1": 80.0}) == "accuracy 86.2, f1 80.0"
    assert output.scores({}) == "-"
