"""Keep what a cell answered to each report row in a few bytes, so that any rival can be compared with it row by row.

Of 300 rows with labels that is 2.4 kB in the record, of open answers 3.6 kB.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, with_config

from spot.storage.values import STRICT
from spot.tasks.task import Example, text_key

NUMBER, SMALL = "<u4", "u1"  # of a row's digest and an open answer's; of a label among at most 255
NONE = {NUMBER: 2**32 - 1, SMALL: 255}  # a row without an answer


def _numbers(text: str) -> str:
    """Refuse what is no list of whole numbers in base64."""
    try:
        base64.b64decode(text, validate=True)
    except ValueError as error:
        raise ValueError(f"should be whole numbers in base64 ({error})") from error
    return text


Numbers = Annotated[str, AfterValidator(_numbers)]


@with_config(STRICT)
@dataclass(frozen=True)
class RowAnswers:
    """What was answered to N rows, in the order of the rows.

    Attributes:
        rows: digests of the rows' texts, uint32 [N] in base64: rows with one digest are copies of each other.
        given: the answers in base64: uint8 [N], numbers of labels, where there are at most 254 of them; else uint32
            [N], digests of texts. The highest number is no answer.
        correct: N letters, `1` where the answer is an accepted one, else `0`.
    """

    rows: Numbers
    given: Numbers
    correct: str

    @property
    def problem(self) -> str:
        """How its parts contradict each other; empty where they do not."""
        rows, given = (len(base64.b64decode(text)) for text in (self.rows, self.given))
        count = len(self.correct)
        if set(self.correct) - {"0", "1"}:
            return "'correct' has other letters than 0 and 1"
        if rows != 4 * count or given not in (count, 4 * count):
            return f"'rows' has {rows} bytes and 'given' {given} beside {count} letters of 'correct'"
        return ""

    def right(self) -> np.ndarray:
        """Whether each answer is an accepted one, bool [N]."""
        return np.array([letter == "1" for letter in self.correct])


def row_answers(examples: Sequence[Example], given: Sequence[str | None], labels: Sequence[str]) -> RowAnswers:
    """What was answered to rows.

    Args:
        examples: the rows.
        given: an answer each, or None.
        labels: of their task.
    """
    kind = SMALL if 0 < len(labels) < NONE[SMALL] else NUMBER
    numbers = {label: number for number, label in enumerate(labels)}
    answers = [_number(text) if kind == NUMBER and text is not None else numbers.get(text or "") for text in given]
    return RowAnswers(
        rows=_encoded([_number(text_key(example)) for example in examples], NUMBER),
        given=_encoded([NONE[kind] if answer is None else answer for answer in answers], kind),
        correct="".join("1" if text in example.answers else "0" for example, text in zip(examples, given, strict=True)),
    )


def _encoded(numbers: Sequence[int], kind: str) -> str:
    """Whole numbers of a kind in base64."""
    return base64.b64encode(np.array(numbers, kind).tobytes()).decode()


def _number(text: str) -> int:
    """32 bits of a text's digest, but for the number that stands for none."""
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest(), "little") % NONE[NUMBER]
