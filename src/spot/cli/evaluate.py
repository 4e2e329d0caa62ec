"""`spot evaluate` and `spot predict`: what a prompt does on rows."""

import json
from collections.abc import Sequence
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from spot.cli.options import (
    BackboneName,
    Data,
    Delimiter,
    Encoding,
    FileKind,
    FirstRows,
    HasHeader,
    Json,
    MaxRatio,
    MaxRow,
    PromptName,
    Quantise,
    Quotes,
    Sheet,
    SplitName,
    example,
    file_format,
    load_backbone,
    read_prompt,
)
from spot.cli.output import emit, progress, scores, table
from spot.errors import TaskError, did_you_mean

if TYPE_CHECKING:
    from rich.table import Table

    from spot.evaluation.door import MixtureScores, TaskScores
    from spot.prompts.prompt import SoftPrompt

NO_PROMPT = "none"


class Side(StrEnum):
    """Where a long input loses tokens."""

    right = "right"
    left = "left"


Decode = Annotated[
    str | None,
    typer.Option(
        metavar="rank|generate", help="Rank the labels, or generate: an invalid answer is wrong.  [default: as trained]"
    ),
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
    split: SplitName = None,
    data: Data = None,
    rows: FirstRows = None,
    backbone: BackboneName = None,
    quantise: Quantise = None,
    decode: Decode = None,
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
    read = [] if prompts == [NO_PROMPT] else [read_prompt(prompt) for prompt in prompts]
    if not read and task is None:
        raise TaskError("no prompt names the task here: expected a known task or a task file; give --task TASK.")
    name = task if task is not None else _task_name(read[0])

    from spot.evaluation.door import TaskScores, common_reading, evaluate

    asked = {
        "max_input_tokens": max_input_tokens,
        "max_target_tokens": max_target_tokens,
        "truncate": truncate.value if truncate else None,
        "task_prefix": prefix,
    }
    limits = {key: value for key, value in asked.items() if value is not None}
    common_reading(read, limits, prompts)  # what cannot vote is refused before the model loads
    wanted = backbone or (read[0].backbone if read else "embedded")
    model = wanted if quantise is None else load_backbone(wanted, quantise)
    with progress(f"scoring {name}") as step:
        result = evaluate(read, model, name, split=split, rows=rows, data=data, decode=decode, progress=step, **limits)
    members = (result,) if isinstance(result, TaskScores) else result.members
    lines = [line for member in members for line in _lines(member, prompts)]
    if not isinstance(result, TaskScores):
        lines += [f"{task} is not scored: {reason}" for task, reason in result.missing.items()]
        lines += [_average(benchmark, result) for benchmark in result.averages]
    emit(result.to_json(), as_json, *lines)


@app.command(
    epilog=example(
        "spot predict runs/reviews --input reviews.csv",
        "echo 'the battery died after a week' | spot predict packaged:glue/sst2 --input - --format txt",
    )
)
def predict(
    prompt: PromptName,
    source: Annotated[
        str,
        typer.Option(
            "--input",
            metavar="FILE|-",
            help="CSV, TSV, JSON, Excel, Parquet, Arrow, or .txt: a text a line; - for stdin, with --format.",
        ),
    ],
    kind: FileKind = "",
    encoding: Encoding = "",
    delimiter: Delimiter = "",
    quotes: Quotes = None,
    header: HasHeader = None,
    sheet: Sheet = "",
    max_row: MaxRow = None,
    max_ratio: MaxRatio = None,
    template: Annotated[
        str, typer.Option(metavar="TEXT", help="How a row becomes text: 'sentence: {field}'.  [default: as trained]")
    ] = "",
    task: Annotated[
        str | None,
        typer.Option(metavar="TASK", help="Gives fields and labels instead, for a prompt that does not say its own."),
    ] = None,
    decode: Decode = None,
    backbone: BackboneName = None,
    quantise: Quantise = None,
    as_json: Json = False,
) -> None:
    """Answer rows: one line of JSON a row, with label and probabilities, or with the text of an open answer.

    A row holds the fields that the prompt was trained on, by name; others are passed over. A line of plain text is the
    only field of a prompt that reads one.
    """
    soft_prompt = read_prompt(prompt)

    from spot.evaluation.door import predict_inputs, reading_for
    from spot.tasks import registry
    from spot.tasks.inputs import read_inputs

    known = None if task is None else registry.get(task)
    reading = reading_for(soft_prompt, known, template=template)
    given = file_format(kind, encoding, delimiter, quotes, header, sheet, max_row, max_ratio)
    examples = read_inputs(source, reading, given)
    model = load_backbone(backbone or soft_prompt.backbone, quantise)
    with progress(f"answering {len(examples)} rows") as step:
        predictions = predict_inputs(soft_prompt, model, examples, reading, decode, step)
    values = [prediction.to_json() for prediction in predictions]
    emit(values, as_json, *map(json.dumps, values))


def _task_name(prompt: "SoftPrompt") -> str:
    """The prompt's own task or mixture, if it is known here."""
    from spot.tasks import mixtures, registry

    known = [*registry.names(), *(mixture.title for mixture in mixtures.MIXTURES.values())]
    if prompt.task not in known:
        raise TaskError(
            f"the prompt's task {prompt.task!r} is not known here ({did_you_mean(prompt.task, known)}): "
            "name its task file with --task FILE."
        )
    return prompt.task


def _lines(member: "TaskScores", prompts: Sequence[str]) -> "list[str | Table]":
    """The scores on one task as people read them."""
    from spot.evaluation.classes import class_table, confusion_table, titled_scores

    titled = titled_scores(member.scores, member.classes, member.positive) if member.classes else member.scores
    lines: list[str | Table] = [f"{member.task} {member.split}, {member.rows} rows: {scores(titled)}"]
    if member.invalid:
        lines.append(f"{member.invalid} of the answers are no label and count as wrong")
    if member.unanswered:
        lines.append(f"{member.unanswered} of the rows have no answer and count as wrong")
    lines += [f"  {prompt} alone: {scores(voter)}" for prompt, voter in zip(prompts, member.each, strict=False)]
    if member.classes is not None:
        label, always = member.classes.majority
        lines.append(f"always answering {label!r} has accuracy {always:.1f}")
        lines += ["", table(**class_table(member.classes)), "", table(**confusion_table(member.classes))]
        lines += [f"note: {warning}" for warning in member.classes.warnings]
    return lines


def _average(benchmark: str, result: "MixtureScores") -> str:
    """The average of a benchmark as people read it, or what it lacks."""
    from spot.metrics.scores import GLUE, SUPERGLUE, glue_average, superglue_average

    title, tasks, average = {
        "glue": ("GLUE", GLUE, glue_average),
        "superglue": ("SuperGLUE", SUPERGLUE, superglue_average),
    }[benchmark]
    try:
        value = average({part.task: part.scores for part in result.members})
        return f"{title} average of {len(tasks)} tasks: {value:.1f}"
    except TaskError as error:  # names those without scores
        return str(error)
