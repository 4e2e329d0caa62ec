"""Answer the test sets of GLUE and SuperGLUE with a folder of prompts, for `spot submit`."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from spot.errors import BackboneError, PromptError, TaskError, did_you_mean
from spot.evaluation.door import predict_inputs, reading_for
from spot.evaluation.predictions import Progress, no_answer
from spot.library.library import PROMPT_FILE, resolve
from spot.models.backbone import Backbone
from spot.prompts.prompt import BackboneId, SoftPrompt, header, reading_of
from spot.tasks import registry, submission
from spot.tasks.submission import Id, Sheet
from spot.tasks.task import Example, Task

TEST = "test"  # the split that is handed in
WSC = "superglue/wsc"  # its prompts name the referent in free text

TestRows = Sequence[tuple[Mapping[str, Any], Example]]  # as the data set has them, and as the model reads them


def answer_test_sets(
    sheets: Sequence[Sheet],
    folder: Path,
    *,
    load: Callable[[BackboneId], Backbone],
    data: Path | None = None,
    progress: Progress | None = None,
) -> dict[str, list[tuple[Id, str]]]:
    """The predictions of the prompts in a folder for test sets; whatever can be refused early is.

    Args:
        sheets: the test sets.
        folder: prompt files or runs, one a task.
        load: gives the frozen model that a prompt says it belongs to; asked once a model.
        data: where the rows of known data sets are.
        progress: called after every batch.

    Returns:
        Test set -> (official id, prediction) of each row.

    Raises:
        BackboneError: a row has no answer, because the model's numbers are not finite.
        PromptError: a test set has no prompt, two prompts are of one task, or one belongs to another backbone.
        TaskError: a test set is not at hand, or its rows lack their ids.
    """
    paths = prompt_paths(folder)
    if missing := sorted({sheet.source for sheet in sheets} - paths.keys()):
        raise PromptError(
            f"{folder} holds no prompt for {', '.join(missing)}; it has {', '.join(sorted(paths)) or 'no prompts'}. "
            "Tune what is missing, or give its predictions with --predictions."
        )
    prompts = {sheet.source: resolve(str(paths[sheet.source])) for sheet in sheets}
    tests = {sheet.task: _test_set(sheet, prompts[sheet.source], data) for sheet in sheets}
    models: dict[BackboneId, Backbone] = {}
    answers = {}
    for sheet in sheets:
        prompt = prompts[sheet.source]
        if prompt.backbone not in models:
            models[prompt.backbone] = load(prompt.backbone)
        answers[sheet.task] = _answered(prompt, models[prompt.backbone], *tests[sheet.task], progress)
    return answers


def prompt_paths(folder: Path) -> dict[str, Path]:
    """Task -> prompt file, of the prompt files and the runs in a folder.

    Raises:
        PromptError: two prompts are of one task, or a file is none.
    """
    paths: dict[str, Path] = {}
    for path in sorted([*folder.glob("*.safetensors"), *folder.glob(f"*/{PROMPT_FILE}")]):
        task = header(path)["task"]
        if task in paths:
            raise PromptError(f"two prompts for {task}: {paths[task]} and {path}. Leave one of them in {folder}.")
        paths[task] = path
    return paths


def _test_set(sheet: Sheet, prompt: SoftPrompt, data: Path | None) -> tuple[Task, TestRows]:
    """A test set and its rows, in the form that the prompt was trained on."""
    prefix = reading_of(prompt).task_prefix
    task = registry.get(sheet.task, data, prefix=prefix)
    if TEST not in (*task.splits, *task.hidden_labels):
        raise TaskError(
            f"{task.name} has no {TEST} split here; {did_you_mean(TEST, task.splits)} Give the data with it."
        )
    rows = list(registry.paired(sheet.task, data, TEST, prefix))
    if bare := [number for number, (row, _) in enumerate(rows, start=1) if "idx" not in row]:
        raise TaskError(f"{task.name} {TEST}, row {bare[0]} has no field 'idx', which the server asks for.")
    return task, rows


def _answered(
    prompt: SoftPrompt, model: Backbone, task: Task, rows: TestRows, progress: Progress | None
) -> list[tuple[Id, str]]:
    """The official id and the prediction of each row of a test set."""
    reading = reading_for(prompt, task)
    examples = [replace(example, answers=()) for _, example in rows]  # a test set's labels are not for us
    predictions = predict_inputs(prompt, model, examples, reading, progress=progress)
    if sentence := no_answer(predictions, model):
        raise BackboneError(f"{task.name} {TEST} cannot be handed in: {sentence}.")
    answers = []
    for (row, _), prediction in zip(rows, predictions, strict=True):
        is_free = task.name == WSC and not task.labels
        referent = f"{WSC} {TEST}"
        text = submission.wsc_label(prediction.text, row.get("span1_text"), referent) if is_free else prediction.text
        answers.append((row["idx"], text))
    return answers
