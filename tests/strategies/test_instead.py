"""A transfer compares what one would pick instead, on the rows that its prompts have."""

import logging

import numpy as np
import pytest

from spot.baselines import embedding
from spot.baselines.arms import Unsuitable
from spot.baselines.tfidf import fit_tfidf
from spot.config import TransferConfig
from spot.errors import BackboneError, MissingExtra
from spot.evaluation.scoring import interval
from spot.strategies import instead
from spot.strategies.instead import check_arms, fit_arms
from spot.tasks.splits import Splits
from tests.support.toy_runs import named, word_rows, word_splits
from tests.support.toy_transfers import WORDS, arm, timeless


def test_arms_have_the_rows_the_intervals_and_the_order_of_the_table(run, target):
    report = run("none", instead=("tfidf", "probe"), seeds=2)
    assert [one.arm for one in report.arms] == ["constant", "tfidf", "probe", "frozen", "plain:vocabulary"]
    tfidf, plain = arm(report, "tfidf"), arm(report, "plain:vocabulary")
    assert len(tfidf.evaluations) == 1 and len(plain.evaluations) == 2
    rows = word_splits("toy").report
    assert all(len(one.evaluations[0].correct) == len(rows) for one in report.arms)
    assert tfidf.score == pytest.approx(100 * np.mean(tfidf.evaluations[0].correct))
    assert tfidf.bytes > 0 and tfidf.beside == "scikit-learn" and tfidf.setting.startswith("C = ")
    over = report.over_constant["plain:vocabulary"]
    constant = arm(report, "constant")
    assert over.points == pytest.approx(plain.score - constant.score)
    paired = interval(plain.evaluations, named("toy"), rows, constant.evaluations * 2, resamples=20)
    assert over.interval == pytest.approx(paired), "the constant answer is paired with each seed"
    best = max((one for one in report.arms), key=lambda one: (one.selection, -one.bytes))
    assert report.lead.arm == best.arm and report.verdict.lower().startswith(best.title.lower())
    assert report.advice.startswith("Recommendation: ")


def test_a_finished_arm_is_only_read(run, monkeypatch):
    first = run("none", instead=("tfidf", "probe"))
    monkeypatch.setattr("spot.baselines.door.FITS", {})
    again = run("none", instead=("tfidf", "probe"))
    assert again.to_json() == first.to_json() and timeless(again) == timeless(first)


def test_an_arm_that_these_rows_do_not_suit_is_passed_over_with_its_reason(run):
    one_class = Splits(word_rows("toy", 0, 48)[::2], word_rows("toy", 100, 112), word_rows("toy", 200, 216))
    report = run("none", splits=one_class, instead=("tfidf",))
    assert [one.arm for one in report.arms] == ["constant", "frozen", "plain:vocabulary"]
    assert "all 24 training rows have the answer 'no'" in report.not_run["tfidf"]
    assert report.to_json()["not_run"] == dict(report.not_run)


def test_auto_takes_the_free_ones_by_itself():
    assert TransferConfig(strategy="auto").baselines == ("constant", "tfidf", "probe")
    assert TransferConfig(strategy="auto", instead=()).baselines == ("constant",)
    assert TransferConfig().baselines == ("constant",)
    assert TransferConfig(instead=("lora", "tfidf")).baselines == ("constant", "tfidf", "lora")


def test_what_cannot_run_at_all_is_refused_before_anything_is_trained(run, tmp_path, monkeypatch):
    with pytest.raises(BackboneError, match="lora_modules names 'nowhere'"):
        run("none", instead=("lora",), lora_modules=("nowhere",))
    monkeypatch.setattr(embedding, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="sentence-transformers"):
        run("none", instead=("embedding",))
    assert not list((tmp_path / "out").glob("plain-*"))


def test_a_probe_learns_behind_the_prompts_that_fit_best_too(run, tmp_path):
    report = run("best", instead=("probe",))
    behind, probe = arm(report, "probe_behind"), arm(report, "probe")
    assert behind.source in WORDS and behind.title == f"a linear probe behind the prompt of {behind.source}"
    assert (behind.is_prompt, behind.tokens, behind.parameters) == (False, 0, probe.parameters)
    assert behind.bytes > probe.bytes and f"prompt = {behind.source}" in behind.setting
    assert report.to_json()["arms"] == run("best", instead=("probe",)).to_json()["arms"], "it is kept"
    assert "probe_behind" not in {one.arm for one in run("best", instead=("tfidf",), out="other").arms}
    rows = word_splits("toy")
    train = tuple(row for row in rows.train if row.answers == rows.train[0].answers)
    refused = run("best", instead=("probe",), splits=Splits(train, rows.selection, rows.report), out="one-class")
    assert "all" in refused.not_run["probe_behind"] and "probe_behind" not in {one.arm for one in refused.arms}


def test_each_seed_learns_anew_at_the_rate_that_the_first_chose(target):
    config = TransferConfig(instead=("lora",), lora_rates=(1e-4, 1e-2))
    fitted = fit_arms(target, config, ("lora",)).fitted["lora"]
    assert len(fitted) == 2 and {part.learned.setting["learning_rate"] for part in fitted} == {
        fitted[0].learned.setting["learning_rate"]
    }
    assert 1.8 < fitted[0].learned.tokens / fitted[1].learned.tokens < 2.2, "the first tried both"


def test_what_is_known_is_said_at_once(target, caplog, monkeypatch):
    caplog.set_level(logging.INFO, logger="spot.strategies")

    def refuses(name, terms):
        if name == "probe":
            raise Unsuitable("probe: not today")
        return fit_tfidf(terms)

    monkeypatch.setattr(instead, "fit_baseline", refuses)
    fit_arms(target, TransferConfig(instead=("tfidf", "probe")), ("tfidf", "probe"))
    first, second = caplog.messages
    assert first.startswith("TF-IDF and logistic regression (C = ") and " selection rows, " in first
    assert second == "not run: probe: not today"
    check_arms(target, TransferConfig(instead=("tfidf",)))
