"""What commands print: values for people and for pipes, warnings, progress."""

import json
import logging
import sys

import pytest

from spot.cli import app, output


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


def test_no_control_codes_reach_a_terminal(capsys: pytest.CaptureFixture[str]):
    """F9: a task called by an escape sequence, wherever commands print it."""
    output.quieten()
    name = "red\x1b[2J\x1b[31m\u202e\ud800"
    output.emit({}, False, f"prompt of {name}\nline 2", output.table((name, "score"), [(f"{name}\nx", 1.0)]))
    output.note(f"tuning {name}")
    logging.getLogger("spot.anything").warning("left out: %s", name)
    with output.progress(name):
        pass
    out, err = capsys.readouterr()
    shown = r"red\x1b[2J\x1b[31m\u202e\ud800"
    assert out.splitlines()[:2] == [f"prompt of {shown}", "line 2"]
    assert rf"{shown}\nx" in out and out.count(shown) == 3
    assert err.splitlines()[:3] == [f"tuning {shown}", f"left out: {shown}", f"{shown} ..."]


def test_no_control_codes_of_a_message_reach_a_terminal(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        app.main(["library", "list", "--library", "none\x1b[2J"])
    assert capsys.readouterr().err.startswith(r"error: there is no prompt library at none\x1b[2J")


def test_a_warning_is_shown_once_a_command(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(output.time, "monotonic", lambda: now[0])
    output.quieten()
    log = logging.getLogger("spot.toy")
    for number in (1, 2, 1):
        log.warning("%d rows were cut", number)
    assert capsys.readouterr().err == "1 rows were cut\n2 rows were cut\n"
    now[0] = 601.0  # seconds: a server goes on for days
    log.warning("1 rows were cut")
    output.quieten()
    log.warning("1 rows were cut")
    assert capsys.readouterr().err == "1 rows were cut\n" * 2
