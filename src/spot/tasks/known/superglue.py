"""Write the eight sets of SuperGLUE and its two diagnostic sets in T5's forms and words.

Most texts are written as in GLUE. MultiRC and ReCoRD are cleaned, and WSC is answered with the referent of a marked
pronoun. The diagnostic sets are answered by the prompt of RTE, and have its name where inputs begin with one.
"""

import re
from collections.abc import Iterator

from spot.errors import TaskError
from spot.tasks.columns import Text
from spot.tasks.data_set import FOLLOWS, FOLLOWS_THREE_WAY, DataSet, RawRow, either, keyed
from spot.tasks.known.glue import TEST, TWO_WAY, classes

_BREAK = re.compile(r"<br>")
_BOLD = re.compile(r"</?b>")
_SENTENCE_END = re.compile(r"([.?!\"'])\n@highlight\n")
_HIGHLIGHT = re.compile(r"\n@highlight\n")


def multirc(row: RawRow, train: bool) -> Iterator[Text]:
    """MultiRC: whether one answer to a question on a paragraph is right; the answers to a question are a group.

    T5 makes a blank of `<br>` and removes the tags of bold text; other markup stays.
    """
    keys = ("question", "answer", "paragraph")
    texts = tuple(map(row.text, keys))
    inputs = _BOLD.sub("", _BREAK.sub(" ", keyed(*zip(keys, texts, strict=True))))
    yield Text(inputs, (row.word("label", TRUTH),), _ids(row, "paragraph", "question"), texts)


def record(row: RawRow, train: bool) -> Iterator[Text]:
    """ReCoRD: which entity a query lacks. A train row is an example an answer, any other one with all answers.

    The summary's points at the end of a passage become its last sentences.
    """
    query, passage = row.text("query"), row.text("passage")
    clean = _HIGHLIGHT.sub(". ", _SENTENCE_END.sub(r"\1 ", passage))
    inputs = keyed(("query", query), ("entities", ", ".join(row.texts("entities"))), ("passage", clean))
    answers = row.texts("answers") if row.answered else ()
    if row.answered and not answers:
        raise TaskError(f"{row.place}: field 'answers' is empty, expected at least one answer. Leave the row out.")
    group = _ids(row, "passage", "query")
    for accepted in [(answer,) for answer in answers] if train else [answers]:
        yield Text(inputs, accepted, group, (query, passage))


def wsc(row: RawRow, train: bool) -> Iterator[Text]:
    """WSC: the answer is what the marked pronoun stands for, so only true pairs train.

    Elsewhere the answers are the candidate and then `True` or `False`, whether the pronoun stands for it.
    """
    text, candidate, truth = row.text("text"), row.text("span1_text"), row.word("label", TRUTH)
    if not train:
        yield Text(_marked(row, text), (candidate, truth), texts=(text,))
    elif truth == "True":
        yield Text(_marked(row, text), (candidate,), texts=(text,))


def _marked(row: RawRow, text: str) -> str:
    """The text with its pronoun as `*it*`; single blanks part the words that `span2_index` counts.

    A pronoun that is not that whole word is sought inside it and then in the next one and the one before, is parted
    from what follows it, and the text loses its last blanks: the two official texts so mended come out as T5 has them,
    which lists them.
    """
    pronoun, index, words = row.text("span2_text"), _number(row, "span2_index"), text.split(" ")
    if words[index : index + 1] == [pronoun]:
        return " ".join([*words[:index], f"*{pronoun}*", *words[index + 1 :]])
    within = re.compile(rf"(\W*){re.escape(pronoun)}\b(.*)", re.DOTALL)
    for place in (index, index + 1, index - 1):
        if 0 <= place < len(words) and (match := within.fullmatch(words[place])):
            word = f"{match[1]}*{pronoun}* {match[2]}".rstrip()
            return " ".join([*words[:place], word, *words[place + 1 :]]).rstrip()
    raise TaskError(
        f"{row.place}: field 'span2_text' holds {pronoun!r:.60}, which is not word {index} of the text, counted from 0 "
        "at single blanks, nor beside it. Mend `span2_index`, or leave the row out."
    )


def _ids(row: RawRow, *fields: str) -> str:
    """Official numbers as the name of a group, such as `12/34`."""
    return "/".join(str(_number(row.inner("idx"), field)) for field in fields)


def _number(row: RawRow, field: str) -> int:
    """A whole number from 0 on."""
    value = row.fields.get(field)
    if type(value) is not int or value < 0:
        raise TaskError(f"{row.place}: field {field!r} holds {value!r:.60}, expected a number from 0 on; mend it.")
    return value


TRUTH = ("False", "True")
COMMITMENT = ("entailment", "contradiction", "neutral")
CHOICES = ("choice1", "choice2")

TERMS = "SuperGLUE terms: each task under its own licence, research use"
BENCHMARK = "arXiv:1905.00537"

TABLE: dict[str, DataSet] = {
    "superglue/boolq": DataSet(
        title="yes-or-no questions on a passage",
        instruction="Answer the question by the passage: True for yes, False for no.",
        form=classes(TRUTH, "passage", "question"),
        folder="boolq",
        hub="aps/super_glue:boolq",
        labels=TRUTH,
        hidden_labels=TEST,
        paper="arXiv:1905.10044",
        licence="CC BY-SA 3.0",
        size=9_427,
        revisions=("6e57d2bb", "5c0d88ac"),
    ),
    "superglue/cb": DataSet(
        title="three-way inference on embedded clauses",
        instruction=FOLLOWS_THREE_WAY,
        form=classes(COMMITMENT, "hypothesis", "premise"),
        folder="cb",
        hub="aps/super_glue:cb",
        labels=COMMITMENT,
        metrics=("macro_f1", "accuracy"),
        hidden_labels=TEST,
        paper=BENCHMARK,
        licence=TERMS,
        size=250,
        revisions=("adcacf99", "79bcf58a"),
    ),
    "superglue/copa": DataSet(
        title="the likelier cause or effect",
        instruction=f"Say which is the likelier cause or effect of the premise, as is asked: {either(CHOICES)}.",
        form=classes(CHOICES, *CHOICES, "premise", "question"),
        folder="copa",
        hub="aps/super_glue:copa",
        labels=CHOICES,
        hidden_labels=TEST,
        paper=BENCHMARK,
        licence="BSD 2-clause",
        size=400,
        revisions=("ececd90d", "e3791d70"),
    ),
    "superglue/multirc": DataSet(
        title="is an answer to a question on a paragraph right",
        instruction="Is this answer to the question right, by the paragraph? Say True or False.",
        form=multirc,
        folder="multirc",
        hub="aps/super_glue:multirc",
        labels=TRUTH,
        metrics=("multirc",),
        hidden_labels=TEST,
        paper="ACL:N18-1023",
        licence=TERMS,
        size=27_243,
        revisions=("9bc7b962", "56fa22dc"),
    ),
    "superglue/record": DataSet(
        title="the entity that a query on news lacks",
        instruction="Say which of the entities stands at @placeholder in the query, by the passage.",
        form=record,
        folder="record",
        hub="aps/super_glue:record",
        metrics=("record",),
        hidden_labels=TEST,
        paper="arXiv:1810.12885",
        licence=TERMS,
        size=138_854,
        kind="text",
        revisions=("7dea3a82", "e39c004c"),
    ),
    "superglue/rte": DataSet(
        title="two-way inference on news",
        instruction=FOLLOWS,
        form=classes(TWO_WAY, "hypothesis", "premise"),
        folder="rte",
        hub="aps/super_glue:rte",
        labels=TWO_WAY,
        hidden_labels=TEST,
        paper=BENCHMARK,
        licence=TERMS,
        size=2_490,
        revisions=("d4fa2d6e", "a81dfd05"),
    ),
    "superglue/wic": DataSet(
        title="does a word have one sense in two sentences",
        instruction="Does the word mean the same in both sentences? Say True or False.",
        form=classes(TRUTH, "sentence1", "sentence2", "word"),
        folder="wic",
        hub="aps/super_glue:wic",
        labels=TRUTH,
        hidden_labels=TEST,
        paper="arXiv:1808.09121",
        licence="CC BY-NC 4.0",
        size=5_428,
        revisions=("944f6de2", "6b071e43"),
    ),
    "superglue/wsc": DataSet(
        title="what a pronoun refers to (only true pairs train)",
        instruction="Say whom or what the pronoun between asterisks stands for, in words of the text.",
        form=wsc,
        folder="wsc",
        hub="aps/super_glue:wsc.fixed",
        metrics=("wsc_accuracy",),
        hidden_labels=TEST,
        paper=BENCHMARK,
        licence=TERMS,
        size=259,
        kind="text",
        name="wsc: ",
        revisions=("b350b54f", "8b5ec546"),
    ),
    "superglue/axb": DataSet(
        title="two-way inference by linguistic phenomenon (diagnostic set, test only)",
        instruction=FOLLOWS,
        form=classes(TWO_WAY, "hypothesis", "premise", other=("sentence2", "sentence1")),  # the published names
        folder="axb",
        hub="aps/super_glue:axb",
        labels=TWO_WAY,
        metrics=("matthews",),
        splits=(),
        hidden_labels=TEST,
        paper=BENCHMARK,
        name="rte ",
        revisions=("45e6697a", "01bb2156"),
    ),
    "superglue/axg": DataSet(
        title="two-way inference on pronouns of either gender (diagnostic set, test only)",
        instruction=FOLLOWS,
        form=classes(TWO_WAY, "hypothesis", "premise"),
        folder="axg",
        hub="aps/super_glue:axg",
        labels=TWO_WAY,
        splits=(),
        hidden_labels=TEST,
        paper="arXiv:1804.09301",
        name="rte ",
        revisions=("4db3351b", "4762ffc1"),
    ),
}
