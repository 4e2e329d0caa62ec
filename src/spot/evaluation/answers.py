"""Show what was answered to rows, as sections of a page: the most wrong ones, the first ones, and what is next."""

import json
import shlex
from collections.abc import Sequence
from typing import Any

from spot.errors import SpotError
from spot.evaluation.calibration import Calibration, calibration
from spot.evaluation.predictions import Prediction
from spot.library.library import PACKAGED, resolve
from spot.prompts.card import python_lines
from spot.prompts.prompt import SoftPrompt, reading_of
from spot.rendering.html import Section
from spot.rendering.tables import Cell, Table
from spot.storage.text import printable
from spot.tasks.task import Example

MOST_WRONG = 10
MOST_SHOWN = 5
LONGEST = 300  # letters of a text

COLUMNS = ("text", "right answer", "answer", "probability of the answer, %")


def answer_sections(examples: Sequence[Example], predictions: Sequence[Prediction]) -> list[Section]:
    """The rows that are most wrong, and the first rows with their answers; none where nothing was answered.

    A row is the more wrong, the less probable its right answer is; without probabilities the first ones are shown.

    Args:
        examples: the rows.
        predictions: one a row.
    """
    pairs = [pair for pair in zip(examples, predictions, strict=True) if pair[0].answers and pair[1].is_answered]
    if not any(prediction.text for _, prediction in pairs):
        return []
    wrong = sorted((pair for pair in pairs if not _is_right(*pair)), key=lambda pair: _right_share(*pair))
    order = "those whose right answer is least probable first"
    if not (wrong and wrong[0][1].probabilities):
        order = "in their order"
    worst: Section = {"heading": "Rows it gets most wrong", "text": "None of these rows is answered wrong."}
    if wrong:
        text = f"{len(wrong)} of {len(examples)} rows are answered wrong; {MOST_WRONG} at most, {order}."
        worst = {**worst, "text": text, "table": _table(wrong[:MOST_WRONG]), "has_cards": True}
    return [
        worst,
        {
            "heading": "Rows and their answers",
            "text": f"The first {min(MOST_SHOWN, len(pairs))} rows, which nobody chose.",
            "table": _table(pairs[:MOST_SHOWN]),
            "has_cards": True,
        },
    ]


def measured_calibration(examples: Sequence[Example], predictions: Sequence[Prediction]) -> Calibration | None:
    """Whether the probabilities of answers can be believed; None where they have none."""
    pairs = [pair for pair in zip(examples, predictions, strict=True) if pair[1].probabilities]
    shares = [prediction.probabilities[prediction.text] for _, prediction in pairs]
    return calibration(shares, [_is_right(*pair) for pair in pairs])


def next_steps(prompt_file: str) -> Section:
    """What to do with a prompt: commands and lines of Python that work as they stand.

    Args:
        prompt_file: its path, or `packaged:TASK`; one that cannot be read is only named.
    """
    named = shlex.quote(prompt_file)
    steps = [("Answer new rows, one line of JSON a row:", f"spot predict {named} --input new.csv")]
    row: Any = "a text"
    try:
        prompt = resolve(prompt_file)
        reading = reading_of(prompt)
    except SpotError:
        pass  # it has gone since
    else:
        if len(reading.fields) > 1:
            row = dict.fromkeys(reading.fields, "a text")
        steps.append(_served(prompt, prompt_file, row, is_class=bool(reading.labels)))
    name = prompt_file.removeprefix(f"{PACKAGED}:")
    from_library = f'spot.open_library("{PACKAGED}").get({name!r})'
    load = f"spot.SoftPrompt.load({prompt_file!r})" if name == prompt_file else from_library
    steps.append(("In Python:", python_lines(load, row)))
    return {"heading": "Next", "code": steps}


def _served(prompt: SoftPrompt, prompt_file: str, row: Any, *, is_class: bool) -> tuple[str, str]:
    """How a prompt is served, and a request that it answers."""
    path, key = ("classify", "input") if is_class else ("completions", "prompt")
    served = (
        f"--library {PACKAGED}" if prompt_file.startswith(f"{PACKAGED}:") else f"--prompt {shlex.quote(prompt_file)}"
    )
    body = shlex.quote(json.dumps({"model": prompt.digest, key: row}))
    return (
        "Serve it over HTTP, alone or with others of its frozen model:",
        f"spot serve {served}\ncurl 127.0.0.1:8000/v1/{path} --json {body}",
    )


def _table(pairs: Sequence[tuple[Example, Prediction]]) -> Table:
    rows: list[list[Cell]] = []
    for example, prediction in pairs:
        share = prediction.probabilities.get(prediction.text)
        rows.append(
            [
                _short(example.inputs),
                _short(example.answers[0]),
                _short(prediction.text) or "nothing",
                None if share is None else 100 * share,
            ]
        )
    if all(row[-1] is None for row in rows):
        return {"columns": COLUMNS[:-1], "rows": [row[:-1] for row in rows]}
    return {"columns": COLUMNS, "rows": rows}


def _is_right(example: Example, prediction: Prediction) -> bool:
    return prediction.text in example.answers


def _right_share(example: Example, prediction: Prediction) -> float:
    """The probability of the right answer; 0 for all where there is none, which keeps their order."""
    return sum(prediction.probabilities.get(answer, 0.0) for answer in set(example.answers))


def _short(text: str) -> str:
    """A text of a row, in one line and not too long."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."
