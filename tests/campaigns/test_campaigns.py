"""A short run of every campaign; the long ones are commands."""

import random

import pytest

from tests.campaigns import prompts
from tests.campaigns.mutations import ODD, mutate_bytes, mutate_json, spell
from tests.campaigns.trials import command, run, watch


@pytest.mark.slow
@pytest.mark.filterwarnings("default")
@pytest.mark.parametrize("campaign", [prompts.campaign], ids=["prompts"])
def test_no_trial_fails(campaign):
    failures = list(run(campaign, trials=50, seed=13))
    assert not failures, failures


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
