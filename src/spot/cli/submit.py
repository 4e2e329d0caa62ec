"""`spot submit`: the files that the servers of GLUE and SuperGLUE take."""

from pathlib import Path
from typing import Annotated

import typer

from spot.cli.options import BackboneName, Data, Json, Quantise, example, load_backbone
from spot.cli.output import emit, note, progress, table
from spot.errors import TaskError

app = typer.Typer()


@app.command(epilog=example("spot submit superglue --predictions predictions --out submission --trial"))
def submit(
    benchmark: Annotated[str, typer.Argument(metavar="BENCHMARK", help="glue or superglue.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to write: one file a test set, and their zip.")],
    predictions: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="JSON lines from spot predict, one file a test set: cola.jsonl, axb.jsonl."),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Prompt files or runs, one a task: they answer what has no predictions."),
    ] = None,
    data: Data = None,
    backbone: BackboneName = None,
    quantise: Quantise = None,
    trial: Annotated[
        bool, typer.Option("--trial", help="Take any number of rows from idx 0 on; the servers refuse such files.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Write and check the files of a GLUE or SuperGLUE submission, or refuse what is incomplete.

    A line of predictions holds `label` or `text`, and `idx` as the official row has it. The prompts of mnli and rte
    answer the diagnostic sets too.
    """
    from spot.tasks import submission

    sheets = submission.sheets_of(benchmark)
    if predictions is None and prompts is None:
        raise TaskError("nothing to hand in: name a folder with --predictions DIR, --prompts DIR, or both.")
    answers = {} if predictions is None else submission.read_predictions(benchmark, predictions)
    if prompts is not None:
        from spot.evaluation.test_sets import answer_test_sets

        open_sheets = [sheet for sheet in sheets if sheet.task not in answers]
        with progress(f"answering {len(open_sheets)} test set{'s' * (len(open_sheets) != 1)}") as step:
            answers |= answer_test_sets(
                open_sheets,
                prompts,
                load=lambda named: load_backbone(backbone or named, quantise),
                data=data,
                progress=step,
            )
    submission.write_submission(benchmark, answers, out, official=not trial)
    counts = submission.check_submission(out, official=not trial)
    value = {"benchmark": benchmark, "folder": str(out), "zip": str(out / f"{benchmark}.zip"), "rows": counts}
    emit(value, as_json, table(("file", "rows"), counts.items()), f"{out / f'{benchmark}.zip'} holds them all")
    if trial:
        note("a trial: the server takes only the official numbers of rows")
