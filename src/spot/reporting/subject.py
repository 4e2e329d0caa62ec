"""Read what a report is about: a prompt's file, or the folder of a run, of a transfer or of a tuned model."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from spot.config import TuneConfig, load_config
from spot.errors import LibraryError, PromptError, RunError, SpotError
from spot.library.library import PACKAGED, open_library, resolve
from spot.prompts.prompt import PROMPT_FILE, SoftPrompt, header
from spot.runs.gangs import logged_curves
from spot.storage.opening import exists, is_folder, user_path
from spot.storage.run_dir import RunDir
from spot.strategies.arms import capital, plain_title, spot_title
from spot.training.model_tuning import MODEL
from spot.training.result import RunResult, read_results

CONFIG = "config.toml"  # says that a folder is a run's

Curve = tuple[tuple[int, float], ...]  # (step, percent)


@dataclass(frozen=True, kw_only=True)
class Gang:
    """Runs that walked together, one a seed.

    Attributes:
        name: what they start from, in words.
        folder: theirs.
        results: of finished runs; empty while they go on.
        curves: selection scores of each.
        prompts: files that they wrote, in the order of the results.
    """

    name: str
    folder: Path
    results: tuple[RunResult, ...]
    curves: tuple[Curve, ...]
    prompts: tuple[Path, ...]

    @property
    def selection(self) -> float:
        """Mean over the runs of the best selection score, percent; below all scores where nothing was measured."""
        best = [max(score for _, score in curve) for curve in self.curves if curve]
        return sum(best) / len(best) if best else -1000.0

    @property
    def best_prompt(self) -> Path | None:
        """The file of the run with the best selection score."""
        if len(self.prompts) != len(self.curves):
            return self.prompts[0] if self.prompts else None
        return max(
            zip(self.prompts, self.curves, strict=True), key=lambda run: max((s for _, s in run[1]), default=-1000.0)
        )[0]


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What a report is about.

    Attributes:
        kind: `prompt`, `run`, `transfer` or `tuned model`.
        place: as it was named; empty for a prompt in memory.
        task: its name.
        prompt: None of a tuned model.
        prompt_file: of the prompt; empty in memory.
        model: folder of a tuned model; None of a prompt.
        gangs: runs that it came from, or that a transfer made.
        settings: of the run.
        problems: what could not be read, in words.
    """

    kind: str
    place: str
    task: str
    prompt: SoftPrompt | None = None
    prompt_file: str = ""
    model: Path | None = None
    gangs: tuple[Gang, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def read_subject(subject: SoftPrompt | Path | str) -> Subject:
    """Read what a report is about.

    Args:
        subject: a prompt, its file, `packaged:TASK`, or the folder of a run or of a transfer.

    Raises:
        PromptError, LibraryError: there is no such prompt, or it is damaged.
        RunError: the folder holds no run that left something to report on.
    """
    if isinstance(subject, SoftPrompt):
        return _of_prompt(subject, "", ())
    name = str(subject)
    path = user_path(name)
    if name.startswith(f"{PACKAGED}:") or not is_folder(path):
        prompt = resolve(name)
        beside = path.parent
        is_run = not name.startswith(f"{PACKAGED}:") and exists(beside / CONFIG) and "prompt" in path.name
        gangs = (_gang(beside, {}),) if is_run else ()
        return _of_prompt(prompt, name, gangs)
    if exists(path / CONFIG):
        return _of_run(path)
    return _of_transfer(path)


def _of_prompt(prompt: SoftPrompt, file: str, gangs: tuple[Gang, ...]) -> Subject:
    return Subject(
        kind="prompt",
        place=file,
        task=prompt.task,
        prompt=prompt,
        prompt_file=file,
        gangs=gangs,
        settings=prompt.config,
    )


def _of_run(folder: Path) -> Subject:
    """The folder of a run, or of a gang: its best prompt, or the model that it tuned."""
    gang = _gang(folder, {})
    if is_folder(folder / MODEL):
        config = load_config(TuneConfig, folder / CONFIG)
        return Subject(
            kind="tuned model",
            place=str(folder),
            task=gang.results[0].task if gang.results else config.task,
            model=folder / MODEL,
            gangs=(gang,),
            settings=config.model_dump(mode="json"),
        )
    file = gang.best_prompt
    if file is None:
        raise RunError(
            f"{folder} holds a run that has left no prompt so far: expected {PROMPT_FILE}. Run the command that began "
            "it again, which lets it finish."
        )
    prompt = resolve(str(file))
    return Subject(
        kind="run",
        place=str(folder),
        task=prompt.task,
        prompt=prompt,
        prompt_file=str(file),
        gangs=(gang,),
        settings=prompt.config,
    )


def _of_transfer(folder: Path) -> Subject:
    """The folder of a transfer: all its runs, and the prompt of those that selection rows prefer."""
    tasks = _packaged_tasks()
    gangs, problems = [], []
    for name in sorted(os.listdir(folder)):
        if not is_folder(folder / name, folder) or not exists(folder / name / CONFIG):
            continue
        try:
            gangs.append(_gang(folder / name, tasks))
        except SpotError as error:
            problems.append(str(error))
    gangs.sort(key=lambda gang: -gang.selection)
    best = next((gang for gang in gangs if gang.best_prompt), None)
    if best is None or best.best_prompt is None:
        reasons = f" ({'; '.join(problems)})" if problems else ""
        raise RunError(
            f"{folder} holds nothing to report on{reasons}: expected a prompt's file, or the folder of a run or of a "
            "transfer. Check the path."
        )
    prompt = resolve(str(best.best_prompt))
    return Subject(
        kind="transfer",
        place=str(folder),
        task=prompt.task,
        prompt=prompt,
        prompt_file=str(best.best_prompt),
        gangs=tuple(gangs),
        settings=prompt.config,
        problems=tuple(problems),
    )


def _gang(folder: Path, tasks: Mapping[str, str]) -> Gang:
    """The runs in a folder.

    Args:
        folder: with `config.toml`.
        tasks: digest of a prompt -> its task.

    Raises:
        RunError: a log or a result is damaged.
    """
    place = RunDir(folder)
    place.digest()
    results = read_results(place) or ()
    count = max(1, len(results))
    numbered = [folder / f"prompt-{number}.safetensors" for number in range(count)]
    prompts = tuple(path for path in (folder / PROMPT_FILE, *numbered) if exists(path))
    return Gang(
        name=_name(folder, prompts, tasks),
        folder=folder,
        results=results,
        curves=tuple(tuple((point.step, point.score) for point in result.curve) for result in results)
        or tuple(map(tuple, logged_curves(place.read_log()).values())),
        prompts=prompts,
    )


def _name(folder: Path, prompts: Sequence[Path], tasks: Mapping[str, str]) -> str:
    """What runs start from, by the prompt that they wrote, else the name of their folder."""
    try:
        content = header(prompts[0], folder) if prompts else None
    except PromptError:
        content = None
    if content is None:
        return "The model's own weights" if is_folder(folder / MODEL) else folder.name
    parents = content["parents"] or ()
    if parents:
        source = " + ".join(tasks.get(parent["digest"], f"the prompt {parent['digest']}") for parent in parents)
        return capital(spot_title(source))
    start = content["initialiser"] or "a start that its file does not name"
    return capital(plain_title(start))


def _packaged_tasks() -> dict[str, str]:
    """Digest -> task of the prompts that ship here; a transfer's own library is not known."""
    try:
        return {entry.digest: entry.task for entry in open_library(PACKAGED).entries()}
    except LibraryError:
        return {}
