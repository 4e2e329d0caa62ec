"""What campaigns are made of, and the report of all of them; `make campaign` runs them."""

import json
import random
import sys
from pathlib import Path

import pytest

from tests.campaigns import __main__ as all_of_them
from tests.campaigns.mutations import ODD, mutate_bytes, mutate_json, spell
from tests.campaigns.trials import command, watch

PARTS = {"__init__", "__main__", "mutations", "pytest_runs", "trials"}  # what campaigns share


def test_a_seed_gives_the_same_mutations():
    for mutate, value in ((mutate_bytes, bytes(100)), (mutate_json, {"a": [1, {"b": 2}]})):
        first, again = (mutate(random.Random("1.2"), value) for _ in range(2))
        assert first == again != mutate(random.Random("1.3"), value)
    assert all(spell(odd) for odd in ODD)


def test_faults_are_told_from_refusals():
    def fail() -> None:
        raise ValueError("a traceback")

    assert "a traceback" in (watch(fail).fault or "")
    assert watch(lambda: 3).value == 3
    outcome = command("library", "list", "--library", "none")
    assert outcome.fault is None


def test_every_campaign_has_a_plan():
    modules = {path.stem for path in Path(__file__).parent.glob("*.py") if not path.name.startswith("test_")}
    assert modules - PARTS == set(all_of_them.PLANS)


@pytest.fixture
def campaigns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Instead of each campaign, a program that fails as its name says; the folder of the report."""
    fake = tmp_path / "python"
    fake.write_text(
        "#!/bin/sh\necho '['a log']' >&2\ncase $2 in\n"
        "*.texts) echo '{\"trial\": 3}'; echo '{\"trial\": 5}'; exit 1;;\n*.rows) exit 7;;\n*.kills) exit 1;;\nesac\n"
    )
    fake.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(fake))
    return tmp_path / "out"


def test_the_report_says_what_was_tried_and_what_failed(campaigns: Path, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as stop:
        all_of_them.main(["--short", "--seed", "4", "--out", str(campaigns)])
    assert stop.value.code == 1
    report = {entry["campaign"]: entry for entry in json.loads((campaigns / "report.json").read_text())}
    assert report.keys() == all_of_them.PLANS.keys()
    texts = report["texts"]
    assert (texts["trials"], texts["seed"]) == (all_of_them.PLANS["texts"].short, 4)
    assert texts["failures"] == ['{"trial": 3}', '{"trial": 5}']
    assert texts["command"] == f"python -m tests.campaigns.texts --trials {texts['trials']} --seed 4"
    for name, code in (("rows", 7), ("kills", 1)):  # a crash, and a failure without a word, are failures too
        assert f"exit code {code}: " in report[name]["failures"][0] and "a log" in report[name]["failures"][0]
    assert report["models"]["failures"] == [] and report["kills"]["command"].endswith("--no-cluster")
    page = (campaigns / "report.md").read_text()
    assert f"| texts | {texts['trial']} | {texts['trials']} | 2 |" in page and '{"trial": 5}' in page
    assert 'texts: {"trial": 5}' in capsys.readouterr().out


def test_where_nothing_fails_the_exit_code_says_so(campaigns: Path):
    with pytest.raises(SystemExit) as stop:
        all_of_them.main(["--only", "models", "families", "--out", str(campaigns)])
    assert not stop.value.code
    trials = {entry["campaign"]: entry["trials"] for entry in json.loads((campaigns / "report.json").read_text())}
    assert trials == {name: all_of_them.PLANS[name].long for name in ("models", "families")}
