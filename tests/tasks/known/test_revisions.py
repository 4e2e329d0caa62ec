"""The revision of each known task stands for the examples that it makes, so neither changes without the other."""

from dataclasses import replace

import pytest

from spot.tasks.columns import Text
from spot.tasks.registry import TABLE
from tests.support import forms
from tests.support.forms import COMMAND, read_forms, run_form, unraised

RECORDED = read_forms()


def test_every_known_task_has_rows_that_make_examples():
    assert set(RECORDED) == set(TABLE) and len(TABLE) == 93
    for task, record in RECORDED.items():
        assert any(record.train) and any(record.evaluation), task
        assert len(set(record.revisions)) == 2, task


@pytest.mark.parametrize("task", sorted(TABLE))
def test_the_examples_of_a_form_are_those_of_its_revision(task):
    current = run_form(task, TABLE[task], RECORDED[task].rows)
    assert not (problem := unraised(RECORDED[task], current)), problem
    assert current == RECORDED[task], f"{task} has new revisions: run `{COMMAND}` to write its examples down"


def upper(form):
    """A form that shouts."""
    return lambda row, train: (replace(text, inputs=text.inputs.upper()) for text in form(row, train))


CHANGES = [
    (lambda data_set: {"form": upper(data_set.form)}, "'b006d66b' and '7501a1ef'"),
    (lambda data_set: {"form": lambda row, train: [Text("x", ("negative",))]}, "'b006d66b' and '7501a1ef'"),
    (lambda data_set: {"labels": data_set.labels[::-1]}, "'b006d66b' and '7501a1ef'"),
    (lambda data_set: {"name": "reviews "}, "'7501a1ef'"),
]


@pytest.mark.parametrize(("change", "words"), CHANGES)
def test_a_form_that_changes_under_its_old_revision_is_told_to_raise_it(change, words):
    record, changed = RECORDED["cr"], replace(TABLE["cr"], **change(TABLE["cr"]))
    problem = unraised(record, run_form("cr", changed, record.rows))
    assert f"cr makes other text, answers or labels of the same rows, and its revision is still {words}." in problem
    assert f"give it another revision in its table (src/spot/tasks/known) and run `{COMMAND}`" in problem
    raised = replace(changed, revisions=("2", "2 named"))
    assert unraised(record, run_form("cr", raised, record.rows)) == ""


def test_examples_are_written_down_only_under_new_revisions(monkeypatch, tmp_path):
    path = tmp_path / "forms.jsonl"
    written = forms.FORMS.read_bytes()
    path.write_bytes(written)
    monkeypatch.setattr(forms, "FORMS", path)
    forms.main()
    assert path.read_bytes() == written, "nothing changed"
    shouted = replace(TABLE["cr"], form=upper(TABLE["cr"].form))
    monkeypatch.setitem(TABLE, "cr", shouted)
    with pytest.raises(SystemExit, match="cr makes other text"):
        forms.main()
    monkeypatch.setitem(TABLE, "cr", replace(shouted, revisions=("2", "2 named")))
    forms.main()
    assert read_forms()["cr"].revisions == ["2", "2 named"]
    assert read_forms()["cr"].prefixed[0] == ["cr SENTENCE: IT  WORKS, MOSTLY."]
    monkeypatch.setitem(TABLE, "new", shouted)
    with pytest.raises(SystemExit, match="new has no rows"):
        forms.main()
    path.write_text(path.read_text() + '{"task": "new", "rows": [{"text": "a", "label": 1}]}\n')
    forms.main()
    assert read_forms()["new"].prefixed == [["new SENTENCE: A"]]
