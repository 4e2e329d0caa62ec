"""`spot evaluate` and `spot predict`: what a prompt does on rows."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spot.cli.options import BackboneName, Data, Json, PromptName, Reading, example, read_prompt, reading
from spot.cli.output import emit, progress, scores
from spot.config import TuneConfig, load_config
from spot.errors import ConfigError, PromptError, RunError, TaskError, did_you_mean
from spot.storage.run_dir import RunDir

if TYPE_CHECKING:
    from torch import Tensor

    from spot.models.backbone import Backbone
    from spot.prompts.prompt import SoftPrompt
    from spot.tasks.task import Example, Task

NO_PROMPT = "none"
DECODES = ("rank", "generate")


class Side(StrEnum):
    """Where a long input loses tokens."""

    right = "right"
    left = "left"


Decode = Annotated[
    str, typer.Option(metavar="rank|generate", help="Rank the labels, or generate: an invalid answer is wrong.")
]
TRAINED = "  [default: as the prompt or the tuned model was trained]"
InputTokens = Annotated[
    int | None, typer.Option("--max-input-tokens", min=1, metavar="N", help=f"Longest input, prompt apart.{TRAINED}")
]
TargetTokens = Annotated[
    int | None, typer.Option("--max-target-tokens", min=2, metavar="N", help=f"Longest open answer.{TRAINED}")
]
Truncate = Annotated[Side | None, typer.Option(help=f"Side on which a long input is cut.{TRAINED}")]
Prefix = Annotated[
    bool | None, typer.Option("--prefix/--no-prefix", help=f"The task's name in front of each input.{TRAINED}")
]

app = typer.Typer()


@app.command(
    epilog=example(
        "spot evaluate runs/reviews --task reviews.toml --split train --rows 200",
        "spot evaluate none --backbone embedded --task reviews.toml --split train --rows 50",
    )
)
def evaluate(
    prompts: Annotated[
        list[str],
        typer.Argument(
            metavar="PROMPT...",
            help="A prompt file, the folder of a run, packaged:TASK or packaged:DIGEST; several of one length vote; "
            "none: the model alone.",
        ),
    ],
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="A known task or mixture, or the file of one.  [default: the prompt's own]"),
    ] = None,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="train, validation or test.")] = "validation",
    data: Data = None,
    rows: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N rows.  [default: all]")] = None,
    backbone: BackboneName = None,
    decode: Decode = "rank",
    max_input_tokens: InputTokens = None,
    max_target_tokens: TargetTokens = None,
    truncate: Truncate = None,
    prefix: Prefix = None,
    as_json: Json = False,
) -> None:
    """Score a prompt, a vote of several prompts, or the model without any, on one split of a task, in percent.

    Of a mixture every task that has rows here is scored, and of GLUE and SuperGLUE the average over their tasks. A
    folder that `spot tune --method model` wrote is evaluated as `none --backbone FOLDER`.
    """
    if decode not in DECODES:
        raise ConfigError(f"--decode is {decode!r}; expected one of {', '.join(DECODES)}")
    sources = [] if prompts == [NO_PROMPT] else [read_prompt(prompt) for prompt in prompts]
    if not sources and task is None:
        raise TaskError("no prompt names the task here: expected a known task or a task file; give --task TASK.")
    read = _reading(
        prompts,
        sources,
        backbone,
        max_input_tokens=max_input_tokens,
        max_target_tokens=max_target_tokens,
        truncate=truncate,
        task_prefix=prefix,
    )
    name = task if task is not None else _task_name(sources[0], None, mixed=True)
    title, to_score, missing = _rows_of(name, data, split, rows, read.task_prefix, len(sources))
    model, vectors = _at_work(sources, backbone)
    parts = [_scored(model, vectors, member, read, split, examples, decode) for member, examples in to_score]
    lines = [line for part in parts for line in _lines(part, prompts)]
    if title:
        value, told = _together(title, parts, missing)
        emit(value, as_json, *lines, *told)
    else:
        emit(parts[0], as_json, *lines)


@app.command(
    epilog=example(
        "spot predict runs/reviews --task reviews.toml --input reviews.csv",
        "echo 'the battery died after a week' | spot predict packaged:glue/sst2 --input -",
    )
)
def predict(
    prompt: PromptName,
    source: Annotated[
        str, typer.Option("--input", metavar="FILE|-", help="JSON lines, CSV, TSV, Arrow or plain lines; - for stdin.")
    ],
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Gives labels and form, for a prompt of a task that is not known here."),
    ] = None,
    backbone: BackboneName = None,
    as_json: Json = False,
) -> None:
    """Answer rows: one line of JSON a row, with label and probabilities, or with the text of an open answer.

    A row holds the fields of the task's data set, or `text` for tasks with one field, or `inputs`: what the model
    reads, word for word. A line of plain text is a row with `text`.
    """
    from spot.cli import rows
    from spot.tasks import registry

    found = read_prompt(prompt)
    known = _answering(found, task)
    name = task or (found.task if found.task in registry.names() else None)
    read = reading(found.config)
    examples = rows.read(source, name, read.task_prefix)

    from spot.evaluation import evaluation

    model, vectors = _at_work([found], backbone)
    collator = read.collator(model, known, found.length)
    with progress(f"answering {len(examples)} rows") as step:
        predictions = evaluation.predict(model, vectors[0], collator, collator.encode(examples), step)
    values: list[dict[str, Any]] = [
        {"label": one.text, "probabilities": one.probabilities(known.labels)} if known.labels else {"text": one.text}
        for one in predictions
    ]
    emit(values, as_json, *map(json.dumps, values))


def _task_name(prompt: "SoftPrompt", given: str | None, mixed: bool = False) -> str:
    """The task that was named, or the prompt's own if it is known here; only where `mixed` it may be a mixture."""
    from spot.tasks import mixtures, registry

    known = [*registry.names(), *((one.title for one in mixtures.MIXTURES.values()) if mixed else ())]
    if given is None and prompt.task not in known:
        raise TaskError(
            f"the prompt's task {prompt.task!r} is not known here ({did_you_mean(prompt.task, known)}): "
            "name its task file with --task FILE."
        )
    return given or prompt.task


def _answering(prompt: "SoftPrompt", given: str | None) -> "Task":
    """A task with the label words to choose from: of the task that was named, else those that the prompt carries."""
    from spot.tasks import registry
    from spot.tasks.task import Task

    if given is not None or "labels" not in prompt.config:
        return registry.get(_task_name(prompt, given))
    return Task(prompt.task, lambda split: iter(()), (), tuple(prompt.config["labels"]), ())


def _reading(names: Sequence[str], prompts: Sequence["SoftPrompt"], backbone: str | None, **asked: Any) -> Reading:
    """How to read the rows: as is asked for, else as the prompts, or the run that tuned the model, did.

    Raises:
        PromptError: the prompts read rows differently and no value is asked for.
    """
    given = {key: value for key, value in asked.items() if value is not None}
    configs = [prompt.config for prompt in prompts] or [_run_of(backbone)]
    found = [reading({**config, **given}) for config in configs]
    for key in Reading.__dataclass_fields__:
        values = [getattr(one, key) for one in found]
        if len(set(values)) > 1:
            told = ", ".join(f"{name}: {value}" for name, value in zip(names, values, strict=True))
            raise PromptError(
                f"prompts that were trained with unlike {key} cannot vote on the same rows ({told}): expected one "
                f"value. Give others, or one value for all with --{key.removeprefix('task_').replace('_', '-')}."
            )
    return found[0]


def _run_of(backbone: str | None) -> Mapping[str, Any]:
    """The settings of the run in whose folder a tuned model lies; none for any other model."""
    folder = Path(backbone or "").expanduser().resolve()
    if backbone is not None and folder.is_dir():
        with suppress(RunError):  # a config.toml that no run wrote
            if RunDir(folder.parent).digest() is not None:
                config = load_config(TuneConfig, folder.parent / "config.toml")
                return config.model_dump() if config.method == "model" else {}
    return {}


def _to_score(task: "Task", split: str, rows: int | None, voters: int) -> list["Example"]:
    """The rows of a split, if they can be scored.

    Raises:
        TaskError: they have no answers, there are none, or several prompts have nothing to vote on.
    """
    if split in task.hidden_labels:
        raise TaskError(
            f"the split {split!r} of {task.name} has no public answers, so nothing here can score it. `spot submit` "
            "writes what its benchmark's server scores, `spot predict` answers rows; or choose another split."
        )
    if voters > 1 and task.metrics == ("likelihood",):
        raise TaskError(
            f"{task.name} is scored by the likelihood of its text: expected one prompt, as there are no answers that "
            f"{voters} prompts could vote on. Give one prompt at a time."
        )
    examples = list(islice(task.load(split), rows))
    if not examples:
        raise TaskError(f"the split {split!r} of {task.name} holds no rows to score. Choose another split.")
    return examples


def _rows_of(
    name: str, data: Path | None, split: str, rows: int | None, prefix: bool, voters: int
) -> tuple[str, list[tuple["Task", list["Example"]]], dict[str, str]]:
    """What there is to score: of a task its rows, of a mixture those of each of its tasks.

    Returns:
        The mixture's title, empty for a task; tasks with their rows; and of a mixture, why others have none.

    Raises:
        TaskError: there is nothing to score.
    """
    from spot.tasks import mixtures, registry

    mixture = mixtures.find(name)
    if mixture is None:
        task = registry.get(name, data, prefix=prefix)
        return "", [(task, _to_score(task, split, rows, voters))], {}
    found, missing = [], {}
    for task in mixtures.tasks_of(mixture, data, prefix):
        try:
            found.append((task, _to_score(task, split, rows, voters)))
        except TaskError as error:  # the others are scored all the same
            missing[task.name] = str(error)
    if not found:
        raise TaskError(f"no task of {mixture.title} can be scored. {next(iter(missing.values()))}")
    return mixture.title, found, missing


def _scored(
    model: "Backbone",
    vectors: "Tensor",
    task: "Task",
    read: Reading,
    split: str,
    examples: Sequence["Example"],
    decode: str,
) -> dict[str, Any]:
    """What prompts [R, P, D] do on rows of a task: the scores of the only one, or of a vote and of `each` voter."""
    from spot.evaluation import evaluation

    collator = read.collator(model, task, vectors.shape[1])
    with progress(f"scoring {len(examples)} rows of {task.name}") as step:
        if len(vectors) == 1:
            results = [evaluation.evaluate(model, vectors[0], task, collator, examples, progress=step, decode=decode)]
        else:
            ballots = evaluation.predict_each(model, vectors, collator, collator.encode(examples), step, decode)
            results = [evaluation.scored(task, examples, ballot) for ballot in (evaluation.vote(ballots), *ballots)]
    value = {
        "task": task.name,
        "split": split,
        "rows": len(examples),
        "scores": results[0].scores,
        "invalid": results[0].invalid,
    }
    return value | ({"each": [result.scores for result in results[1:]]} if results[1:] else {})


def _lines(part: Mapping[str, Any], prompts: Sequence[str]) -> list[str]:
    """The scores on one task as people read them."""
    return [
        f"{part['task']} {part['split']}, {part['rows']} rows: {scores(part['scores'])}",
        *([f"{part['invalid']} of the answers are no label and count as wrong"] if part["invalid"] else []),
        *(f"  {prompt} alone: {scores(one)}" for prompt, one in zip(prompts, part.get("each", ()), strict=False)),
    ]


def _together(
    title: str, parts: Sequence[Mapping[str, Any]], missing: Mapping[str, str]
) -> tuple[dict[str, Any], list[str]]:
    """What the tasks of a mixture come to, with the average of each benchmark that it holds, as a value and as lines.

    Args:
        title: of the mixture.
        parts: of each task that was scored.
        missing: task -> why it was not; an average that lacks it is None.
    """
    from spot.metrics.scores import GLUE, SUPERGLUE, glue_average, superglue_average

    found = {part["task"]: part["scores"] for part in parts}
    averages: dict[str, float | None] = {}
    lines = [f"{task} is not scored: {reason}" for task, reason in missing.items()]
    for name, tasks, average in (("GLUE", GLUE, glue_average), ("SuperGLUE", SUPERGLUE, superglue_average)):
        if set(tasks) <= {*found, *missing}:
            try:
                averages[name.lower()] = value = average(found)
                lines.append(f"{name} average of {len(tasks)} tasks: {value:.1f}")
            except TaskError as error:  # names those without scores
                averages[name.lower()] = None
                lines.append(str(error))
    return {
        "task": title,
        "split": parts[0]["split"],
        "rows": sum(part["rows"] for part in parts),
        "scores": {f"{task} {key}": percent for task, one in found.items() for key, percent in one.items()},
        "invalid": sum(part["invalid"] for part in parts),
        "averages": averages,
        "members": list(parts),
        "missing": dict(missing),
    }, lines


def _at_work(prompts: Sequence["SoftPrompt"], name: str | None) -> tuple["Backbone", "Tensor"]:
    """The frozen model, and prompts as a tensor [R, P, D]; without any, one of no tokens.

    Raises:
        PromptError: a prompt is of another backbone, or the prompts are of several lengths.
    """
    import torch

    from spot.models.backbone import Backbone
    from spot.prompts.prompt import check_fits

    name = name or (prompts[0].backbone.name if prompts else "embedded")
    with progress(f"loading {name}"):
        model = Backbone.load(name)
    for prompt in prompts:
        check_fits(prompt, model.id)
    lengths = sorted({prompt.length for prompt in prompts})
    if len(lengths) > 1:
        raise PromptError(f"prompts of {lengths} tokens cannot vote in one batch: expected one length; give others")
    values = [torch.tensor(prompt.value) for prompt in prompts] or [torch.zeros(0, model.id.width)]
    return model, torch.stack(values).to(model.device)
