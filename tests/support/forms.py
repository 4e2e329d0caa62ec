"""Hold the examples that each form makes of hand-made rows, beside the revisions that stand for them.

`tests/data/forms.jsonl` has a line for each task that is known by name. Where a form is meant to change, give the task
new revisions in its table, then write its examples down anew from the root of the repository:

    python -m tests.support.forms
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spot.tasks.data_set import DataSet, RawRow, with_name
from spot.tasks.registry import TABLE

FORMS = Path(__file__).parents[1] / "data" / "forms.jsonl"
COMMAND = "python -m tests.support.forms"


@dataclass(frozen=True, kw_only=True)
class FormRecord:
    """What a task made of rows under its revisions.

    Attributes:
        task: its name.
        rows: as a file of the data set has them; made by hand.
        revisions: see `DataSet.revisions`.
        labels: the label words.
        train: the examples of each row where it trains.
        evaluation: the examples of each row where it is evaluated.
        prefixed: the inputs of each evaluated row with the task's name in front.
    """

    task: str
    rows: Sequence[Mapping[str, Any]]
    revisions: Sequence[str] = ()
    labels: Sequence[str] = ()
    train: Sequence[Sequence[Mapping[str, Any]]] = ()
    evaluation: Sequence[Sequence[Mapping[str, Any]]] = ()
    prefixed: Sequence[Sequence[str]] = ()


def read_forms() -> dict[str, FormRecord]:
    """Task -> what its form was when the file was written."""
    records = (FormRecord(**json.loads(line)) for line in FORMS.read_text(encoding="utf-8").splitlines())
    return {record.task: record for record in records}


def run_form(task: str, data_set: DataSet, rows: Sequence[Mapping[str, Any]]) -> FormRecord:
    """What a task makes of rows, as plain values."""

    def texts(row: Mapping[str, Any], train: bool) -> list[dict[str, Any]]:
        return [asdict(text) for text in data_set.form(RawRow(task, row), train)]

    evaluation = [texts(row, False) for row in rows]
    record = FormRecord(
        task=task,
        rows=rows,
        revisions=data_set.revisions,
        labels=data_set.labels,
        train=[texts(row, True) for row in rows],
        evaluation=evaluation,
        prefixed=[[with_name(text["inputs"], task, data_set) for text in row] for row in evaluation],
    )
    return FormRecord(**json.loads(json.dumps(asdict(record))))


def unraised(recorded: FormRecord, current: FormRecord) -> str:
    """What to do about a form whose examples changed and whose revisions did not; empty where nothing is."""
    before = (recorded.labels, recorded.train, recorded.evaluation)
    changed = (current.labels, current.train, current.evaluation) != before
    outdated = (changed, changed or current.prefixed != recorded.prefixed)
    same = [word for word, is_outdated in zip(recorded.revisions, outdated, strict=False) if is_outdated]
    if same := [revision for revision in same if revision in current.revisions]:
        return (
            f"{recorded.task} makes other text, answers or labels of the same rows, and its revision is still "
            f"{' and '.join(map(repr, same))}. If that is meant, give it another revision in its table "
            f"(src/spot/tasks/known) and run `{COMMAND}`; else mend the form."
        )
    return ""


def main() -> None:
    """Write the examples of all forms down, if each changed one has other revisions."""
    recorded = read_forms()
    current = {task: run_form(task, TABLE[task], record.rows) for task, record in recorded.items() if task in TABLE}
    problems = [problem for task in current if (problem := unraised(recorded[task], current[task]))]
    problems += [f"{task} has no rows in {FORMS}: add a line for it" for task in TABLE if task not in current]
    if problems:
        sys.exit("\n".join(problems))
    lines = [json.dumps(asdict(current[task]), ensure_ascii=False) + "\n" for task in sorted(current)]
    FORMS.write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
