"""Scores against those of lm-evaluation-harness; where it leaves the official metric, a test shows the case."""

import importlib.util
import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.exceptions import UndefinedMetricWarning

from spot.metrics.scores import score

CB = ("entailment", "contradiction", "neutral")
TRUTH = ("False", "True")
NAMES = ("Bob", "the hat", "Bob's hat", "fuzzy bunny", "Bunny", "a", "U.S.", "")


@pytest.fixture(scope="session")
def module_of(lm_eval: Path) -> Callable[[str], ModuleType]:
    """A function from a file of the package to its module, loaded by itself."""

    def load(name: str) -> ModuleType:
        label = "lm_eval_file_" + name.replace("/", "_").removesuffix(".py")
        if label not in sys.modules:
            spec = importlib.util.spec_from_file_location(label, lm_eval / name)
            module = importlib.util.module_from_spec(spec)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of the packages that it imports
                spec.loader.exec_module(module)
            sys.modules[label] = module
        return sys.modules[label]

    return load


def ours(name: str, rows, labels=(), groups=()) -> dict[str, float]:
    """Our scores of (answers, prediction) pairs."""
    return score([name], [accepted for accepted, _ in rows], [text for _, text in rows], groups, labels)


def draw(seed: int, labels, rows: int = 120) -> list[tuple[tuple[str, ...], str]]:
    rng = np.random.default_rng(seed)
    answers = rng.choice(labels, rows)
    predictions = np.where(rng.random(rows) < 0.5, answers, rng.choice(labels, rows))
    return [((answer,), text) for answer, text in zip(answers.tolist(), predictions.tolist(), strict=True)]


# CB.


def cb(module: ModuleType, rows) -> float:
    """CB's F1 by lm-eval, in percent."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        items = [module.mean_3class_f1([text], [accepted[0]]) for accepted, text in rows]
        return 100 * module.agg_mean_3class_f1(items)


@pytest.mark.parametrize("seed", range(5))
def test_cb_agrees_on_valid_predictions(seed: int, module_of):
    rows = draw(seed, CB)
    expected = cb(module_of("tasks/super_glue/cb/t5_utils.py"), rows)
    assert ours("macro_f1", rows, CB)["macro_f1"] == pytest.approx(expected)
    numbers = [(CB.index(text), CB.index(accepted[0])) for accepted, text in rows]
    aggregate = module_of("tasks/super_glue/cb/aggregate.py").cb_multi_fi(numbers)
    assert expected == pytest.approx(100 * aggregate)


@pytest.mark.parametrize("label", CB)
def test_cb_agrees_on_constant_predictions(label: str, module_of):
    rows = [(accepted, label) for accepted, _ in draw(9, CB)]
    expected = cb(module_of("tasks/super_glue/cb/t5_utils.py"), rows)
    assert ours("macro_f1", rows, CB)["macro_f1"] == pytest.approx(expected)


def test_cb_difference_lm_eval_takes_an_invalid_answer_as_entailment(module_of):
    module = module_of("tasks/super_glue/cb/t5_utils.py")
    rows = [(("entailment",), "gibberish"), (("contradiction",), "contradiction"), (("neutral",), "neutral")]
    assert cb(module, rows) == pytest.approx(100)  # nonsense earns full marks
    # T5 gives it the class -1: no true positive of entailment, and no false one.
    assert ours("macro_f1", rows, CB)["macro_f1"] == pytest.approx(100 * 2 / 3)
    rows = [(("neutral",), "gibberish")] * 3 + [((label,), label) for label in CB]
    assert ours("macro_f1", rows, CB)["macro_f1"] > cb(module, rows)  # and elsewhere it costs a false positive
    assert ours("macro_f1", [(("entailment",), "") for _ in range(3)], CB)["macro_f1"] == 0


def test_cb_difference_a_label_that_occurs_nowhere_is_left_out(module_of):
    # The official files hold all three; lm-eval gives an absent one an F1 of 0, scikit-learn's mean leaves it out.
    rows = [(("entailment",), "entailment"), (("neutral",), "neutral")]
    assert ours("macro_f1", rows, CB)["macro_f1"] == 100
    assert cb(module_of("tasks/super_glue/cb/t5_utils.py"), rows) == pytest.approx(100 * 2 / 3)


# MultiRC.


def multirc(module: ModuleType, rows, groups) -> dict[str, float]:
    """MultiRC's scores by lm-eval, in percent; its references are `question_label`."""
    keyed = [([text], [f"{group}_{accepted[0]}"]) for (accepted, text), group in zip(rows, groups, strict=True)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UndefinedMetricWarning)
        return {
            "f1a": 100 * float(module.agg_f1([module.f1(*row) for row in keyed])),
            "em": 100 * float(module.agg_em([module.em(*row) for row in keyed])),
        }


@given(
    st.lists(
        st.tuples(st.integers(0, 4), st.sampled_from(TRUTH), st.sampled_from((*TRUTH, "", "true", "True "))),
        min_size=1,
        max_size=25,
    )
)
@settings(deadline=None)
def test_multirc_agrees_on_valid_and_invalid_predictions(module_of, drawn):
    rows = [((answer,), text) for _, answer, text in drawn]
    groups = [f"0/{question}" for question, _, _ in drawn]
    module = module_of("tasks/super_glue/multirc/t5_utils.py")
    assert ours("multirc", rows, TRUTH, groups) == pytest.approx(multirc(module, rows, groups))


def test_multirc_difference_lm_eval_groups_by_the_question_number_alone(module_of):
    rows = [(("True",), "True"), (("True",), "False")]
    module = module_of("tasks/super_glue/multirc/t5_utils.py")
    # Harmless on the official files, whose question numbers run on through the paragraphs.
    assert multirc(module, rows, ["0", "0"])["em"] == 0
    assert ours("multirc", rows, TRUTH, ["0/0", "1/0"])["em"] == 50


# ReCoRD.


def record(module: ModuleType, rows) -> dict[str, float]:
    """ReCoRD's scores by lm-eval, in percent: a row for each reference, which it finds behind `query_`."""
    items = [(text, f"{number}_{reference}") for number, (accepted, text) in enumerate(rows) for reference in accepted]
    return {"em": 100 * float(module.squad_em_agg(items)), "f1": 100 * float(module.squad_f1_agg(items))}


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)), min_size=1, max_size=12))
@settings(deadline=None)
def test_record_agrees_where_each_query_has_one_reference(module_of, drawn):
    rows = [((answer,), text) for answer, text in drawn]
    module = module_of("tasks/super_glue/record/t5_utils.py")
    assert ours("record", rows) == pytest.approx(record(module, rows))


def test_record_difference_lm_eval_splits_references_at_underscores(module_of):
    rows = [(("St_Louis",), "St_Louis")]
    with pytest.raises(ValueError, match="too many values to unpack"):
        record(module_of("tasks/super_glue/record/t5_utils.py"), rows)
    assert ours("record", rows) == {"em": 100, "f1": 100}


def test_record_difference_lm_eval_counts_the_exact_match_of_a_query_once_a_reference(module_of):
    rows = [(("Ann", "Bob", "Cid"), "Cid"), (("Dee",), "Eve")]
    assert record(module_of("tasks/super_glue/record/t5_utils.py"), rows) == pytest.approx({"em": 75, "f1": 50})
    assert ours("record", rows) == {"em": 50, "f1": 50}


@given(st.lists(st.sampled_from(NAMES), min_size=1, max_size=4), st.sampled_from(NAMES))
@settings(deadline=None)
def test_record_agrees_on_one_query_with_many_references(module_of, references, text):
    rows = [(tuple(references), text)]
    assert ours("record", rows) == pytest.approx(record(module_of("tasks/super_glue/record/t5_utils.py"), rows))


# WSC.


@given(st.sampled_from(NAMES[:-2]), st.sampled_from(NAMES[:-3]), st.booleans())
@settings(deadline=None)
def test_wsc_agrees_on_predictions_with_words(module_of, text, referent, label):
    module = module_of("tasks/super_glue/wsc/t5_utils.py")
    if not module.clean(text):
        return
    expected = module.process_results({"span1_text": referent, "label": int(label)}, [text])["accuracy"]
    assert ours("wsc_accuracy", [((referent, str(label)), text)]) == {"accuracy": 100 * expected}


def test_wsc_agrees_on_the_local_rows(module_of, shared: Path):
    module = module_of("tasks/super_glue/wsc/t5_utils.py")
    lines = (shared / "data" / "wsc" / "validation.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    compared = 0
    for row in rows:
        for text in {other["span1_text"] for other in rows} | {row["span1_text"].split()[-1], row["span2_text"]}:
            if module.clean(text):
                expected = module.process_results(row, [text])["accuracy"]
                answers = (row["span1_text"], str(bool(row["label"])))
                assert ours("wsc_accuracy", [(answers, text)]) == {"accuracy": 100 * expected}, (row["idx"], text)
                compared += 1
    assert compared > 5000


@pytest.mark.parametrize("text", ["", "  ", "the"])
def test_wsc_difference_lm_eval_credits_an_empty_prediction_on_negative_rows(text: str, module_of):
    module = module_of("tasks/super_glue/wsc/t5_utils.py")
    assert module.process_results({"span1_text": "Bob", "label": 0}, [text]) == {"accuracy": 1.0}
    # T5 returns -1 for it, which is neither label.
    assert ours("wsc_accuracy", [(("Bob", "False"), text)]) == {"accuracy": 0}


# Metrics that all tasks share.


@pytest.fixture(scope="session")
def shared_metrics(lm_eval) -> ModuleType:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module("lm_eval.api.metrics")


@pytest.mark.parametrize("seed", range(3))
def test_f1_and_matthews_agree(seed: int, shared_metrics: ModuleType):
    rows = draw(seed, TRUTH)
    items = [(TRUTH.index(accepted[0]), TRUTH.index(text)) for accepted, text in rows]
    assert ours("f1", rows, TRUTH)["f1"] == pytest.approx(100 * shared_metrics.f1_score(items))
    assert ours("matthews", rows, TRUTH)["matthews"] == pytest.approx(100 * shared_metrics.matthews_corrcoef(items))


def test_accuracy_difference_lm_eval_forgives_case_and_punctuation(shared_metrics: ModuleType):
    rows = [(("True",), "true."), (("False",), "False")]
    theirs = shared_metrics.exact_match_hf_evaluate(
        [text for _, text in rows], [accepted[0] for accepted, _ in rows], ignore_case=True, ignore_punctuation=True
    )
    assert theirs["exact_match"] == 1
    assert ours("accuracy", rows, TRUTH) == {"accuracy": 50}  # T5 compares letter for letter


def test_bleu_agrees_where_both_tokenizers_cut_alike(shared_metrics: ModuleType):
    rng = np.random.default_rng(4)
    texts = [[" ".join(rng.choice(list("abcde"), 12)) for _ in range(30)] for _ in range(2)]
    rows = [((answer,), text) for answer, text in zip(*texts, strict=True)]
    expected = shared_metrics.bleu([([answer], text) for (answer,), text in rows])
    assert ours("bleu", rows) == {"bleu": pytest.approx(expected)}


def test_bleu_difference_lm_eval_cuts_words_as_13a_and_t5_as_intl(shared_metrics: ModuleType):
    rows = [(("a b c „x“",), "a b c „ x “")]  # intl parts such quotation marks from their word, 13a does not
    assert ours("bleu", rows) == {"bleu": pytest.approx(100)}
    assert shared_metrics.bleu([([answer], text) for (answer,), text in rows]) < 60
