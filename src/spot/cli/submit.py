"""`spot submit`: the files that the servers of GLUE and SuperGLUE take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from spot.cli.options import BackboneName, Data, Json, example, read_prompt, reading
from spot.cli.output import emit, note, progress, table
from spot.errors import PromptError, TaskError, did_you_mean

if TYPE_CHECKING:
    from spot.models.backbone import Backbone
    from spot.prompts.prompt import SoftPrompt
    from spot.tasks.submission import Id, Sheet
    from spot.tasks.task import Example, Task

TEST = "test"  # the split that is handed in
WSC = "superglue/wsc"  # its prompts name the referent in free text

Rows = Sequence[tuple[Mapping[str, Any], "Example"]]  # as the data set has them, and as the model reads them

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
    found = {} if predictions is None else submission.read(benchmark, predictions)
    if prompts is not None:
        found |= _answered([sheet for sheet in sheets if sheet.task not in found], prompts, data, backbone)
    submission.submission(benchmark, found, out, official=not trial)
    counts = submission.validate(out, official=not trial)
    value = {"benchmark": benchmark, "folder": str(out), "zip": str(out / f"{benchmark}.zip"), "rows": counts}
    emit(value, as_json, table(("file", "rows"), counts.items()), f"{out / f'{benchmark}.zip'} holds them all")
    if trial:
        note("a trial: the server takes only the official numbers of rows")


def _answered(
    sheets: Sequence["Sheet"], folder: Path, data: Path | None, backbone: str | None
) -> dict[str, list[tuple["Id", str]]]:
    """The predictions of the prompts in a folder for test sets; whatever can be refused early is."""
    paths = _prompts(folder)
    if missing := sorted({sheet.source for sheet in sheets} - paths.keys()):
        raise PromptError(
            f"{folder} holds no prompt for {', '.join(missing)}; it has {', '.join(sorted(paths)) or 'no prompts'}. "
            "Tune what is missing, or give its predictions with --predictions."
        )
    used = {sheet.source: read_prompt(str(paths[sheet.source])) for sheet in sheets}
    tests = {sheet.task: _test_set(sheet, used[sheet.source], data) for sheet in sheets}

    from spot.models.backbone import Backbone

    models: dict[str, Backbone] = {}
    found = {}
    for sheet in sheets:
        task, rows = tests[sheet.task]
        prompt = used[sheet.source]
        name = backbone or prompt.backbone.name
        if name not in models:
            with progress(f"loading {name}"):
                models[name] = Backbone.load(name)
        with progress(f"answering {len(rows)} rows of {task.name}"):
            found[sheet.task] = _predicted(prompt, models[name], task, rows)
    return found


def _prompts(folder: Path) -> dict[str, Path]:
    """Task -> prompt file, of the prompt files and the runs in a folder."""
    from spot.library.library import PROMPT_FILE
    from spot.prompts.prompt import header

    paths: dict[str, Path] = {}
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob(f"*/{PROMPT_FILE}")]):
        task = header(path)["task"]
        if task in paths:
            raise PromptError(f"two prompts for {task}: {paths[task]} and {path}. Leave one of them in {folder}.")
        paths[task] = path
    return paths


def _test_set(sheet: "Sheet", prompt: "SoftPrompt", data: Path | None) -> tuple["Task", Rows]:
    """A test set and its rows, in the form that the prompt was trained on."""
    from spot.tasks import registry

    prefix = reading(prompt.config).task_prefix
    task = registry.get(sheet.task, data, prefix=prefix)
    if TEST not in (*task.splits, *task.hidden_labels):
        raise TaskError(
            f"{task.name} has no {TEST} split here; {did_you_mean(TEST, task.splits)} Give the data with it."
        )
    found = list(registry.paired(sheet.task, data, TEST, prefix))
    if bare := [number for number, (row, _) in enumerate(found, start=1) if "idx" not in row]:
        raise TaskError(f"{task.name} {TEST}, row {bare[0]} has no field 'idx', which the server asks for.")
    return task, found


def _predicted(prompt: "SoftPrompt", model: "Backbone", task: "Task", rows: Rows) -> list[tuple["Id", str]]:
    """The official id and the prediction of each row of a test set."""
    from dataclasses import replace

    import torch

    from spot.evaluation import evaluation
    from spot.prompts.prompt import check_fits
    from spot.tasks import submission

    check_fits(prompt, model.id)
    collator = reading(prompt.config).collator(model, task, prompt.length)
    encoded = collator.encode([replace(row, answers=()) for _, row in rows])  # a test set's labels are not for us
    vectors = torch.tensor(prompt.value, device=model.device)
    found = []
    for (row, _), one in zip(rows, evaluation.predict(model, vectors, collator, encoded), strict=True):
        free = task.name == WSC and not task.labels
        text = submission.truth(one.text, row.get("span1_text"), f"{WSC} {TEST}") if free else one.text
        found.append((row["idx"], text))
    return found
