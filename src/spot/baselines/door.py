"""Fit an arm by its name: `fit_baseline`, and `check_baselines` before anything is trained."""

from collections.abc import Callable, Mapping, Sequence

from spot.baselines.arms import Fitted, Terms, Unsuitable
from spot.baselines.constant import fit_constant
from spot.baselines.tfidf import fit_tfidf
from spot.config import INSTEAD
from spot.errors import ConfigError, did_you_mean

FITS: Mapping[str, Callable[[Terms], Fitted]] = {"constant": fit_constant, "tfidf": fit_tfidf}
CHECKS: Mapping[str, Callable[[Terms], None]] = {}


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
    """Let an arm learn from the training rows and choose by the selection rows.

    Args:
        name: of `spot.config.INSTEAD`.
        terms: what all arms are given; rows that report are no part of them.

    Returns:
        The arm; `fitted.on(rows)` answers rows that chose nothing.

    Raises:
        ConfigError: the name is unknown.
        Unsuitable: the arm cannot answer this task, or cannot learn from these rows: others can go on.
        MissingExtra: it needs a package that is not installed.
        BackboneError: the model, or the one that the arm needs beside it, cannot be used.
    """
    check_baselines((name,), terms)
    if name not in FITS:
        raise Unsuitable(f"{name}: not built yet")
    return FITS[name](terms)
