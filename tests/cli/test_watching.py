"""What is seen of a transfer while it goes on: lines into a pipe, a table on a terminal."""

import io
import logging
import re
import sys
import time

import pytest

from spot.cli import watching as watching_module
from spot.cli.watching import Watch, watching
from spot.strategies.news import Begun, Scored
from spot.training.news import Evaluated
from spot.training.result import CurvePoint
from tests.support.toy_runs import toy_config

STRATEGIES, TRAINING = logging.getLogger("spot.strategies.toy"), logging.getLogger("spot.training.toy")


def evaluated(seed: int, step: int, score: float, parents: tuple[str, ...] = ()) -> Evaluated:
    return Evaluated(
        run=f"r{seed}",
        title="toy",
        start="classes",
        parents=parents,
        seed=seed,
        steps=24,
        learning_rate=0.1,
        loss=None,
        config=toy_config(),
        point=CurvePoint(step=step, score=score),
    )


def selected(arm: str, score: float, role: str = "selection") -> Scored:
    return Scored(arm=arm, score=score, interval=(score - 5, score + 5), rows=60, role=role, seconds=3.0)


def test_sentences_come_at_once_and_evaluations_of_runs_do_not(capsys):
    with watching("transfer to toy"):
        STRATEGIES.info("the library holds %d prompts", 3)
        STRATEGIES.info(selected("plain", 80.0))
        TRAINING.info(evaluated(0, 12, 75.0))
        error = capsys.readouterr().err
    assert error.splitlines() == [
        "transfer to toy ...",
        "the library holds 3 prompts",
        "plain: 80.0 (95 % interval 75.0 to 85.0) on 60 selection rows, 3.0 s",
    ]
    assert re.fullmatch(r"transfer to toy: \d+\.\d s\n", capsys.readouterr().err)
    assert STRATEGIES.getEffectiveLevel() > logging.INFO, "the level is put back"


def test_silence_is_broken_where_nothing_calls(capsys, monkeypatch):
    monkeypatch.setattr(watching_module, "QUIET", 1.1)
    with watching("transfer to toy") as step:
        STRATEGIES.info(Begun(part="plain", seconds=60, after=30))
        step(3, 24)
        time.sleep(1.5)
    lines = capsys.readouterr().err.splitlines()
    assert any(re.fullmatch(r"  plain: 3 of 24, \d s, about \d+ s to the end", line) for line in lines), lines


def test_an_error_passes_and_nothing_goes_on_behind_it(capsys):
    with pytest.raises(KeyboardInterrupt), watching("transfer to toy"):
        raise KeyboardInterrupt
    before = capsys.readouterr().err
    time.sleep(0.6)
    assert before == "transfer to toy ...\n" and capsys.readouterr().err == ""


def test_the_table_fills():
    watch = Watch()
    watch.take(Begun(part="plain", seconds=30, after=40))
    watch.take(evaluated(0, 12, 70.0))
    watch.take(evaluated(1, 12, 80.0))
    assert (watch.rows["plain"].score, watch.rows["plain"].state) == ("75.0", "step 12 of 24")
    watch.take(selected("plain", 78.0))
    plain = watch.rows["plain"]
    assert (plain.score, plain.state, plain.seconds) == ("78.0", "learned", "3")
    watch.take(Begun(part="SPoT from a and SPoT from b", arms={("1",): "SPoT from a", ("2",): "SPoT from b"}))
    watch.take(evaluated(0, 6, 60.0, ("2",)))
    assert watch.rows["SPoT from b"].score == "60.0" and "SPoT from a" not in watch.rows
    watch.take(selected("plain", 71.0, "report"))
    assert (watch.rows["plain"].score, watch.rows["plain"].report) == ("78.0", "71.0")


def test_the_time_left_follows_how_fast_it_really_goes(monkeypatch):
    now = [100.0]
    monkeypatch.setattr(watching_module.time, "monotonic", lambda: now[0])
    watch = Watch()
    watch.take(Begun(part="plain", seconds=30, after=40))
    assert watch.left == 70
    now[0] += 20
    watch.step(5, 20)
    assert watch.left == 60 + 40, "a quarter took 20 seconds"


def test_a_terminal_has_the_table(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with watching("transfer to toy"):
        STRATEGIES.info("sources by mean: %s", "a\x1b[31m")
        STRATEGIES.info(selected("plain", 80.0))
    shown = terminal.getvalue()
    assert "plain" in shown and "80.0" in shown and "75.0 to 85.0" in shown and "selection" in shown
    assert "\x1b[31m" not in shown, "what a row holds steers no terminal"
