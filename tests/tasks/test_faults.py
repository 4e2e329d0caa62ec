"""Columns that tell the label are found, and others are not taken for such."""

import pytest

from spot.tasks.faults import no_text, tellers, wordy

LABELS = ["0", "1", "2", "1", "0", "2", "0", "1", "2", "0"] * 3
NAMES = {"0": "card lost", "1": "card late", "2": "cash fee"}


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([NAMES[label] for label in LABELS], "it is the label in other words"),
        ([f" {label}." for label in LABELS], "it holds the label"),
        ([f"Note {n}. Label : {label}" for n, label in enumerate(LABELS)], "it ends in the label of its row"),
        ([f"So it is {label} in note x{n}" for n, label in enumerate(LABELS)], "it holds the word of its row's label"),
        (
            [NAMES[label] + "ab"[n // 10 % 2] for n, label in enumerate(LABELS)],
            "each of its 6 values goes with one label",
        ),
        ([NAMES[label].split()[0] for label in LABELS], "the label determines it"),
        ([f"note x{n} about the matter" for n in range(30)], ""),
        (["choose 0, 1 or 2"] * 30, ""),
        (["abc"[n % 3] for n in range(30)], ""),
    ],
)
def test_case24_a_column_that_holds_or_determines_the_label_is_found(values, reason):
    assert tellers({"c": values}, LABELS).get("c", "").startswith(reason)
    assert bool(tellers({"c": values}, LABELS)) == bool(reason)


def test_case24_a_text_that_ends_in_the_name_that_another_column_has_is_found():
    columns = {
        "text_label": [NAMES[label] for label in LABELS],
        "sequence": [f"note {n} Label : {NAMES[label]}" for n, label in enumerate(LABELS)],
        "text": [f"note x{n} of somebody" for n in range(30)],
    }
    assert set(tellers(columns, LABELS)) == {"text_label", "sequence"}
    assert set(tellers({"sequence": columns["sequence"]}, LABELS, NAMES)) == {"sequence"}


def test_few_rows_and_one_label_show_nothing():
    assert not tellers({"c": ["x", "y"]}, ["a", "b"])
    assert not tellers({"c": ["x"] * 9}, ["a"] * 9)


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("n", ["1", " 2.5", "-3"], "it holds numbers"),
        ("n", [1, 2, None], "it holds numbers"),
        ("n", [["a"], ["b"]], "it holds lists"),
        ("n", [None, ""], "it is blank"),
        ("n", ["a1", "b2", "c-3"], "it holds a code a row"),
        ("split", ["train", "test", "train"], "it says what rows belong together"),
        ("lang", ["de", "de"], "it holds the same in every row"),
        ("n", ["warm", "cold"], ""),
        ("n", ["a warm day", None], ""),
    ],
)
def test_columns_that_are_no_text(column, values, reason):
    assert no_text(column, values).startswith(reason) and bool(no_text(column, values)) == bool(reason)


def test_texts_have_words():
    assert wordy(["a b", "c d", "e"]) and not wordy(["a", "b c", "d"])
