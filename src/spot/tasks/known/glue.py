"""The ten sets of GLUE, MNLI's mismatched rows among them as a set of their own, in T5's forms and words.

T5 writes the texts of a row by the names of their fields in alphabetical order. The diagnostic set and the mismatched
rows are MNLI's: they are answered by its prompt, and have its name where inputs begin with one.
"""

from collections.abc import Iterator

from spot.tasks.data_set import (
    ALL_SPLITS,
    DUPLICATE,
    POLARITY,
    SIMILARITIES,
    THREE_WAY,
    DataSet,
    Form,
    Row,
    Text,
    keyed,
    rated,
)


def classes(words: tuple[str, ...], *keys: str, other: tuple[str, ...] = ()) -> Form:
    """T5's form of texts whose class is the number `label`.

    Args:
        words: the label words, in the order of their numbers.
        keys: of the input, which are the fields of the row.
        other: the fields in a copy of the set that names them otherwise; empty where there is none.
    """

    def form(row: Row, train: bool) -> Iterator[Text]:
        fields = other if any(field in row.fields for field in other) else keys
        texts = tuple(map(row.text, fields))
        yield Text(keyed(*zip(keys, texts, strict=True)), (row.word("label", words),), texts=texts)

    return form


ACCEPTABLE = ("unacceptable", "acceptable")
EQUIVALENT = ("not_equivalent", "equivalent")
TWO_WAY = ("entailment", "not_entailment")
REFERENCE = ("not_entailment", "entailment")  # WNLI counts the other way round

TEST = ("test",)
LABELLED = {"train": "train", "validation": "validation"}  # on the hub, where a data folder has the answers of test too
MNLI_LICENCE = "OANC / CC BY-SA 3.0 / CC BY 3.0 by genre"
BENCHMARK = "arXiv:1804.07461"

TABLE: dict[str, DataSet] = {
    "glue/cola": DataSet(
        "grammatical acceptability of sentences",
        classes(ACCEPTABLE, "sentence"),
        "cola",
        "nyu-mll/glue:cola",
        ACCEPTABLE,
        ("matthews",),
        hidden_labels=TEST,
        paper="arXiv:1805.12471",
        size=8_551,
        licence="not stated; sentences from published linguistics literature, research use",
    ),
    "glue/sst2": DataSet(
        "sentiment of film review phrases",
        classes(POLARITY, "sentence"),
        "sst2",
        "nyu-mll/glue:sst2",
        POLARITY,
        splits=ALL_SPLITS,
        hub_splits=LABELLED,
        hidden_labels=TEST,
        paper="ACL:D13-1170",
        size=67_349,
        licence="not stated (Stanford Sentiment Treebank), research use",
    ),
    "glue/mrpc": DataSet(
        "paraphrase of news sentences",
        classes(EQUIVALENT, "sentence1", "sentence2"),
        "mrpc",
        "nyu-mll/glue:mrpc",
        EQUIVALENT,
        ("f1", "accuracy"),
        ALL_SPLITS,
        LABELLED,
        TEST,
        "ACL:I05-5002",
        "Microsoft Research licence, research use",
        3_668,
    ),
    "glue/qqp": DataSet(
        "duplicate questions",
        classes(DUPLICATE, "question1", "question2"),
        "qqp",
        "nyu-mll/glue:qqp",
        DUPLICATE,
        ("f1", "accuracy"),
        hidden_labels=TEST,
        paper=BENCHMARK,
        licence="Quora terms, non-commercial",
        size=363_846,
    ),
    "glue/stsb": DataSet(
        "similarity of two sentences from 0.0 to 5.0",
        rated("label"),
        "stsb",
        "nyu-mll/glue:stsb",
        SIMILARITIES,
        ("pearson_spearman",),
        ALL_SPLITS,
        LABELLED,
        TEST,
        "arXiv:1708.00055",
        "CC BY-SA 4.0 (STS benchmark; parts carry their own terms)",
        5_749,
        kind="number",
    ),
    "glue/mnli": DataSet(
        "three-way inference over genres",
        classes(THREE_WAY, "hypothesis", "premise"),
        "mnli",
        "nyu-mll/glue:mnli",
        THREE_WAY,
        hub_splits={"train": "train", "validation": "validation_matched", "test": "test_matched"},
        hidden_labels=TEST,
        paper="arXiv:1704.05426",
        licence=MNLI_LICENCE,
        size=392_702,
    ),
    "glue/mnli_mismatched": DataSet(
        "three-way inference over genres that MNLI's train rows lack; for evaluation",
        classes(THREE_WAY, "hypothesis", "premise"),
        "mnli_mismatched",
        "nyu-mll/glue:mnli",
        THREE_WAY,
        splits=("validation",),
        hub_splits={"validation": "validation_mismatched", "test": "test_mismatched"},
        hidden_labels=TEST,
        paper="arXiv:1704.05426",
        licence=MNLI_LICENCE,
        name="mnli ",
    ),
    "glue/qnli": DataSet(
        "does the sentence answer the question",
        classes(TWO_WAY, "question", "sentence"),
        "qnli",
        "nyu-mll/glue:qnli",
        TWO_WAY,
        hidden_labels=TEST,
        paper=BENCHMARK,
        licence="CC BY-SA 4.0",
        size=104_743,
    ),
    "glue/rte": DataSet(
        "two-way inference on news",
        classes(TWO_WAY, "sentence1", "sentence2", other=("premise", "hypothesis")),  # SuperGLUE's copy
        "rte",
        "nyu-mll/glue:rte",
        TWO_WAY,
        hidden_labels=TEST,
        paper=BENCHMARK,
        size=2_490,
        licence="SuperGLUE terms: each task under its own licence, research use",
    ),
    "glue/wnli": DataSet(
        "what a pronoun refers to, as inference",
        classes(REFERENCE, "sentence1", "sentence2"),
        "wnli",
        "nyu-mll/glue:wnli",
        REFERENCE,
        hidden_labels=TEST,
        paper=BENCHMARK,
        size=635,
    ),
    "glue/ax": DataSet(
        "three-way inference by linguistic phenomenon (diagnostic set, test only)",
        classes(THREE_WAY, "hypothesis", "premise"),
        "ax",
        "nyu-mll/glue:ax",
        THREE_WAY,
        ("matthews",),
        splits=(),
        hidden_labels=TEST,
        paper=BENCHMARK,
        name="mnli ",
    ),
}
