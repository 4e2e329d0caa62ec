r"""Write the files that the GLUE and SuperGLUE servers take, from predictions of their test sets.

GLUE wants a TSV file `index\tprediction` for each of 11 test sets, SuperGLUE a JSON-lines file for each of 10, in which
MultiRC nests answers in questions in passages. Either is handed in as one zip. Nothing is written unless every test
set is complete: each row once, each prediction one of its task's.
"""

import csv
import io
import json
import zipfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from math import isfinite
from pathlib import Path

from spot.errors import TaskError, did_you_mean
from spot.metrics.open_answers import refers
from spot.storage.files import write_whole
from spot.tasks.readers import json_rows

Id = int | Mapping[str, int]  # as the official rows have it: a number, or numbers by name in MultiRC and ReCoRD
Value = str | int
Key = tuple[int, ...]  # an id as numbers, the one that counts the rows last

RANGE = (0.0, 5.0)  # of STS-B's similarities
MULTIRC = ("paragraph", "question", "answer")
TSV_HEAD = ("index", "prediction")
_SHOWN = 5  # ids or labels in one message


@dataclass(frozen=True, kw_only=True)
class Sheet:
    """One file of a submission.

    Attributes:
        task: the test set, such as `glue/cola`.
        name: of the file, such as `CoLA.tsv`.
        rows: of the official test set; its ids are 0 to rows - 1. In MultiRC these number the answers.
        written: label word -> what the file says for it; empty for numbers and free text.
        kind: label, number or text.
        prompt: the task whose prompt answers the test set; its own where empty.
    """

    task: str
    name: str
    rows: int
    written: Mapping[str, Value] = field(default_factory=dict)
    kind: str = "label"
    prompt: str = ""

    @property
    def stem(self) -> str:
        """What its predictions are called, such as `cola`."""
        return self.task.partition("/")[2]

    @property
    def source(self) -> str:
        """The task whose prompt answers the test set."""
        return self.prompt or self.task


def _same(*labels: str) -> dict[str, Value]:
    """Labels that are written as they are."""
    return {label: label for label in labels}


def _numbered(*labels: str) -> dict[str, Value]:
    """Labels that a SuperGLUE file writes as their number."""
    return {label: number for number, label in enumerate(labels)}


def _digits(*labels: str) -> dict[str, Value]:
    """Labels that a GLUE file writes as their number."""
    return {label: str(number) for number, label in enumerate(labels)}


_TWO_WAY = _same("entailment", "not_entailment")
_THREE_WAY = _same("entailment", "neutral", "contradiction")
_TRUTH = {"False": "false", "True": "true"}

SHEETS: Mapping[str, tuple[Sheet, ...]] = {
    "glue": (
        Sheet(task="glue/cola", name="CoLA.tsv", rows=1063, written=_digits("unacceptable", "acceptable")),
        Sheet(task="glue/sst2", name="SST-2.tsv", rows=1821, written=_digits("negative", "positive")),
        Sheet(task="glue/mrpc", name="MRPC.tsv", rows=1725, written=_digits("not_equivalent", "equivalent")),
        Sheet(task="glue/stsb", name="STS-B.tsv", rows=1379, kind="number"),
        Sheet(task="glue/qqp", name="QQP.tsv", rows=390965, written=_digits("not_duplicate", "duplicate")),
        Sheet(task="glue/mnli", name="MNLI-m.tsv", rows=9796, written=_THREE_WAY),
        Sheet(task="glue/mnli_mismatched", name="MNLI-mm.tsv", rows=9847, written=_THREE_WAY, prompt="glue/mnli"),
        Sheet(task="glue/qnli", name="QNLI.tsv", rows=5463, written=_TWO_WAY),
        Sheet(task="glue/rte", name="RTE.tsv", rows=3000, written=_TWO_WAY),
        Sheet(task="glue/wnli", name="WNLI.tsv", rows=146, written=_digits("not_entailment", "entailment")),
        Sheet(task="glue/ax", name="AX.tsv", rows=1104, written=_THREE_WAY, prompt="glue/mnli"),
    ),
    "superglue": (
        Sheet(task="superglue/boolq", name="BoolQ.jsonl", rows=3245, written=_TRUTH),
        Sheet(task="superglue/cb", name="CB.jsonl", rows=250, written=_same("entailment", "contradiction", "neutral")),
        Sheet(task="superglue/copa", name="COPA.jsonl", rows=500, written=_numbered("choice1", "choice2")),
        Sheet(task="superglue/multirc", name="MultiRC.jsonl", rows=9693, written=_numbered("False", "True")),
        Sheet(task="superglue/record", name="ReCoRD.jsonl", rows=10000, kind="text"),
        Sheet(task="superglue/rte", name="RTE.jsonl", rows=3000, written=_TWO_WAY),
        Sheet(task="superglue/wic", name="WiC.jsonl", rows=1400, written=_TRUTH),
        Sheet(task="superglue/wsc", name="WSC.jsonl", rows=146, written=_same("False", "True")),
        Sheet(task="superglue/axb", name="AX-b.jsonl", rows=1104, written=_TWO_WAY, prompt="superglue/rte"),
        Sheet(task="superglue/axg", name="AX-g.jsonl", rows=356, written=_TWO_WAY, prompt="superglue/rte"),
    ),
}


def write_submission(
    benchmark: str, predictions: Mapping[str, Sequence[tuple[Id, str]]], out: Path | str, official: bool = True
) -> dict[str, int]:
    """Write the files of a submission and their zip, `glue.zip` or `superglue.zip`.

    Args:
        benchmark: glue or superglue.
        predictions: test set -> (official id, prediction) of each row in any order; the prediction is a label word, a
            number for STS-B, or the answer's text for ReCoRD.
        out: the folder.
        official: False takes any number of rows from id 0 on without a gap, for a trial; the servers refuse that.

    Returns:
        File name -> rows.

    Raises:
        TaskError: the benchmark is unknown; or, all found together, test sets are missing or of another benchmark, ids
            are missing or come twice, or predictions are none of their task's. Nothing is written then.
        StorageError: a file cannot be written.
    """
    sheets = sheets_of(benchmark)
    problems = _incomplete(benchmark, sheets, predictions)
    keyed: dict[str, list[tuple[Key | None, str]]] = {}
    for sheet in sheets:
        if sheet.task in predictions:
            keyed[sheet.task] = [(_key(sheet, id_), text) for id_, text in predictions[sheet.task]]
            problems += _problems(sheet, sheet.task, keyed[sheet.task], sheet.written, official)
    if problems:
        raise TaskError(_message(f"no {benchmark} submission was written", problems))
    rows: dict[str, dict[Key, Value]] = {}
    for sheet in sheets:
        values = {key: _value(sheet, text) for key, text in keyed[sheet.task] if key is not None}
        rows[sheet.name] = dict(sorted(values.items()))
    files = {name: _tsv(values) if name.endswith(".tsv") else _jsonl(name, values) for name, values in rows.items()}
    for name, data in files.items():
        write_whole(Path(out) / name, data)
    write_whole(Path(out) / f"{benchmark}.zip", _zip(files))
    return {name: len(values) for name, values in rows.items()}


def check_submission(folder: Path | str, official: bool = True) -> dict[str, int]:
    """Check the files of a submission as they lie in a folder.

    Args:
        folder: holds TSV files of GLUE or JSON-lines files of SuperGLUE.
        official: as in `write_submission`.

    Returns:
        File name -> rows.

    Raises:
        TaskError: no such files are there; or, all found together, files are missing or damaged, ids are missing or
            come twice, or values are none of their task's.
    """
    folder = Path(folder)
    names = {path.name for path in folder.glob("*")}
    most = {benchmark: len(names & {sheet.name for sheet in sheets}) for benchmark, sheets in SHEETS.items()}
    benchmark = max(most, key=lambda name: most[name])
    if not most[benchmark]:
        raise TaskError(f"{folder} holds no file of a submission: expected such as CoLA.tsv or BoolQ.jsonl.")
    counts: dict[str, int] = {}
    problems: list[str] = []
    for sheet in SHEETS[benchmark]:
        if sheet.name not in names:
            problems.append(f"{sheet.name} is missing")
            continue
        try:
            entries = _written_rows(sheet, (folder / sheet.name).read_bytes().decode())
        except (ValueError, KeyError, TypeError, OSError, csv.Error) as error:
            problems.append(f"{sheet.name} is damaged ({error!r:.80})")
            continue
        problems += _problems(sheet, sheet.name, entries, tuple(sheet.written.values()), official)
        counts[sheet.name] = len(entries)
    if problems:
        raise TaskError(_message(f"{folder} is no complete {benchmark} submission", problems))
    return counts


def sheets_of(benchmark: str) -> tuple[Sheet, ...]:
    """The files of a benchmark's submission.

    Raises:
        TaskError: there is no such benchmark.
    """
    if benchmark not in SHEETS:
        raise TaskError(f"no benchmark {benchmark!r}; {did_you_mean(benchmark, SHEETS)}")
    return SHEETS[benchmark]


def read_predictions(benchmark: str, folder: Path | str) -> dict[str, list[tuple[Id, str]]]:
    """The predictions that lie in a folder, a JSON-lines file for each test set: `cola.jsonl`, `mnli_mismatched.jsonl`.

    Args:
        benchmark: glue or superglue.
        folder: need not hold all of its test sets. A row holds `label` or `text`, as `spot predict` writes them, and
            the official `idx`; without any `idx` the rows must stand in the official order, which MultiRC does not
            take. WSC takes a free `text` if the row has `span1_text`, the referent. A field `task` is compared.

    Returns:
        Test set -> (id, prediction) of each row, as `write_submission` takes them.

    Raises:
        TaskError: there is no folder, a file is of no test set of the benchmark or is damaged, or a row is of another
            task or lacks a field.
    """
    sheets = {sheet.stem: sheet for sheet in sheets_of(benchmark)}
    if not Path(folder).is_dir():
        raise TaskError(f"{folder} is no folder: expected one with predictions, such as {next(iter(sheets))}.jsonl.")
    predictions: dict[str, list[tuple[Id, str]]] = {}
    for path in sorted(
        path for path in Path(folder).glob("*") if path.name.lower().removesuffix(".gz").endswith(".jsonl")
    ):
        stem = path.name.partition(".")[0]
        if stem not in sheets:
            raise TaskError(f"{path} is named after no test set of {benchmark}; {did_you_mean(stem, sheets)}")
        rows = list(json_rows(path))
        bare = [number for number, row in rows if "idx" not in row]
        if bare and (len(bare) < len(rows) or stem == "multirc"):
            raise TaskError(f"{path}, line {bare[0]} has no field 'idx'. Give the official idx in every row.")
        predictions[sheets[stem].task] = [
            (row.get("idx", place), _prediction(sheets[stem], row, f"{path}, line {number}"))
            for place, (number, row) in enumerate(rows)
        ]
    return predictions


def wsc_label(text: str, referent: object, place: str) -> str:
    """The label of WSC for a free prediction: whether it names the referent, `False` for one without words.

    Raises:
        TaskError: there is no referent.
    """
    if not isinstance(referent, str):
        raise TaskError(
            f"{place}: a free prediction for WSC needs the referent beside it in the field 'span1_text'. Add it, or "
            "give 'True' or 'False' in 'label'."
        )
    return str(bool(refers(text, referent)))


def _prediction(sheet: Sheet, row: Mapping[str, object], place: str) -> str:
    """The prediction of one row of a predictions file."""
    if "task" in row and row["task"] not in (sheet.task, sheet.source):
        raise TaskError(f"{place}: found a prediction for the task {row['task']!r}, expected {sheet.task!r}.")
    prediction = row.get("label", row.get("text"))
    if sheet.kind == "number" and type(prediction) in (int, float):
        prediction = str(prediction)
    if not isinstance(prediction, str):
        raise TaskError(
            f"{place}: found the fields {', '.join(map(repr, row)) or 'none'}, expected the prediction as text in "
            "'label' or 'text', as `spot predict` writes it."
        )
    if sheet.stem == "wsc" and "label" not in row and prediction not in sheet.written:
        return wsc_label(prediction, row.get("span1_text"), place)
    return prediction


def _incomplete(benchmark: str, sheets: Sequence[Sheet], tasks: Iterable[str]) -> list[str]:
    """Test sets that are missing, and names that are none of the benchmark's."""
    names = [sheet.task for sheet in sheets]
    missing = [name for name in names if name not in set(tasks)]
    problems = [f"no predictions for {', '.join(missing)}"] if missing else []
    return problems + [
        f"{task!r} is no test set of {benchmark}; {did_you_mean(task, names)}" for task in tasks if task not in names
    ]


def _key(sheet: Sheet, id_: object) -> Key | None:
    """An id as numbers, the one that counts the rows last; None for what is no id of this test set."""
    if sheet.stem == "multirc":
        parts: Sequence[object] = [id_.get(name) for name in MULTIRC] if isinstance(id_, Mapping) else [None]
    elif sheet.stem == "record" and isinstance(id_, Mapping):
        parts = [id_.get("query")]
    else:
        parts = [id_]
    numbers = tuple(part for part in parts if isinstance(part, int) and not isinstance(part, bool) and part >= 0)
    return numbers if len(numbers) == len(parts) else None


def _problems(
    sheet: Sheet, place: str, rows: Sequence[tuple[Key | None, object]], allowed: Iterable[object], official: bool
) -> list[str]:
    """What stands in the way of handing in these rows, one sentence each."""
    if not rows:
        return [f"{place} has no rows"]
    keys = [key for key, _ in rows if key is not None]
    if len(keys) < len(rows):
        first = next(number for number, (key, _) in enumerate(rows, start=1) if key is None)
        expected = f"an object with {', '.join(MULTIRC)}" if sheet.stem == "multirc" else "a number from 0"
        return [f"{place}, row {first}: the idx is not {expected}"]
    count = Counter(key[-1] for key in keys)
    total = sheet.rows if official else max(count) + 1
    gaps = total - sum(number < total for number in count)
    span = f"; expected 0 to {total - 1}"
    labels = f"; expected {', '.join(map(str, allowed))}" if sheet.written else "; expected a number from 0 to 5"
    cases: tuple[tuple[str, Iterable[object], int, str], ...] = (
        ("more than once: idx", *_listed(number for number, times in sorted(count.items()) if times > 1), ""),
        ("missing: idx", (number for number in range(total) if number not in count), gaps, span),
        ("unknown: idx", *_listed(number for number in sorted(count) if number >= total), span),
        ("no prediction:", *_listed({str(value): 0 for _, value in rows if not _fits(sheet, value, allowed)}), labels),
    )
    return [f"{place}: {what} {_some(which, size)}{expected}" for what, which, size, expected in cases if size]


def _fits(sheet: Sheet, value: object, allowed: Iterable[object]) -> bool:
    """Whether a prediction, or what a file says for it, is one of its task's."""
    if sheet.kind == "text":
        return isinstance(value, str)
    if sheet.kind == "number":
        try:
            number = float(str(value))
        except ValueError:
            return False
        return isfinite(number) and RANGE[0] <= number <= RANGE[1]
    return any(value == choice and type(value) is type(choice) for choice in allowed)


def _value(sheet: Sheet, text: str) -> Value:
    """What the file says for a prediction that fits."""
    if sheet.kind == "label":
        return sheet.written[text]
    return str(float(text)) if sheet.kind == "number" else text


def _tsv(values: Mapping[Key, Value]) -> bytes:
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter="\t", lineterminator="\n")
    writer.writerow(TSV_HEAD)
    writer.writerows((number, value) for (number,), value in values.items())
    return stream.getvalue().encode()


def _jsonl(name: str, values: Mapping[Key, Value]) -> bytes:
    lines: list[object] = [{"idx": key[-1], "label": value} for key, value in values.items()]
    if name == "MultiRC.jsonl":
        passages: dict[int, dict[int, list[object]]] = {}
        for (passage, question, answer), value in values.items():
            row = {"idx": answer, "label": value}
            passages.setdefault(passage, {}).setdefault(question, []).append(row)
        lines = [
            {
                "idx": passage,
                "passage": {"questions": [{"idx": number, "answers": rows} for number, rows in questions.items()]},
            }
            for passage, questions in passages.items()
        ]
    return "".join(json.dumps(line) + "\n" for line in lines).encode()


def _zip(files: Mapping[str, bytes]) -> bytes:
    """All files in one archive; equal files give equal bytes."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED)
    return stream.getvalue()


def _written_rows(sheet: Sheet, text: str) -> list[tuple[Key | None, object]]:
    """The ids and values of a file; raises ValueError, KeyError, TypeError or csv.Error where it is damaged."""
    if sheet.name.endswith(".tsv"):
        head, *rows = csv.reader(io.StringIO(text), delimiter="\t", strict=True)
        if tuple(head) != TSV_HEAD:
            raise ValueError(f"the first line is {head}")
        return [(_key(sheet, int(number)), value) for number, value in rows]
    lines = [json.loads(line) for line in text.split("\n") if line]
    if sheet.stem != "multirc":
        return [(_key(sheet, line["idx"]), line["label"]) for line in lines]
    return [
        (_key(sheet, {"paragraph": line["idx"], "question": question["idx"], "answer": row["idx"]}), row["label"])
        for line in lines
        for question in line["passage"]["questions"]
        for row in question["answers"]
    ]


def _listed(values: Iterable[object]) -> tuple[list[object], int]:
    """All values, and how many they are."""
    listed = list(values)
    return listed, len(listed)


def _some(values: Iterable[object], total: int) -> str:
    """The first few, and how many more there are."""
    more = f" and {total - _SHOWN} more" if total > _SHOWN else ""
    return ", ".join(map(str, islice(values, _SHOWN))) + more


def _message(head: str, problems: Sequence[str]) -> str:
    return (
        f"{head}:\n" + "\n".join(f"- {line}" for line in problems) + "\nMend the predictions and run the command again."
    )
