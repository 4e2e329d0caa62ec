"""Write the ten sets of GLUE, MNLI's mismatched rows among them as a set of their own, in T5's forms and words.

T5 writes the texts of a row by the names of their fields in alphabetical order. The diagnostic set and the mismatched
rows are MNLI's: they are answered by its prompt, and have its name where inputs begin with one.
"""

from collections.abc import Iterator

from spot.tasks.columns import Text
from spot.tasks.data_set import (
    ALIKE,
    ALL_SPLITS,
    DUPLICATE,
    FOLLOWS_THREE_WAY,
    POLARITY,
    SAME_QUESTION,
    SIMILARITIES,
    THREE_WAY,
    DataSet,
    Form,
    RawRow,
    either,
    keyed,
    rated_pair,
)


def classes(words: tuple[str, ...], *keys: str, other: tuple[str, ...] = ()) -> Form:
    """T5's form of texts whose class is the number `label`.

    Args:
        words: the label words, in the order of their numbers.
        keys: of the input, which are the fields of the row.
        other: the fields in a copy of the set that names them otherwise; empty where there is none.
    """

    def form(row: RawRow, train: bool) -> Iterator[Text]:
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
        title="grammatical acceptability of sentences",
        instruction=f"Say whether the grammar of the sentence is {either(ACCEPTABLE)}.",
        form=classes(ACCEPTABLE, "sentence"),
        folder="cola",
        hub="nyu-mll/glue:cola",
        labels=ACCEPTABLE,
        metrics=("matthews",),
        hidden_labels=TEST,
        paper="arXiv:1805.12471",
        licence="not stated; sentences from published linguistics literature, research use",
        size=8_551,
        revisions=("1b44b79f", "98939ded"),
    ),
    "glue/sst2": DataSet(
        title="sentiment of film review phrases",
        instruction=f"Say whether the phrase from a film review is {either(POLARITY)}.",
        form=classes(POLARITY, "sentence"),
        folder="sst2",
        hub="nyu-mll/glue:sst2",
        labels=POLARITY,
        splits=ALL_SPLITS,
        hub_splits=LABELLED,
        hidden_labels=TEST,
        paper="ACL:D13-1170",
        licence="not stated (Stanford Sentiment Treebank), research use",
        size=67_349,
        revisions=("ff58aa97", "09846f46"),
    ),
    "glue/mrpc": DataSet(
        title="paraphrase of news sentences",
        instruction=f"Say whether the two sentences are {either(EQUIVALENT)} in meaning.",
        form=classes(EQUIVALENT, "sentence1", "sentence2"),
        folder="mrpc",
        hub="nyu-mll/glue:mrpc",
        labels=EQUIVALENT,
        metrics=("f1", "accuracy"),
        splits=ALL_SPLITS,
        hub_splits=LABELLED,
        hidden_labels=TEST,
        paper="ACL:I05-5002",
        licence="Microsoft Research licence, research use",
        size=3_668,
        revisions=("45cbeb6c", "6ec2fa25"),
    ),
    "glue/qqp": DataSet(
        title="duplicate questions",
        instruction=SAME_QUESTION,
        form=classes(DUPLICATE, "question1", "question2"),
        folder="qqp",
        hub="nyu-mll/glue:qqp",
        labels=DUPLICATE,
        metrics=("f1", "accuracy"),
        hidden_labels=TEST,
        paper=BENCHMARK,
        licence="Quora terms, non-commercial",
        size=363_846,
        revisions=("2a264abc", "bcce038d"),
    ),
    "glue/stsb": DataSet(
        title="similarity of two sentences from 0.0 to 5.0",
        instruction=ALIKE,
        form=rated_pair("label"),
        folder="stsb",
        hub="nyu-mll/glue:stsb",
        labels=SIMILARITIES,
        metrics=("pearson_spearman",),
        splits=ALL_SPLITS,
        hub_splits=LABELLED,
        hidden_labels=TEST,
        paper="arXiv:1708.00055",
        licence="CC BY-SA 4.0 (STS benchmark; parts carry their own terms)",
        size=5_749,
        kind="number",
        revisions=("cac9e104", "3c7f9158"),
    ),
    "glue/mnli": DataSet(
        title="three-way inference over genres",
        instruction=FOLLOWS_THREE_WAY,
        form=classes(THREE_WAY, "hypothesis", "premise"),
        folder="mnli",
        hub="nyu-mll/glue:mnli",
        labels=THREE_WAY,
        hub_splits={"train": "train", "validation": "validation_matched", "test": "test_matched"},
        hidden_labels=TEST,
        paper="arXiv:1704.05426",
        licence=MNLI_LICENCE,
        size=392_702,
        revisions=("21424278", "fd33b62a"),
    ),
    "glue/mnli_mismatched": DataSet(
        title="three-way inference over genres that MNLI's train rows lack; for evaluation",
        instruction=FOLLOWS_THREE_WAY,
        form=classes(THREE_WAY, "hypothesis", "premise"),
        folder="mnli_mismatched",
        hub="nyu-mll/glue:mnli",
        labels=THREE_WAY,
        splits=("validation",),
        hub_splits={"validation": "validation_mismatched", "test": "test_mismatched"},
        hidden_labels=TEST,
        paper="arXiv:1704.05426",
        licence=MNLI_LICENCE,
        name="mnli ",
        revisions=("ca9d6959", "307f9bc2"),
    ),
    "glue/qnli": DataSet(
        title="does the sentence answer the question",
        instruction="Does the sentence answer the question? Say entailment if it does, else not_entailment.",
        form=classes(TWO_WAY, "question", "sentence"),
        folder="qnli",
        hub="nyu-mll/glue:qnli",
        labels=TWO_WAY,
        hidden_labels=TEST,
        paper=BENCHMARK,
        licence="CC BY-SA 4.0",
        size=104_743,
        revisions=("67e062d1", "a66f8791"),
    ),
    "glue/rte": DataSet(
        title="two-way inference on news",
        instruction="Does sentence2 follow from sentence1? Say entailment if it does, else not_entailment.",
        form=classes(TWO_WAY, "sentence1", "sentence2", other=("premise", "hypothesis")),  # SuperGLUE's copy
        folder="rte",
        hub="nyu-mll/glue:rte",
        labels=TWO_WAY,
        hidden_labels=TEST,
        paper=BENCHMARK,
        licence="SuperGLUE terms: each task under its own licence, research use",
        size=2_490,
        revisions=("ecdb371f", "2ae061ca"),
    ),
    "glue/wnli": DataSet(
        title="what a pronoun refers to, as inference",
        instruction="Does sentence2 say rightly whom or what sentence1 means? Say entailment or not_entailment.",
        form=classes(REFERENCE, "sentence1", "sentence2"),
        folder="wnli",
        hub="nyu-mll/glue:wnli",
        labels=REFERENCE,
        hidden_labels=TEST,
        paper=BENCHMARK,
        size=635,
        revisions=("8df8c766", "25cea6cf"),
    ),
    "glue/ax": DataSet(
        title="three-way inference by linguistic phenomenon (diagnostic set, test only)",
        instruction=FOLLOWS_THREE_WAY,
        form=classes(THREE_WAY, "hypothesis", "premise"),
        folder="ax",
        hub="nyu-mll/glue:ax",
        labels=THREE_WAY,
        metrics=("matthews",),
        splits=(),
        hidden_labels=TEST,
        paper=BENCHMARK,
        name="mnli ",
        revisions=("2c4b6dee", "b0f75c60"),
    ),
}
