"""Teach a library what the pairs of a study showed: the gains of its prompts, as its record of transfers has them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from spot.config import digest
from spot.errors import LibraryError, PromptError, StudyError
from spot.library.history import TransferRecord, encode_summary
from spot.library.library import Library
from spot.prompts.prompt import header
from spot.study.analysis.groups import TargetSeed, group_records, plain_selection_score, selection_score
from spot.study.cells import StudyPlan, finished
from spot.study.records import Record, prompt_file


@dataclass(frozen=True)
class Taught:
    """What a library has learned of a study.

    Attributes:
        transfers: of its prompts in the study.
        new: of these, the ones that it did not know.
    """

    transfers: int
    new: int


def teach(plan: StudyPlan, library: Library) -> Taught:
    """Let a library remember what a study's pairs showed; each pair that started from one of its prompts once.

    Raises:
        StudyError: no finished pair started from a prompt of the library.
        LibraryError: the library cannot be written.
    """
    taught = lessons(plan, list(finished(plan).values()), {entry.digest for entry in library.entries()})
    if not taught:
        raise StudyError(
            f"no finished pair of {plan.records} started from a prompt of {library.path}: expected the "
            "library that the study's sources are in, or that its prompts were added to."
        )
    before = len(library.transfers())
    if not library.record_transfers(taught):
        raise LibraryError(f"{library.path} cannot be written: copy it, and teach the copy.")
    return Taught(transfers=len(taught), new=len(library.transfers()) - before)


def lessons(plan: StudyPlan, records: Sequence[Record], prompts: Collection[str]) -> list[TransferRecord]:
    """Gains over plain tuning from the better start, points on selection rows; report rows teach nothing.

    Args:
        plan: the study.
        records: of its cells.
        prompts: digests of the library's prompts; what started from others is passed over.

    Returns:
        One a prompt and target, averaged over the seeds that have a plain run too. The target's embedding stands in the
        first of each target.

    Raises:
        StudyError: two records are of one cell, or one has a score and no curve.
    """
    sources = {cell.digest: cell.prompt or _prompt_digest(cell.digest) for cell in plan.cells if cell.kind == "source"}
    runs: dict[tuple[str, str], list[tuple[TargetSeed, Record]]] = {}
    for group in group_records(records):
        for pair in group.pairs.values() if group.plain else ():
            prompt = sources[pair.needs[0]]
            if prompt in prompts:
                runs.setdefault((group.target, prompt), []).append((group, pair))
    taught: list[TransferRecord] = []
    embedded: set[str] = set()
    for (target, prompt), by_seed in sorted(runs.items()):
        gains = [selection_score(pair) - plain_selection_score(group) for group, pair in by_seed]
        group, pair = by_seed[0]
        embedding = None
        if target not in embedded and group.plain[0].embedding:
            embedding = {name: encode_summary(row) for name, row in group.plain[0].embedding.items()}
            embedded.add(target)
        settings = plan.study.config.tuning("target", target)
        taught.append(
            TransferRecord(
                id=digest(settings, prompt, *[pair.digest for _, pair in by_seed]),
                source=prompt,
                source_task=pair.sources[0],
                target=target,
                gain=sum(gains) / len(gains),
                steps=pair.steps,
                rows=pair.rows.get("train", 0),
                seeds=len(by_seed),
                embedding=embedding,
            )
        )
    return taught


def _prompt_digest(cell: str) -> str:
    """Of the prompt of a source that the study tuned; empty where it is not in this machine's cache."""
    try:
        return str(header(prompt_file(cell))["digest"])
    except PromptError:
        return ""
