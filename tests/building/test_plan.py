"""Plans: what a budget holds, and whether what is foretold is what is taken."""

from pathlib import Path

import pytest

from spot.building.door import build_library, plan_library
from spot.building.jobs import work
from spot.building.plan import BuildPlan
from spot.errors import ConfigError
from spot.models.backbone import Backbone
from tests.support.made_up_builds import tasks_in, worker


def test_a_budget_leaves_out_what_it_does_not_hold(recipe, backbone, planned: BuildPlan, tmp_path: Path):
    first = planned.calibration + planned.check + planned.amount_of(planned.sources[0])
    less = planned.within(str(first.tokens))
    assert ([task.title for task in less.sources], less.left_out) == (["mood"], ("answer", "animal"))
    assert planned.within(str(planned.total.tokens)).left_out == ()
    least = min(planned.amount_of(task).tokens for task in planned.sources)
    with pytest.raises(ConfigError, match=r"holds no source.*nothing was trained"):
        planned.within(str((planned.calibration + planned.check).tokens + least - 1))
    outcome = build_library(less, tmp_path / "library", executor=worker(planned))
    assert outcome.added == ("mood",)
    assert outcome.record is not None and outcome.record.nearness == ()
    more = plan_library(recipe, backbone, tmp_path / "library")
    outcome = build_library(more, tmp_path / "library", executor=worker(planned))
    assert outcome.record is not None and len(outcome.record.nearness) == 2
    assert tasks_in(tmp_path / "library") == ["animal", "answer", "mood"]


@pytest.mark.parametrize("budget", ["2x", "", "much", "0", "-5", "1.5", "0h", "1e6"])
def test_a_budget_that_says_nothing_is_refused(planned: BuildPlan, budget: str):
    with pytest.raises(ConfigError, match="expected a time such as"):
        planned.within(budget)


def test_a_time_budget_is_compared_with_what_steps_take_here(planned: BuildPlan):
    assert planned.within("10h").left_out == ()
    with pytest.raises(ConfigError, match=r"holds no source.*min"):
        planned.within("0.000001s")


def test_tokens_of_the_plan_are_those_that_are_trained(planned: BuildPlan, backbone: Backbone):
    """All rows of a toy task have nearly one length, so what is foretold must be what a real race counts."""
    [race] = planned.races
    done = work(backbone, race)
    assert done.reason == ""
    assert sum(result.tokens for result in done.results) == pytest.approx(planned.calibration.tokens, rel=0.02)
    source = work(backbone, planned.source(planned.sources[0], planned.settings[0]))
    [result] = source.results
    assert result.tokens == pytest.approx(planned.amount_of(planned.sources[0]).tokens, rel=0.02)


def test_measuring_keeps_nothing(planned: BuildPlan, own_cache: Path):
    assert planned.measured.seconds > 0 and planned.measured.memory > 0
    assert not (own_cache / "libraries").exists()
