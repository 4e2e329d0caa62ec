"""A sandbox for transfer: a tiny frozen model that is trained here, and small text tasks whose kinship is known.

    python recipes/sandbox.py --out DIR [--steps N] [--seed S]

A skill is one or two words, each a function from text to text, applied from left to right: `odd flip` takes every
second character and then turns the text round. A T5 of 0.2 million parameters learns many skills, each told by its
name before the text, and is frozen. A task of the study is one skill without its name: the prompt must say what is
wanted. Tasks are of one family if their last words are equal. The model was trained on no target, and no source has the
first word of a target: a family is all that a source and a target can share.

    DIR/backbone/      model and tokenizer in Hugging Face layout; sandbox.json says what the model can do
    DIR/tasks/         a task file and three files of rows for each of 16 sources and 10 targets
    DIR/families.json  task -> family
    DIR/study.toml     the study of all pairs, for `spot study`

The same steps and seed give the same files on one machine. A backbone that is there is used again.
"""

import argparse
import csv
import io
import json
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from torch import Tensor
from torch.nn.utils import clip_grad_norm_
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

from spot.collator import Collator
from spot.errors import RunError
from spot.evaluation.predictions import predict_rows
from spot.models.backbone import Backbone
from spot.models.batch import IGNORED
from spot.reading import Reading
from spot.storage.files import write_whole
from spot.tasks.task import Example

LETTERS = "bcdfghjklm"  # no vowels: the metric takes "a", "an" and "the" out of answers
DIGITS = "0123456789"
SPECIAL = ("<pad>", "</s>", "<unk>")
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789 :"  # of names and texts; a token each
LONGEST = 9  # characters of a text


def _shifted(text: str, by: int) -> str:
    """Each letter or digit moved on in the circle of its kind."""
    return "".join(kind[(kind.index(c) + by) % len(kind)] for c in text for kind in (LETTERS, DIGITS) if c in kind)


FIRST: Mapping[str, Callable[[str], str]] = {  # which characters go on
    "abc": lambda text: "".join(c for c in text if c in LETTERS),
    "num": lambda text: "".join(c for c in text if c in DIGITS),
    "tail": lambda text: text[1:],
    "head": lambda text: text[:-1],
    "odd": lambda text: text[::2],
    "even": lambda text: text[1::2],
}
LAST: Mapping[str, Callable[[str], str]] = {  # what is done with them
    "copy": lambda text: text,
    "flip": lambda text: text[::-1],
    "sort": lambda text: "".join(sorted(text)),
    "next": lambda text: _shifted(text, 1),
    "prev": lambda text: _shifted(text, -1),
    "size": lambda text: str(len(text)),
    "max": lambda text: max(text),
    "min": lambda text: min(text),
    "start": lambda text: text[0],
    "end": lambda text: text[-1],
}


@dataclass(frozen=True)
class Family:
    """Skills of the study that end in one word."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]


FAMILIES: Mapping[str, Family] = {
    "flip": Family(("flip", "tail flip", "odd flip"), ("num flip", "head flip")),
    "sort": Family(("sort", "tail sort", "odd sort"), ("head sort", "even sort")),
    "next": Family(("next", "tail next", "odd next"), ("even next", "num next")),
    "size": Family(("size", "abc size", "odd size"), ("even size", "head size")),
    "max": Family(("max", "tail max"), ("num max",)),
    "copy": Family(("copy", "odd copy"), ("num copy",)),
}
SOURCES = tuple(skill for family in FAMILIES.values() for skill in family.sources)
TARGETS = tuple(skill for family in FAMILIES.values() for skill in family.targets)
SKILLS = tuple(  # that the model is trained on
    skill for last in LAST for first in ("", *FIRST) if (skill := f"{first} {last}".strip()) not in TARGETS
)

SOURCE_ROWS = {"train": 1500, "validation": 100, "test": 200}
TARGET_ROWS = {"train": 64, "validation": 100, "test": 200}
RECIPE = {"length": 8, "batch_size": 16, "learning_rate": 0.05, "max_input_tokens": 16, "max_target_tokens": 12}
STUDY: Mapping[str, Any] = {
    "seeds": 1,
    "starts": ["vocabulary"],
    "strategies": ["best", "average", "mixture", "race", "oracle", "none"],
    "k": [1, 4],
    "source": {**RECIPE, "steps": 300, "key_step": 48, "eval_every": 50, "select_rows": 100, "report_rows": 200},
    "target": {**RECIPE, "steps": 96, "eval_every": 12, "select_rows": 100, "report_rows": 200},
}


@dataclass(frozen=True)
class Training:
    """How the model is trained before it is frozen."""

    steps: int = 4000
    seed: int = 0
    skills: tuple[str, ...] = SKILLS
    batch_size: int = 64
    learning_rate: float = 3e-3


def answer(skill: str, text: str) -> str:
    """What a skill makes of a text: its words one after another."""
    for word in skill.split():
        text = (FIRST.get(word) or LAST[word])(text)
    return text


def draw(random: Random) -> str:
    """A text of five to nine letters and digits, two of each at least."""
    length = random.randint(5, LONGEST)
    letters = random.randint(2, length - 2)
    characters = [random.choice(LETTERS) for _ in range(letters)]
    characters += [random.choice(DIGITS) for _ in range(length - letters)]
    random.shuffle(characters)
    return "".join(characters)


def rows(skill: str, counts: Mapping[str, int], seed: int) -> dict[str, list[tuple[str, str]]]:
    """Split -> pairs of text and answer; no text stands in two rows."""
    random = Random(f"rows of {skill}, seed {seed}")
    texts: dict[str, None] = {}
    while len(texts) < sum(counts.values()):
        texts[draw(random)] = None
    pairs = iter([(text, answer(skill, text)) for text in texts])
    return {split: [next(pairs) for _ in range(count)] for split, count in counts.items()}


def tokenizer() -> PreTrainedTokenizerFast:
    """One token a character; as T5's own it ends each text."""
    vocabulary = {token: number for number, token in enumerate((*SPECIAL, *CHARACTERS))}
    pad, end, unknown = SPECIAL
    made = Tokenizer(models.WordLevel(vocabulary, unk_token=unknown))
    made.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    made.decoder = decoders.Fuse()
    made.post_processor = processors.TemplateProcessing(
        single=f"$A {end}", pair=f"$A {end} $B {end}", special_tokens=[(end, vocabulary[end])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token=pad, eos_token=end, unk_token=unknown, clean_up_tokenization_spaces=False
    )


def new_model(seed: int) -> T5ForConditionalGeneration:
    """A T5 of 0.2 million random parameters: width 64, 2 + 2 layers, 4 heads."""
    config = T5Config(
        vocab_size=len(SPECIAL) + len(CHARACTERS),
        d_model=64,
        d_kv=16,
        d_ff=256,
        num_layers=2,
        num_heads=4,
        feed_forward_proj="relu",
        dropout_rate=0.0,
        pad_token_id=0,
        eos_token_id=1,
        decoder_start_token_id=0,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return T5ForConditionalGeneration(config)


def train_model(training: Training) -> T5ForConditionalGeneration:
    """A model that does each of the skills where its name stands before the text; new texts in every batch."""
    random = Random(f"training, seed {training.seed}")
    model = new_model(training.seed).train()
    optimiser = torch.optim.AdamW(model.parameters(), lr=training.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, training.learning_rate, total_steps=training.steps + 1)
    for step in range(1, training.steps + 1):
        drawn = [(random.choice(training.skills), draw(random)) for _ in range(training.batch_size)]
        inputs = _padded([told(skill, text) for skill, text in drawn], 0)
        labels = _padded([answer(skill, text) for skill, text in drawn], IGNORED)
        loss = model(input_ids=inputs, attention_mask=(inputs != 0).long(), labels=labels).loss
        optimiser.zero_grad()
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 500 == 0 or step == training.steps:
            print(f"training the model: step {step} of {training.steps}, {loss.item():.3f} nats", file=sys.stderr)
    return model.eval()


def told(skill: str, text: str) -> str:
    """An input that names the skill."""
    return f"{skill}: {text}"


def make_backbone(out: Path, training: Training) -> None:
    """Train the model and write it with its tokenizer; the folder is there whole or not at all.

    Raises:
        RunError: the folder holds a model that was made in another way.
    """
    made = {**asdict(training), "skills": list(training.skills)}
    record = out / "sandbox.json"
    if record.exists():
        found = json.loads(record.read_text())["made"]
        if found != made:
            unlike = ", ".join(
                f"{key} = {found.get(key)}, not {made[key]}" for key in made if found.get(key) != made[key]
            )
            raise RunError(f"{out} holds a model made with {unlike}: choose another --out, or remove the folder")
        return
    part = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        train_model(training).save_pretrained(part)
        tokenizer().save_pretrained(part)
        content = {"made": made, **abilities(Backbone.load(str(part)), training.skills)}
        write_whole(part / record.name, (json.dumps(content, indent=1) + "\n").encode())
        shutil.rmtree(out, ignore_errors=True)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def abilities(backbone: Backbone, skills: Sequence[str], count: int = 100) -> dict[str, dict[str, float]]:
    """What the frozen model does without a prompt, percent: skills and targets by name, sources without it."""
    collator = Collator(backbone.tokenizer, backbone.id.kind, Reading(max_input_tokens=32, max_target_tokens=12))
    nothing = torch.zeros(0, backbone.id.width)

    def score(skill: str, is_told: bool) -> float:
        random = Random(f"abilities in {skill}")
        texts = [draw(random) for _ in range(count)]
        examples = [Example(text, told(skill, text) if is_told else text, ()) for text in texts]
        said = predict_rows(backbone, nothing, collator, collator.encode(examples))
        return 100 * sum(one.text == answer(skill, text) for one, text in zip(said, texts, strict=True)) / count

    return {
        "skills by name": {skill: score(skill, True) for skill in skills},
        "targets by name": {skill: score(skill, True) for skill in TARGETS},
        "sources without name": {skill: score(skill, False) for skill in SOURCES},
    }


def write_task(folder: Path, skill: str, counts: Mapping[str, int], seed: int) -> Path:
    """Write a task file and its rows; the path of the task file."""
    name = task_name(skill)
    for split, pairs in rows(skill, counts, seed).items():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([("text", "answer"), *pairs])
        write_whole(folder / f"{name}-{split}.csv", text.getvalue().encode())
    files = ", ".join(f"{split} = {json.dumps(f'{name}-{split}.csv')}" for split in counts)
    lines = {
        "name": json.dumps(name),
        "title": json.dumps(f"the skill `{skill}`, untold"),
        "rows": f"{{ {files} }}",
        "input": '"{text}"',
        "answer": '"answer"',
        "metrics": '["exact_match"]',
    }
    write_whole(folder / f"{name}.toml", "".join(f"{key} = {value}\n" for key, value in lines.items()).encode())
    return folder / f"{name}.toml"


def task_name(skill: str) -> str:
    """A skill as the name of a task: `odd flip` is `odd-flip`."""
    return skill.replace(" ", "-")


def study_toml(sources: Sequence[str], targets: Sequence[str], study: Mapping[str, Any]) -> str:
    """The study of all pairs; paths are relative to its file."""
    top = {"name": "sandbox", "backbone": "backbone", "sources": list(sources), "targets": list(targets), **study}
    tables = {name: top.pop(name) for name in ("source", "target")}  # tables come last in TOML
    lines = [f"{key} = {json.dumps(value)}" for key, value in top.items()]
    for name, table in tables.items():
        lines += ["", f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in table.items())]
    return "\n".join(lines) + "\n"


def make_study(out: Path, families: Mapping[str, Family], study: Mapping[str, Any], seed: int) -> Path:
    """Write the tasks of some families, which of them are related, and their study; the path of the study's file."""
    paths: dict[str, list[str]] = {"sources": [], "targets": []}
    related = {}
    for role, counts in (("sources", SOURCE_ROWS), ("targets", TARGET_ROWS)):
        for name, family in families.items():
            for skill in getattr(family, role):
                paths[role].append(str(write_task(out / "tasks", skill, counts, seed).relative_to(out)))
                related[task_name(skill)] = name
    write_whole(out / "families.json", (json.dumps(related, indent=1) + "\n").encode())
    write_whole(out / "study.toml", study_toml(**paths, study=study).encode())
    return out / "study.toml"


def make(out: Path, training: Training) -> None:
    """Make the whole sandbox, or what is missing of it."""
    make_backbone(out / "backbone", training)
    make_study(out, FAMILIES, STUDY, training.seed)


def _padded(texts: Sequence[str], pad: int) -> Tensor:
    """Token ids [B, longest] of texts, each with its end, padded on the right."""
    first = len(SPECIAL)
    ids = [[*(first + CHARACTERS.index(c) for c in text), SPECIAL.index("</s>")] for text in texts]
    longest = max(map(len, ids))
    return torch.tensor([row + [pad] * (longest - len(row)) for row in ids])


def main() -> None:
    """Read the arguments and make the sandbox."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the sandbox")
    parser.add_argument("--steps", type=int, default=Training.steps, help="of training the model")
    parser.add_argument("--seed", type=int, default=Training.seed, help="of the model and of all rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # a sum over two threads is another sum
    make(arguments.out, Training(arguments.steps, arguments.seed))


if __name__ == "__main__":
    main()
