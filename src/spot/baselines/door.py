"""Fit an arm by its name: `fit_baseline`, and `check_baselines` before anything is trained.

NAME-DIGEST.json      in the terms' folder: what an arm came to, and its answers to one set of rows
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import with_config
from torch import Tensor

from spot.baselines.arms import Baseline, Fitted, Terms
from spot.baselines.constant import fit_constant
from spot.baselines.embedding import check_embedding, fit_embedding
from spot.baselines.icl import fit_icl
from spot.baselines.lora import check_lora, fit_lora
from spot.baselines.probe import fit_probe, fit_probe_behind, vectors_digest
from spot.baselines.tfidf import fit_tfidf
from spot.config import INSTEAD, PROBE_BEHIND, digest
from spot.errors import ConfigError, RunError, StorageError, did_you_mean
from spot.evaluation.predictions import Prediction
from spot.metrics.scores import spelled_metrics
from spot.storage.files import remove_leftovers, write_whole
from spot.storage.opening import read_bounded
from spot.storage.values import STRICT, read_value, to_json
from spot.tasks.task import Example, data_digest

FITS: Mapping[str, Callable[[Terms], Fitted]] = {
    "constant": fit_constant,
    "tfidf": fit_tfidf,
    "probe": fit_probe,
    "embedding": fit_embedding,
    "icl": fit_icl,
    "lora": fit_lora,
}
CHECKS: Mapping[str, Callable[[Terms], None]] = {"embedding": check_embedding, "lora": check_lora}
# What decides an arm beside the rows, the reading and the model.
SETTINGS: Mapping[str, tuple[str, ...]] = {
    "embedding": ("embedding_model",),
    "icl": ("demonstrations",),
    "lora": ("lora_rank", "lora_rates", "lora_modules"),
}
MOST_BYTES = 500_000_000  # of a file: a million answers of a paragraph


@with_config(STRICT)
@dataclass(frozen=True)
class _Kept:
    """The content of a file.

    Attributes:
        rows: digest of the rows that are answered.
        baseline: what the arm came to on them.
    """

    rows: str
    baseline: Baseline


def check_baselines(names: Sequence[str], terms: Terms) -> None:
    """Refuse what cannot run on any task, before anything is trained.

    Raises:
        ConfigError: a name is unknown.
        MissingExtra: an arm needs a package that is not installed.
        BackboneError: a model has no modules of the names that `lora` is to adapt, or `embedding_model` is no model.
    """
    for name in names:
        if name not in INSTEAD:
            raise ConfigError(f"{name!r} is no arm; {did_you_mean(name, INSTEAD)}")
        if name in CHECKS:
            CHECKS[name](terms)


def fit_baseline(name: str, terms: Terms) -> Fitted:
    """Let an arm learn from the training rows and choose by the selection rows; what it came to before is read.

    Args:
        name: of `spot.config.INSTEAD`.
        terms: what all arms are given; rows that report are no part of them.

    Returns:
        The arm; `fitted.on(rows)` answers rows that chose nothing, and keeps the answers.

    Raises:
        ConfigError: the name is unknown.
        Unsuitable: the arm cannot answer this task, or cannot learn from these rows: others can go on.
        MissingExtra: it needs a package that is not installed.
        BackboneError: the model, or the one that the arm needs beside it, cannot be used.
        RunError: what was kept is damaged.
    """
    check_baselines((name,), terms)
    return _kept_or_fitted(name, terms, lambda: FITS[name](terms))


def fit_behind(terms: Terms, prompts: Mapping[str, Tensor]) -> Fitted:
    """Let a probe learn behind one of some prompts, as `fit_probe_behind` does; what it came to before is read.

    Raises:
        Unsuitable, BackboneError, RunError: as `fit_baseline`.
    """
    told = [f"{task} {vectors_digest(prompt)}" for task, prompt in prompts.items()]
    return _kept_or_fitted(PROBE_BEHIND, terms, lambda: fit_probe_behind(terms, prompts), told)


def _kept_or_fitted(name: str, terms: Terms, fit: Callable[[], Fitted], told: Sequence[str] = ()) -> Fitted:
    """An arm as it was kept, else fitted, which keeps its answers.

    Args:
        name: of the arm.
        terms: what all arms are given.
        fit: lets it learn.
        told: what decides it beside the terms.
    """
    path = terms.out / f"{name}-{_digest(name, terms, told)}.json"
    kept = _read(path, terms.out)
    fitted = fit() if kept is None else None
    shown = kept.baseline.fitted() if kept is not None else fitted
    assert shown is not None

    def answer(rows: Sequence[Example]) -> Sequence[Prediction]:
        if kept is not None and kept.rows == data_digest(rows):
            return kept.baseline.predictions
        predictions = tuple((fitted or fit()).answer(rows))
        _write(path, _Kept(data_digest(rows), Baseline(shown.learned, predictions)), terms.out)
        return predictions

    return Fitted(shown.learned, answer)


def _digest(name: str, terms: Terms, told: Sequence[str]) -> str:
    """What decides an arm."""
    task = terms.task
    settings = [repr(getattr(terms, key)) for key in SETTINGS.get(name, ())]
    rows = [data_digest(part) for part in (terms.train, terms.selection)]
    scored = repr((task.labels, spelled_metrics(task.metrics), task.reading.spelling))
    return digest(terms.config, name, *settings, *rows, scored, terms.backbone.id.fingerprint, *told)


def _read(path: Path, inside: Path) -> _Kept | None:
    """What a file keeps; None where there is none.

    Raises:
        RunError: it is damaged.
    """
    try:
        content = read_bounded(path, MOST_BYTES, inside)
        return None if content is None else read_value(_Kept, content, str(path), RunError, most_bytes=MOST_BYTES)
    except (RunError, StorageError) as error:
        raise RunError(f"{error} Delete it to let the arm learn again.") from error


def _write(path: Path, kept: _Kept, inside: Path) -> None:
    """Keep what an arm came to."""
    write_whole(path, to_json(kept).encode(), inside)
    remove_leftovers(path.parent, inside)
