"""Answer rows with a prompt, and score a prompt on a task: `predict` and `evaluate`.

Both go by what the prompt's file says of how rows are read, so neither needs to be told.
"""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from spot.collator import collator_for, collator_of_reading
from spot.config import TuneConfig, load_config
from spot.errors import ConfigError, PromptError, RunError, TaskError
from spot.evaluation.classes import ClassReport, class_report
from spot.evaluation.predictions import Prediction, Progress, no_answer, predict_rows, predict_with_each, vote
from spot.evaluation.scoring import LIKELIHOOD, Evaluation, check_answered, evaluate_rows, score_predictions
from spot.library.library import resolve
from spot.metrics.scores import GLUE, SUPERGLUE, glue_average, superglue_average
from spot.models.backbone import Backbone
from spot.prompts.prompt import BackboneId, SoftPrompt, check_fits, reading_of
from spot.reading import DECODES, Reading
from spot.storage.run_dir import RunDir
from spot.storage.values import plain
from spot.tasks import mixtures, registry
from spot.tasks.inputs import inputs_of, rows_of
from spot.tasks.splits import split_rows
from spot.tasks.task import Example, Task

log = logging.getLogger(__name__)

LIMITS = ("max_input_tokens", "max_target_tokens", "truncate", "task_prefix")  # that may be asked for
REPORT = "report"  # the rows that neither train nor select, of a task without a split for them


@dataclass(frozen=True, kw_only=True)
class TaskScores:
    """What a prompt, or a vote of several, does on rows of one task.

    Attributes:
        task: its name.
        split: the rows' split; `report` for the rows that neither train nor select.
        rows: how many there are.
        scores: metric -> percent.
        invalid: answers that are no label, each of which counts as wrong.
        unanswered: rows without an answer, because the model's numbers are not finite; each counts as wrong.
        positive: the label that F1 is of; empty where there is none.
        classes: confusion matrix, and precision, recall and F1 of each class; None for open answers.
        each: of a vote, the scores of each voter alone.
        predictions: of each row.
        examples: the rows.
    """

    task: str
    split: str
    rows: int
    scores: Mapping[str, float]
    invalid: int = 0
    unanswered: int = 0
    positive: str = ""
    classes: ClassReport | None = None
    each: tuple[Mapping[str, float], ...] = ()
    predictions: tuple[Prediction, ...] = field(default=(), repr=False)
    examples: tuple[Example, ...] = field(default=(), repr=False)

    def to_json(self) -> dict[str, Any]:
        """The scores as plain values, without rows and predictions."""
        value = plain(replace(self, predictions=(), examples=(), classes=None))
        del value["predictions"], value["examples"]
        return {**value, "classes": None if self.classes is None else self.classes.to_json()}


@dataclass(frozen=True, kw_only=True)
class MixtureScores:
    """What a prompt does on the tasks of a mixture.

    Attributes:
        task: the mixture's title.
        members: the tasks that were scored.
        missing: task -> why it was not.
        averages: `glue` and `superglue`, percent, where the mixture holds the benchmark; None where scores lack.
    """

    task: str
    members: tuple[TaskScores, ...]
    missing: Mapping[str, str]
    averages: Mapping[str, float | None]

    @property
    def rows(self) -> int:
        """Rows of all tasks."""
        return sum(member.rows for member in self.members)

    def to_json(self) -> dict[str, Any]:
        """The scores as plain values; those of all members together are named by task and metric."""
        members = [member.to_json() for member in self.members]
        return {
            "task": self.task,
            "split": self.members[0].split,
            "rows": self.rows,
            "scores": {f"{part.task} {name}": value for part in self.members for name, value in part.scores.items()},
            "invalid": sum(member.invalid for member in self.members),
            "unanswered": sum(member.unanswered for member in self.members),
            "averages": dict(self.averages),
            "members": members,
            "missing": dict(self.missing),
        }


def predict(
    prompt: SoftPrompt | Path | str | None,
    backbone: Backbone | str,
    rows: Any,
    *,
    task: Task | None = None,
    template: str = "",
    decode: str | None = None,
    progress: Progress | None = None,
) -> list[Prediction]:
    """Answer rows by the fields that the prompt was trained on.

    Args:
        prompt: or its file, the folder of its run, or `packaged:TASK`; None for the model without a prompt, which
            needs a task.
        backbone: the frozen model that the prompt belongs to, or its name.
        rows: texts, where one field is read; mappings of fields; or a table: pandas, pyarrow or `datasets`.
        task: says how a row becomes text and which labels there are, where the prompt does not or another is wanted.
        template: the same, as text with fields in braces.
        decode: `rank` the labels, or `generate` the answer freely; left out: as the prompt was trained.
        progress: called after every batch.

    Returns:
        One prediction a row, in their order; one whose `is_answered` is false where the model's numbers are not finite.

    Raises:
        PromptError: the prompt belongs to another backbone.
        TaskError: a row lacks a field, nothing says which fields are read, or there are no rows.
    """
    [soft_prompt] = prompts_of(prompt) or [None]
    reading = reading_for(soft_prompt, task, template=template)
    examples = list(inputs_of(rows_of(rows), reading))
    return predict_inputs(soft_prompt, Backbone.of(backbone), examples, reading, decode, progress)


def predict_inputs(
    prompt: SoftPrompt | None,
    backbone: Backbone,
    examples: Sequence[Example],
    reading: Reading,
    decode: str | None = None,
    progress: Progress | None = None,
) -> list[Prediction]:
    """Answer examples, as `predict` does rows; their answers, if they have any, are not looked at."""
    _check_decode(decode)
    vectors = stacked([] if prompt is None else [prompt], backbone)
    collator = collator_of_reading(backbone, reading, length=vectors.shape[1])
    encoded = collator.encode([replace(example, answers=()) for example in examples])
    predictions = predict_rows(backbone, vectors[0], collator, encoded, progress, decode)
    if sentence := no_answer(predictions, backbone):
        log.warning("%s", sentence)
    return predictions


def evaluate(
    prompt: SoftPrompt | Path | str | Sequence[SoftPrompt | Path | str] | None,
    backbone: Backbone | str | BackboneId,
    task: Task | str,
    *,
    split: str | None = None,
    rows: int | None = None,
    data: Path | None = None,
    decode: str | None = None,
    max_input_tokens: int | None = None,
    max_target_tokens: int | None = None,
    truncate: str | None = None,
    task_prefix: bool | None = None,
    progress: Progress | None = None,
) -> TaskScores | MixtureScores:
    """Score a prompt, a vote of several, or the model without any, on a task or the tasks of a mixture.

    Args:
        prompt: or its file, the folder of its run, or `packaged:TASK`; several vote, and must be of one length; None
            for the model alone.
        backbone: the frozen model that they belong to, or its name, or what a prompt says of it: it is loaded when the
            rows have been read.
        task: or the name of a known task or mixture, or the path of a task file.
        split: train, validation or test; left out: validation, and of a task without one, the rows that neither
            trained nor selected by the prompt's settings.
        rows: only the first so many; left out: all.
        data: where the rows of known data sets are.
        decode: `rank` the labels, or `generate` the answer freely; left out: as the prompt was trained.
        max_input_tokens: longest input; left out, as are the next three: as the prompt or the tuned model was trained.
        max_target_tokens: longest open answer.
        truncate: the side on which a long input is cut.
        task_prefix: whether the task's name stands in front of each input.
        progress: called after every batch.

    Raises:
        ConfigError: `decode` is neither.
        PromptError: a prompt belongs to another backbone, or the prompts read rows differently.
        BackboneError: no row has an answer, because the model's numbers are not finite.
        TaskError: there are no rows with answers, or an unknown split.
    """
    _check_decode(decode)
    if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
        raise TaskError(f"rows is {rows!r}; expected how many rows to score, 1 or more.")
    prompts = prompts_of(prompt)
    asked = (max_input_tokens, max_target_tokens, truncate, task_prefix)
    limits = {name: value for name, value in zip(LIMITS, asked, strict=True) if value is not None}
    if not prompts and isinstance(backbone, str):
        limits = {**limits_of_run(Path(backbone)), **limits}
    shared = common_reading(prompts, limits)
    prefix = shared.task_prefix if shared is not None else bool(limits.get("task_prefix"))
    mixture = mixtures.find_mixture(task) if isinstance(task, str) else None
    if isinstance(task, Task):
        tasks: tuple[Task, ...] = (task,)
        if task.reading.form and shared is not None and task.reading.task_prefix != prefix:
            raise TaskError(
                f"{task.name} is read {'with' if task.reading.task_prefix else 'without'} its name in front, and the "
                f"prompt was trained {'with' if prefix else 'without'}: get the task with prefix={prefix}."
            )
    elif mixture is not None:
        tasks = mixtures.tasks_of(mixture, data, prefix)
    else:
        tasks = (registry.get(task, data, prefix=prefix),)
    chosen, missing = [], {}
    for member in tasks:
        try:
            chosen.append((member, *rows_to_score(member, split, rows, prompts)))
        except TaskError as error:
            if mixture is None:
                raise
            missing[member.name] = str(error)  # the others are scored all the same
    if mixture is not None and not chosen:
        raise TaskError(f"no task of {mixture.title} can be scored. {next(iter(missing.values()))}")
    model = Backbone.of(backbone)
    vectors = stacked(prompts, model)
    members = [
        _scores(model, vectors, member, _of_task(member, shared, limits), part, examples, decode, progress)
        for member, part, examples in chosen
    ]
    if mixture is None:
        return members[0]
    averages = _averages(members, missing)
    return MixtureScores(task=mixture.title, members=tuple(members), missing=missing, averages=averages)


def reading_for(prompt: SoftPrompt | None, task: Task | None = None, *, template: str = "") -> Reading:
    """How rows are read for a prompt: its own words, and of a task that is named, fields and labels.

    Raises:
        PromptError: the prompt's settings cannot be read by.
        TaskError: neither a prompt nor a task says it.
    """
    if prompt is None and task is None:
        raise TaskError("without a prompt nothing says how a row becomes text: expected a task. Name one.")
    shared = reading_of(prompt) if prompt is not None else None
    reading = _of_task(task, shared, {}) if task is not None else shared
    assert reading is not None
    return replace(reading, form="", template=template) if template else reading


def common_reading(
    prompts: Sequence[SoftPrompt], limits: Mapping[str, Any], names: Sequence[str] = ()
) -> Reading | None:
    """How all of these prompts read rows, with the limits that are asked for; None without prompts.

    Args:
        prompts: that are to answer the same rows.
        limits: as for `evaluate`.
        names: of the prompts, for messages; their digests where left out.

    Raises:
        PromptError: they are of several backbones or lengths, or read rows differently and no value is asked for.
    """
    for prompt in prompts[1:]:
        check_fits(prompt, prompts[0].backbone)
    lengths = sorted({prompt.length for prompt in prompts})
    if len(lengths) > 1:
        raise PromptError(f"prompts of {lengths} tokens cannot vote in one batch: expected one length; give others")
    readings = [replace(reading_of(prompt), **limits) for prompt in prompts]
    for name in ("cue", "separator", "end", "max_input_tokens", "max_target_tokens", "truncate", "task_prefix"):
        values = [getattr(reading, name) for reading in readings]
        if len(set(values)) > 1:
            titles = names or [prompt.digest for prompt in prompts]
            named = ", ".join(f"{title}: {value}" for title, value in zip(titles, values, strict=True))
            raise PromptError(
                f"prompts that were trained with unlike {name} cannot vote on the same rows ({named}): expected one "
                f"value. Give others, or one value for all with --{name.removeprefix('task_').replace('_', '-')}."
            )
    return readings[0] if readings else None


def rows_to_score(
    task: Task, split: str | None, rows: int | None, prompts: Sequence[SoftPrompt]
) -> tuple[str, list[Example]]:
    """The split's name and its rows, if they can be scored.

    Raises:
        TaskError: they have no answers, there are none, or several prompts have nothing to vote on.
    """
    if split in task.hidden_labels:
        raise TaskError(
            f"the split {split!r} of {task.name} has no public answers, so nothing here can score it. `spot submit` "
            "writes what its benchmark's server scores, `spot predict` answers rows; or choose another split."
        )
    if len(prompts) > 1 and task.metrics == (LIKELIHOOD,):
        raise TaskError(
            f"{task.name} is scored by the likelihood of its text: expected one prompt, as there are no answers that "
            f"{len(prompts)} prompts could vote on. Give one prompt at a time."
        )
    if split is None and "validation" not in task.splits and "train" in task.splits:
        config = prompts[0].config if prompts else {}
        limits = {key: config.get(key, TuneConfig.model_fields[key].default) for key in ("train_rows", "select_rows")}
        parts = split_rows(task, limits["train_rows"], limits["select_rows"], rows, config.get("rows_seed", 0))
        return REPORT, list(parts.report)
    split = split or "validation"
    examples = list(islice(task.load(split), rows))
    if not examples:
        raise TaskError(f"the split {split!r} of {task.name} holds no rows to score. Choose another split.")
    return split, examples


def prompts_of(prompt: SoftPrompt | Path | str | Sequence[SoftPrompt | Path | str] | None) -> list[SoftPrompt]:
    """Prompts by value, file, run or packaged name.

    Raises:
        PromptError: a file is missing or is no prompt.
    """
    if prompt is None:
        return []
    several = [prompt] if isinstance(prompt, SoftPrompt | Path | str) else list(prompt)
    return [entry if isinstance(entry, SoftPrompt) else resolve(str(entry)) for entry in several]


def limits_of_run(folder: Path) -> dict[str, Any]:
    """The limits that a tuned model was trained with, read from the run whose folder holds it; none for other models.

    Args:
        folder: of the model.
    """
    folder = folder.expanduser().resolve()
    if not folder.is_dir():
        return {}
    with suppress(RunError):  # a config.toml that no run wrote
        if RunDir(folder.parent).digest() is not None:
            config = load_config(TuneConfig, folder.parent / "config.toml")
            return {name: getattr(config, name) for name in LIMITS} if config.method == "model" else {}
    return {}


def stacked(prompts: Sequence[SoftPrompt], backbone: Backbone) -> Tensor:
    """Prompts of one length as a tensor [R, P, D] on the backbone's device; without any, one of no tokens.

    A prompt that was trained on weights of other bits is read with a warning: it is far from what it was (docs/log.md).

    Raises:
        PromptError: a prompt is of another backbone.
    """
    for prompt in prompts:
        check_fits(prompt, backbone.id)
        trained = prompt.config.get("quantise")
        if trained != backbone.quantise:
            before, now = (f"weights of {bits}" if bits else "whole weights" for bits in (trained, backbone.quantise))
            log.warning(
                "the prompt of %s was trained on %s, and %s is loaded with %s: its answers may be far worse",
                prompt.task,
                before,
                backbone.id.name,
                now,
            )
    values = [torch.tensor(prompt.value) for prompt in prompts] or [torch.zeros(0, backbone.id.width)]
    return torch.stack(values).to(backbone.device)


def _of_task(task: Task, shared: Reading | None, limits: Mapping[str, Any]) -> Reading:
    """A task's fields and labels in the words of the prompts; without prompts, all by the task."""
    if shared is None:
        return replace(task.reading, **limits)
    trained, named = (shared.form or shared.template), (task.reading.form or task.reading.template)
    if shared.template and task.reading.template and trained != named:
        log.warning("%s is read as %r, and the prompt was trained on %r", task.name, named, trained)
    return shared.in_words_of(task.reading)


def _check_decode(decode: str | None) -> None:
    if decode is not None and decode not in DECODES:
        raise ConfigError(f"decode is {decode!r}; expected one of {', '.join(DECODES)}")


def _scores(
    backbone: Backbone,
    vectors: Tensor,
    task: Task,
    reading: Reading,
    split: str,
    examples: Sequence[Example],
    decode: str | None,
    progress: Progress | None,
) -> TaskScores:
    """What prompts [R, P, D] do on rows of a task: the scores of the only one, or of a vote and of each voter."""
    collator = collator_for(backbone, task, length=vectors.shape[1], reading=reading)
    if len(vectors) == 1:
        evaluations = [evaluate_rows(backbone, vectors[0], task, collator, examples, progress=progress, decode=decode)]
    else:
        ballots = predict_with_each(backbone, vectors, collator, collator.encode(examples), progress, decode)
        decided = vote(ballots)
        check_answered(decided, backbone)
        evaluations = [score_predictions(task, examples, ballot) for ballot in (decided, *ballots)]
    result: Evaluation = evaluations[0]
    last = task.labels[-1] if "f1" in task.metrics else ""
    positive = last if task.positive is None else task.positive
    answers = [example.answers for example in examples]
    texts = [prediction.text for prediction in result.predictions]
    return TaskScores(
        task=task.name,
        split=split,
        rows=len(examples),
        scores=result.scores,
        invalid=result.invalid,
        unanswered=result.unanswered,
        positive=positive,
        classes=class_report(task.labels, answers, texts) if task.labels else None,
        each=tuple(voter.scores for voter in evaluations[1:]),
        predictions=result.predictions,
        examples=tuple(examples),
    )


def _averages(members: Sequence[TaskScores], missing: Mapping[str, str]) -> dict[str, float | None]:
    """The average of each benchmark whose tasks the mixture holds; None where one of them has no score."""
    scores = {member.task: member.scores for member in members}
    averages: dict[str, float | None] = {}
    for name, tasks, average in (("glue", GLUE, glue_average), ("superglue", SUPERGLUE, superglue_average)):
        if set(tasks) <= {*scores, *missing}:
            averages[name] = None if set(tasks) & set(missing) else average(scores)
    return averages
