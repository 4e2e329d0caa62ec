"""`spot evaluate` and `spot predict`: what a prompt does on rows."""

import json
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spot.cli.options import BackboneName, Data, Json, PromptName, example, read_prompt
from spot.cli.output import emit, progress, scores
from spot.errors import ConfigError, PromptError, TaskError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from spot.backbone import Backbone
    from spot.batching import Collator
    from spot.prompt import SoftPrompt
    from spot.tasks.base import Task

NO_PROMPT = "none"
DECODES = ("rank", "generate")

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
        str | None, typer.Option(metavar="TASK", help="A known task or a task file.  [default: the prompt's own]")
    ] = None,
    split: Annotated[str, typer.Option(metavar="SPLIT", help="train, validation or test.")] = "validation",
    data: Data = None,
    rows: Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N rows.  [default: all]")] = None,
    backbone: BackboneName = None,
    decode: Annotated[
        str, typer.Option(metavar="rank|generate", help="Rank the labels, or generate: an invalid answer is wrong.")
    ] = "rank",
    as_json: Json = False,
) -> None:
    """Score a prompt, a vote of several prompts, or the model without any, on one split of a task, in percent.

    A folder that `spot tune --method model` wrote is evaluated as `none --backbone FOLDER`.
    """
    from spot.tasks import registry

    if decode not in DECODES:
        raise ConfigError(f"--decode is {decode!r}; expected one of {', '.join(DECODES)}")
    sources = [] if prompts == [NO_PROMPT] else [read_prompt(prompt) for prompt in prompts]
    if not sources and task is None:
        raise TaskError("no prompt names the task here: expected a known task or a task file; give --task TASK.")
    name = task if task is not None else _task_name(sources[0], None)
    found = registry.get(name, data, prefix=bool(sources) and bool(sources[0].config.get("task_prefix")))
    examples = list(islice(found.load(split), rows))
    if not examples:
        raise TaskError(f"the split {split!r} of {found.name} holds no rows to score. Choose another split.")

    from spot import evaluation

    model, vectors, collator = _at_work(sources, found, backbone)
    with progress(f"scoring {len(examples)} rows") as step:
        if len(sources) < 2:
            results = [evaluation.evaluate(model, vectors[0], found, collator, examples, progress=step, decode=decode)]
        else:
            ballots = evaluation.predict_each(model, vectors, collator, collator.encode(examples), step, decode)
            results = [evaluation.scored(found, examples, ballot) for ballot in (evaluation.vote(ballots), *ballots)]
    value = {"task": found.name, "split": split, "rows": len(examples), "scores": results[0].scores,
             "invalid": results[0].invalid}  # fmt: skip
    if len(sources) > 1:
        value["each"] = [result.scores for result in results[1:]]
    emit(
        value,
        as_json,
        f"{found.name} {split}, {len(examples)} rows: {scores(results[0].scores)}",
        *([f"{results[0].invalid} of the answers are no label and count as wrong"] if results[0].invalid else []),
        *(f"  {prompt} alone: {scores(one.scores)}" for prompt, one in zip(prompts, results[1:], strict=False)),
    )


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
    examples = rows.read(source, name, bool(found.config.get("task_prefix")))

    from spot import evaluation

    model, vectors, collator = _at_work([found], known, backbone)
    with progress(f"answering {len(examples)} rows") as step:
        predictions = evaluation.predict(model, vectors[0], collator, collator.encode(examples), step)
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


def _at_work(
    prompts: Sequence["SoftPrompt"], task: "Task", name: str | None
) -> tuple["Backbone", "Tensor", "Collator"]:
    """The frozen model, prompts as a tensor [R, P, D], and the collator that they were trained with.

    Raises:
        PromptError: a prompt is of another backbone, or the prompts are of several lengths.
    """
    import torch

    from spot.backbone import Backbone
    from spot.batching import collator_for
    from spot.prompt import check_fits

    name = name or (prompts[0].backbone.name if prompts else "embedded")
    with progress(f"loading {name}"):
        model = Backbone.load(name)
    for prompt in prompts:
        check_fits(prompt, model.id)
    lengths = sorted({prompt.length for prompt in prompts})
    if len(lengths) > 1:
        raise PromptError(f"prompts of {lengths} tokens cannot vote in one batch: expected one length; give others")
    config = prompts[0].config if prompts else {}
    settings = {key: config[key] for key in ("max_input_tokens", "truncate") if key in config}
    collator = collator_for(model, task, length=max(lengths, default=0), **settings)
    values = [torch.tensor(prompt.value) for prompt in prompts] or [torch.zeros(0, model.id.width)]
    return model, torch.stack(values).to(model.device), collator
