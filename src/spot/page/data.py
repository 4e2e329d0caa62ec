"""Gather what a page shows of a library: its prompts, how alike their tasks are, and what was transferred from them."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from spot.errors import PromptError, SpotError, TaskError
from spot.library.entries import Entry
from spot.library.history import TransferRecord
from spot.library.library import PACKAGED, Library, packaged
from spot.metrics.scores import primary
from spot.prompts.prompt import BackboneId, KeyRecipe, Parent, header
from spot.reading import Reading, past_reading
from spot.retrieval.ranking import history_of
from spot.retrieval.search import from_library
from spot.storage.values import check_value
from spot.tasks.inputs import LINE, inputs_of
from spot.tasks.known import choice, classification, generation, glue, raw_text, reading_comprehension, superglue

OWN_KIND = "own task"
KINDS: Mapping[str, Mapping[str, Any]] = {
    "GLUE": glue.TABLE,
    "SuperGLUE": superglue.TABLE,
    "classification": classification.TABLE,
    "reading": reading_comprehension.TABLE,
    "choice": choice.TABLE,
    "generation": generation.TABLE,
    "raw text": raw_text.TABLE,
}
MOST_COMPARED = 1_500  # prompts of a group: the similarities of all pairs are held at a time
MOST_CELLS = 80  # tasks on a side of a heat map: beyond them no name can be read
SIMILARITY = "mean"  # the cosine of the average tokens


@dataclass(frozen=True, kw_only=True)
class PromptView:
    """What a page shows of one prompt.

    Attributes:
        digest: of the prompt.
        task: its name, as the file has it.
        kind: of task, one of `KINDS` or `OWN_KIND`.
        scores, frozen_scores: metric -> percent, with the prompt and without.
        step: of the checkpoint that was kept.
        length, width: P and D.
        bytes: of the file.
        changed: when the file was last written, seconds since 1970.
        seed, initialiser, parents: where the run began.
        config: settings of the run.
        recipe: how the key was made; None where it has none.
        reading: how rows become text; None where nothing says so.
        fields: that a row has; empty where they are not known.
        backbone: the frozen model.
        data_digest, code_version: of the run.
    """

    digest: str
    task: str
    kind: str
    scores: Mapping[str, float]
    frozen_scores: Mapping[str, float]
    step: int
    length: int
    width: int
    bytes: int
    changed: float
    seed: int | None
    initialiser: str
    parents: tuple[Parent, ...]
    config: Mapping[str, Any]
    recipe: KeyRecipe | None
    reading: Reading | None
    fields: tuple[str, ...]
    backbone: BackboneId
    data_digest: str = ""
    code_version: str = ""

    @property
    def score(self) -> float | None:
        """The mean of its scores, percent; None where it has none."""
        return primary(self.scores) if self.scores else None

    @property
    def frozen_score(self) -> float | None:
        """The same of the frozen model alone."""
        return primary(self.frozen_scores) if self.frozen_scores else None


@dataclass(frozen=True, eq=False, kw_only=True)
class GroupView:
    """Prompts of one frozen model and one key recipe, which can be compared with each other.

    Attributes:
        name: the model's name and the key's step.
        digests: of the N prompts, by task.
        cosines: float64 [N, N], similarities of the tasks; empty where there is nothing to compare.
        places: float64 [N, 2], the tasks on a plane: classical scaling of the same cosines.
        tree: float64 [N - 1, 4], average linkage of 1 - cosine as scipy has it.
        order: the leaves of the tree, neighbours beside each other.
        left_out: prompts whose task embedding cannot be read, and why.
        passed_over: prompts beyond `MOST_COMPARED`.
    """

    name: str
    digests: tuple[str, ...]
    cosines: np.ndarray
    places: np.ndarray
    tree: np.ndarray
    order: tuple[int, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)
    passed_over: int = 0


@dataclass(frozen=True, kw_only=True)
class LibraryView:
    """What a page shows of a library.

    Attributes:
        name: as commands name the library: `packaged` or its folder.
        prompts: by task.
        groups: the largest first.
        transfers: what is known of starts from its prompts, oldest first.
        problems: what could not be read, in words.
    """

    name: str
    prompts: tuple[PromptView, ...]
    groups: tuple[GroupView, ...]
    transfers: tuple[TransferRecord, ...]
    problems: tuple[str, ...] = ()


def view_library(library: Library) -> LibraryView:
    """Gather what a page shows of a library; a file that cannot be read is said and passed over.

    Raises:
        LibraryError: the library's folder cannot be read.
    """
    problems: list[str] = []
    prompts: list[PromptView] = []
    entries: dict[str, Entry] = {}
    for entry in library.entries():
        try:
            prompts.append(_view(entry, library))
            entries[entry.digest] = entry
        except (PromptError, OSError) as error:
            problems.append(str(error))
    try:
        transfers = tuple(history_of(library))
    except SpotError as error:
        transfers = ()
        problems.append(str(error))
    groups = sorted(_groups(prompts), key=lambda group: -len(group))
    return LibraryView(
        name=library_name(library),
        prompts=tuple(prompts),
        groups=tuple(_group(library, [entries[prompt.digest] for prompt in group]) for group in groups),
        transfers=transfers,
        problems=tuple(problems),
    )


def library_name(library: Library) -> str:
    """What commands call a library."""
    return PACKAGED if library.read_only and library.path == packaged() else str(library.path)


def kind_of(task: str) -> str:
    """The kind of a task, by its name."""
    return next((kind for kind, table in KINDS.items() if task in table), OWN_KIND)


def fields_of(reading: Reading | None) -> tuple[str, ...]:
    """The fields that a row has, as far as they are known: `text` alone where any text will do."""
    if reading is None:
        return ()
    if reading.template:
        return reading.fields
    row = _Asked()
    for values in ("a text", row):
        try:
            next(inputs_of([("row 1", values)], reading))
        except (TaskError, StopIteration):
            continue
        return tuple(row.asked) or (LINE,)
    return ()


class _Asked(Mapping[str, str]):
    """A row that has every field, and remembers for which it was asked."""

    def __init__(self) -> None:
        """Nothing is asked for yet."""
        self.asked: list[str] = []

    def __getitem__(self, name: str) -> str:
        """A text, whatever the field."""
        if name not in self.asked:
            self.asked.append(name)
        return "a text"

    def __iter__(self) -> Iterator[str]:
        """The fields that were asked for, in that order."""
        return iter(self.asked)

    def __len__(self) -> int:
        """How many were asked for."""
        return len(self.asked)

    def __contains__(self, name: object) -> bool:
        """Every field is there."""
        return isinstance(name, str)


def _view(entry: Entry, library: Library) -> PromptView:
    """One prompt, from the header of its file.

    Raises:
        PromptError: the file is damaged.
        OSError: it is gone.
    """
    content = header(entry.path, library.path)
    status = os.stat(entry.path, follow_symlinks=False)
    reading = _reading(content)
    return PromptView(
        digest=entry.digest,
        task=entry.task,
        kind=kind_of(entry.task),
        scores=dict(entry.scores),
        frozen_scores=dict(entry.frozen_scores),
        step=entry.step,
        length=entry.length,
        width=content["width"],
        bytes=status.st_size,
        changed=status.st_mtime,
        seed=entry.seed,
        initialiser=content["initialiser"] or "",
        parents=tuple(Parent(**parent) for parent in content["parents"] or ()),
        config=dict(content["config"] or {}),
        recipe=entry.key_recipe if "key" in content["arrays"] else None,
        reading=reading,
        fields=fields_of(reading),
        backbone=entry.backbone,
        data_digest=content["data_digest"] or "",
        code_version=content["code_version"] or "",
    )


def _reading(content: Mapping[str, Any]) -> Reading | None:
    """How a prompt reads rows, from its header; None where that cannot be told."""
    try:
        if content["reading"] is None:
            return past_reading(content["task"], content["config"] or {})
        return check_value(Reading, json.dumps(content["reading"]), "the reading", TaskError)
    except TaskError:
        return None


def _groups(prompts: Sequence[PromptView]) -> list[list[PromptView]]:
    """Prompts that can be compared; one without a key, or alone, stands in none."""
    groups: dict[tuple[object, ...], list[PromptView]] = {}
    for prompt in prompts:
        if prompt.recipe is not None:
            model = prompt.backbone
            identity = (model.kind, model.width, model.vocabulary, model.fingerprint, prompt.recipe)
            groups.setdefault(identity, []).append(prompt)
    return [group for group in groups.values() if len(group) > 1]


def _group(library: Library, entries: Sequence[Entry]) -> GroupView:
    """Compare the prompts of a group; one without a task embedding is left out."""
    entries, passed_over = entries[:MOST_COMPARED], max(0, len(entries) - MOST_COMPARED)
    left_out: dict[str, str] = {}
    rows: list[np.ndarray] = []
    try:
        rows = [sources.rows for sources in from_library(library, entries, SIMILARITY)]
        compared = list(entries)
    except PromptError:
        compared = []
        for entry in entries:
            try:
                rows += [sources.rows for sources in from_library(library, [entry], SIMILARITY)]
                compared.append(entry)
            except PromptError as error:
                left_out[entry.digest] = str(error)
    units = np.concatenate(rows).astype(np.float64) if rows else np.zeros((0, 1))
    recipe = entries[0].key_recipe
    cosines = np.clip(units @ units.T, -1.0, 1.0)
    tree, order = task_tree(cosines)
    return GroupView(
        name=f"{entries[0].backbone.name}, keys of step {recipe.step if recipe else '?'}",
        digests=tuple(entry.digest for entry in compared),
        cosines=cosines,
        places=plane(units),
        tree=tree,
        order=order,
        left_out=left_out,
        passed_over=passed_over,
    )


def plane(units: np.ndarray) -> np.ndarray:
    """Put tasks on a plane: classical scaling of the distances of their unit rows, the sign of each axis fixed.

    Args:
        units: [N, D], rows of length 1; their squared distances are 2 - 2 cosine.

    Returns:
        float64 [N, 2]; zeros on an axis that the tasks do not need.
    """
    places = np.zeros((len(units), 2))
    if len(units) < 2:
        return places
    centred = units - units.mean(axis=0)
    left, sizes, _ = np.linalg.svd(centred, full_matrices=False)
    count = min(2, len(sizes))
    places[:, :count] = left[:, :count] * sizes[:count]
    largest = np.abs(places).argmax(axis=0)
    signs = np.where(places[largest, [0, 1]] < 0, -1.0, 1.0)
    return places * signs


def task_tree(cosines: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Average linkage of 1 - cosine, and its leaves in an order that puts neighbours beside each other.

    Args:
        cosines: [N, N].

    Returns:
        float64 [N - 1, 4] as scipy has it, empty below two tasks; and N positions.
    """
    if len(cosines) < 2:
        return np.zeros((0, 4)), tuple(range(len(cosines)))
    distances = np.clip(1 - (cosines + cosines.T) / 2, 0.0, None)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform(distances, checks=False), "average", optimal_ordering=len(cosines) <= MOST_CELLS)
    return tree, tuple(int(leaf) for leaf in leaves_list(tree))
