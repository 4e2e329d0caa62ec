"""Write multiple-choice sets as text: choices have numbers, as T5 writes COPA, and the answer is that of the right one.

T5 has no form of its own for these. The choices come first (`choice1: .. choice2: ..`), then the question, then the
text it is on, so that a long text loses its end and never the question. A row may have fewer choices than its set
has labels.
"""

import re
from collections.abc import Iterator, Sequence

from spot.errors import TaskError
from spot.tasks.columns import Text
from spot.tasks.data_set import ALL_SPLITS, DataSet, Form, RawRow, either, keyed

CHOICES = ("choice1", "choice2", "choice3", "choice4", "choice5")
LETTERS = ("A", "B", "C", "D", "E")
DIGITS = ("1", "2", "3", "4", "5")

_BRACKETS = re.compile(r"\[.*?\]")
_TWO_STOPS = re.compile(r"(?<!\.)\.\. ")


def race(row: RawRow, train: bool) -> Iterator[Text]:
    """RACE: options in a list, the answer a letter."""
    choices = row.texts("options")
    right = _position(row, "answer", LETTERS, len(choices))
    yield _text(choices, right, ("question", row.text("question")), ("context", row.text("article")))


def cosmos_qa(row: RawRow, train: bool) -> Iterator[Text]:
    """CosmosQA: `answer0` to `answer3`, the label counts from 0."""
    choices = [row.text(f"answer{number}") for number in range(4)]
    right = _position(row, "label", ("0", "1", "2", "3"), 4)
    yield _text(choices, right, ("question", row.text("question")), ("context", row.text("context")))


def hellaswag(row: RawRow, train: bool) -> Iterator[Text]:
    """HellaSwag after the usual clean-up: the markers of WikiHow go, the second half begins in upper case.

    A row without the two halves of the context has it whole and clean in `ctx`.
    """
    whole = f"{row.text('ctx_a')} {row.text('ctx_b').capitalize()}" if "ctx_a" in row.fields else row.text("ctx")
    choices = [_without_markers(ending) for ending in row.texts("endings")]
    right = _position(row, "label", ("0", "1", "2", "3"), len(choices))
    yield _text(choices, right, ("context", _without_markers(whole)))


def winogrande(row: RawRow, train: bool) -> Iterator[Text]:
    """WinoGrande: which of two options fills the blank."""
    right = _position(row, "answer", DIGITS, 2)
    yield _text([row.text("option1"), row.text("option2")], right, ("sentence", row.text("sentence")))


def piqa(row: RawRow, train: bool) -> Iterator[Text]:
    """PIQA: which of two solutions reaches a goal."""
    right = _position(row, "label", ("0", "1"), 2)
    yield _text([row.text("sol1"), row.text("sol2")], right, ("goal", row.text("goal")))


def social_i_qa(row: RawRow, train: bool) -> Iterator[Text]:
    """SocialIQA: `answerA` to `answerC`, the label counts from 1."""
    choices = [row.text(f"answer{letter}") for letter in "ABC"]
    right = _position(row, "label", DIGITS, 3)
    yield _text(choices, right, ("question", row.text("question")), ("context", row.text("context")))


def art(row: RawRow, train: bool) -> Iterator[Text]:
    """ART (abductive inference): which hypothesis lies between two observations; the label counts from 1."""
    right = _position(row, "label", DIGITS, 2)
    observed = [(field, row.text(field)) for field in ("observation_1", "observation_2")]
    yield _text([row.text("hypothesis_1"), row.text("hypothesis_2")], right, *observed)


def lettered(field: str) -> Form:
    """The form of the AI2 sets: choices with letters of their own, in some rows digits.

    Args:
        field: holds the question.
    """

    def form(row: RawRow, train: bool) -> Iterator[Text]:
        listed = row.inner("choices")
        choices = listed.texts("text")
        right = _position(row, "answerKey", listed.texts("label"), len(choices))
        yield _text(choices, right, ("question", row.text(field)))

    return form


def _text(choices: Sequence[str], right: int, *asked: tuple[str, str]) -> Text:
    """Numbered choices, then what is asked."""
    pairs = [*zip(CHOICES, choices, strict=False), *asked]
    return Text(keyed(*pairs), (CHOICES[right],), texts=tuple(text for _, text in pairs))


def _position(row: RawRow, field: str, names: Sequence[str], choices: int) -> int:
    """Which choice the answer names, from 0; a number may stand as itself or as text. To be predicted: the first."""
    if not row.answered:
        return 0
    value = row.fields.get(field)
    name = str(value) if type(value) in (int, str) else None
    expected = list(names[:choices])
    if name not in expected or choices > len(CHOICES):
        raise TaskError(
            f"{row.place}: field {field!r} holds {value!r:.60}, expected the name of one of {choices} choices "
            f"({', '.join(map(repr, expected))}); {len(CHOICES)} choices at most. Mend the row or leave it out."
        )
    return expected.index(name)


def _without_markers(text: str) -> str:
    """HellaSwag's text without `[title]`, `[step]` and the like."""
    plain = _BRACKETS.sub("", text.strip().replace(" [title]", ". ")).replace("  ", " ")
    return _TWO_STOPS.sub(". ", plain.strip())


def _answering(count: int, on: str = "") -> str:
    """The instruction of a question with some choices, on a text or by itself."""
    return f"Say which choice answers the question{on}: {either(CHOICES[:count])}."


ARC_LICENCE = "CC BY-SA 4.0"

TABLE: dict[str, DataSet] = {
    "race_middle": DataSet(
        title="reading comprehension from middle school examinations",
        instruction=_answering(4, " on the context"),
        form=race,
        folder="race_middle",
        hub="ehovy/race:middle",
        labels=CHOICES[:4],
        paper="arXiv:1704.04683",
        licence="research use only (CMU RACE terms)",
        size=25_421,
        revisions=("90dea1cf", "a7615694"),
    ),
    "cosmos_qa": DataSet(
        title="causes and effects in everyday stories",
        instruction=_answering(4, " on the context"),
        form=cosmos_qa,
        folder="cosmos_qa",
        labels=CHOICES[:4],
        paper="arXiv:1909.00277",
        licence="CC BY 4.0",
        size=25_262,
        revisions=("9919c77d", "68312267"),
    ),
    "hellaswag": DataSet(
        title="the likelier ending of a scene",
        instruction=f"Say which choice is the likeliest ending of the context: {either(CHOICES[:4])}.",
        form=hellaswag,
        folder="hellaswag",
        hub="Rowan/hellaswag",
        labels=CHOICES[:4],
        paper="arXiv:1905.07830",
        licence="MIT",
        size=39_905,
        revisions=("7b57505d", "09c5b168"),
    ),
    "winogrande": DataSet(
        title="which noun fills the blank",
        instruction=f"Say which choice fills the blank in the sentence: {either(CHOICES[:2])}.",
        form=winogrande,
        folder="winogrande",
        hub="allenai/winogrande:winogrande_xl",
        labels=CHOICES[:2],
        paper="arXiv:1907.10641",
        licence="CC BY",
        size=40_398,
        revisions=("5f8fbc7b", "79d99138"),
    ),
    "piqa": DataSet(
        title="the practical way to a goal",
        instruction=f"Say which choice is the better way to reach the goal: {either(CHOICES[:2])}.",
        form=piqa,
        folder="piqa",
        hub="baber/piqa",
        labels=CHOICES[:2],
        paper="arXiv:1911.11641",
        licence="AFL 3.0",
        size=16_113,
        revisions=("2e8ab4d9", "92431522"),
    ),
    "social_i_qa": DataSet(
        title="motives and reactions of people",
        instruction=_answering(3, " on the context"),
        form=social_i_qa,
        folder="social_i_qa",
        hub="lighteval/siqa",
        labels=CHOICES[:3],
        paper="arXiv:1904.09728",
        licence="CC BY 4.0",
        size=33_410,
        revisions=("333aa3df", "88b3d81b"),
    ),
    "commonsense_qa": DataSet(
        title="everyday knowledge, five choices",
        instruction=_answering(5),
        form=lettered("question"),
        folder="commonsense_qa",
        hub="tau/commonsense_qa",
        labels=CHOICES,
        paper="arXiv:1811.00937",
        licence="MIT",
        size=9_741,
        revisions=("f55b5548", "3727846d"),
    ),
    "openbookqa": DataSet(
        title="elementary science, four choices",
        instruction=_answering(4),
        form=lettered("question_stem"),
        folder="openbookqa",
        hub="allenai/openbookqa:main",
        labels=CHOICES[:4],
        splits=ALL_SPLITS,
        paper="arXiv:1809.02789",
        licence="Apache 2.0 (repository)",
        size=4_957,
        revisions=("d280801d", "982d86cd"),
    ),
    "arc_easy": DataSet(
        title="school science, the easier questions",
        instruction=_answering(5),
        form=lettered("question"),
        folder="arc_easy",
        hub="allenai/ai2_arc:ARC-Easy",
        labels=CHOICES,
        splits=ALL_SPLITS,
        paper="arXiv:1803.05457",
        licence=ARC_LICENCE,
        size=2_251,
        revisions=("8549487d", "3ff3ff77"),
    ),
    "arc_challenge": DataSet(
        title="school science, the harder questions",
        instruction=_answering(5),
        form=lettered("question"),
        folder="arc_challenge",
        hub="allenai/ai2_arc:ARC-Challenge",
        labels=CHOICES,
        splits=ALL_SPLITS,
        paper="arXiv:1803.05457",
        licence=ARC_LICENCE,
        size=1_119,
        revisions=("9d2b34da", "dbc9b730"),
    ),
    "art": DataSet(
        title="the hypothesis between two observations (abductive inference)",
        instruction=f"Say which choice explains better how one observation led to the other: {either(CHOICES[:2])}.",
        form=art,
        folder="art",
        hub="allenai/art:anli",
        labels=CHOICES[:2],
        paper="arXiv:1908.05739",
        size=169_654,
        revisions=("c5c1d4b6", "64111a42"),
    ),
}
