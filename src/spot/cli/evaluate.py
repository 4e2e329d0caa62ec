"""`spot evaluate` and `spot predict`: what a prompt does on rows."""

import json
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spot.cli.options import BackboneName, Data, Json, PromptName, example, read_prompt
from spot.cli.output import emit, progress, scores
from spot.errors import TaskError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from spot.backbone import Backbone
    from spot.batching import Collator
    from spot.prompt import SoftPrompt
    from spot.tasks.base import Task

app = typer.Typer()


@app.command(epilog=example("spot evaluate runs/reviews --task reviews.toml --split train --rows 200"))
def evaluate(
    prompt: PromptName,
    task: Annotated[
        str | None, typer.Option(metavar="TASK", help="A known task or a task file.  [default: the prompt's own]")
    ] = None,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="train, validation or test.")] = "validation",
    data: Data = None,
    rows: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N rows.  [default: all]")] = None,
    backbone: BackboneName = None,
    as_json: Json = False,
) -> None:
    """Score a prompt on one split of a task, in percent."""
    from spot.tasks import registry

    source = read_prompt(prompt)
    found = registry.get(_task_name(source, task), data)
    examples = list(islice(found.load(split), rows))
    if not examples:
        raise TaskError(f"the split {split!r} of {found.name} holds no rows to score. Choose another split.")

    from spot import evaluation

    model, vectors, collator = _at_work(source, found, backbone)
    with progress(f"scoring {len(examples)} rows"):
        result = evaluation.evaluate(model, vectors, found, collator, examples)
    value = {"task": found.name, "split": split, "rows": len(examples), "scores": result.scores}
    emit(value, as_json, f"{found.name} {split}, {len(examples)} rows: {scores(result.scores)}")


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
    examples = rows.read(source, task or (found.task if found.task in registry.names() else None))

    from spot import evaluation

    model, vectors, collator = _at_work(found, known, backbone)
    with progress(f"answering {len(examples)} rows"):
        predictions = evaluation.predict(model, vectors, collator, collator.encode(examples))
    values: list[dict[str, Any]] = [
        {"label": one.text, "probabilities": one.probabilities(known.labels)} if known.labels else {"text": one.text}
        for one in predictions
    ]
    emit(values, as_json, *map(json.dumps, values))


def _task_name(prompt: "SoftPrompt", given: str | None) -> str:
    """The task that was named, or the prompt's own if it is known here."""
    from spot.tasks import registry

    if given is None and prompt.task not in registry.names():
        raise TaskError(
            f"the prompt's task {prompt.task!r} is not known here ({did_you_mean(prompt.task, registry.names())}): "
            "name its task file with --task FILE."
        )
    return given or prompt.task


def _answering(prompt: "SoftPrompt", given: str | None) -> "Task":
    """A task with the label words to choose from: of the task that was named, else those that the prompt carries."""
    from spot.tasks import registry
    from spot.tasks.base import Task

    if given is not None or "labels" not in prompt.config:
        return registry.get(_task_name(prompt, given))
    return Task(prompt.task, lambda split: iter(()), (), tuple(prompt.config["labels"]), ())


def _at_work(prompt: "SoftPrompt", task: "Task", name: str | None) -> tuple["Backbone", "Tensor", "Collator"]:
    """The frozen model of a prompt, the prompt as a tensor [P, D], and the collator that it was trained with."""
    import torch

    from spot.backbone import Backbone
    from spot.batching import collator_for
    from spot.prompt import check_fits

    name = name or prompt.backbone.name
    with progress(f"loading {name}"):
        model = Backbone.load(name)
    check_fits(prompt, model.id)
    settings = {key: prompt.config[key] for key in ("max_input_tokens", "truncate") if key in prompt.config}
    collator = collator_for(model, task, length=prompt.length, **settings)
    return model, torch.tensor(prompt.value, device=model.device), collator
