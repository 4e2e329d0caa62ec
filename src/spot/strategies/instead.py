"""Let the arms that are no prompts learn on a target's rows: what one would pick instead."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from spot.baselines.arms import Fitted, Learned, Terms, Unsuitable
from spot.baselines.door import check_baselines, fit_baseline, fit_behind
from spot.config import PROBE_BEHIND, TransferConfig
from spot.strategies.arms import BASELINES, behind_title
from spot.strategies.news import Scored
from spot.strategies.target import TargetRuns

SEEDED = ("lora",)  # arms that learn anew for each seed
LATE = ("icl", "lora")  # arms that take as long as prompts do, and so wait for them

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FittedArms:
    """Arms that have learned, one or one a seed, and those that could not, with the reason."""

    fitted: Mapping[str, tuple[Fitted, ...]]
    not_run: Mapping[str, str]

    def beside(self, other: "FittedArms") -> "FittedArms":
        """Both together."""
        return FittedArms({**self.fitted, **other.fitted}, {**self.not_run, **other.not_run})


def check_arms(target: TargetRuns, config: TransferConfig) -> None:
    """Refuse arms that can run on no task, before anything is trained.

    Raises:
        MissingExtra, BackboneError: as `check_baselines`.
    """
    check_baselines(config.baselines, _terms(target, config, 0))


def fit_arms(target: TargetRuns, config: TransferConfig, names: Sequence[str]) -> FittedArms:
    """Let some of the arms learn; one that these rows do not suit is passed over with its reason.

    Args:
        target: its report rows are not looked at.
        config: the arms' settings.
        names: of the arms.
    """
    fitted: dict[str, tuple[Fitted, ...]] = {}
    not_run = {}
    for name in names:
        try:
            fitted[name] = _fit(target, config, name)
        except Unsuitable as error:
            not_run[name] = str(error)
            log.info("not run: %s", error)
            continue
        _say(target, BASELINES[name], fitted[name][0].learned)
    return FittedArms(fitted, not_run)


def fit_behind_sources(target: TargetRuns, config: TransferConfig, prompts: Mapping[str, Tensor]) -> FittedArms:
    """Let a probe learn behind prompts of the library, where a probe is asked for.

    Args:
        target: its report rows are not looked at.
        config: the arms' settings.
        prompts: task -> its prompt [P, D]; none where there are none to try.
    """
    if "probe" not in config.baselines or not prompts:
        return FittedArms({}, {})
    try:
        fitted = fit_behind(_terms(target, config, 0), prompts)
    except Unsuitable as error:
        return FittedArms({}, {PROBE_BEHIND: str(error)})
    _say(target, behind_title(str(fitted.learned.setting["prompt"])), fitted.learned)
    return FittedArms({PROBE_BEHIND: (fitted,)}, {})


def _say(target: TargetRuns, title: str, learned: Learned) -> None:
    """Tell what an arm has on the selection rows."""
    log.info(
        Scored(
            arm=title,
            score=learned.selection,
            interval=None,
            rows=len(target.splits.selection),
            role="selection",
            seconds=learned.seconds,
            setting=learned.described if learned.setting else "",
        )
    )


def _fit(target: TargetRuns, config: TransferConfig, name: str) -> tuple[Fitted, ...]:
    """One arm; of one that learns anew for each seed, the first seed chooses the rate for all."""
    first = fit_baseline(name, _terms(target, config, 0))
    if name not in SEEDED:
        return (first,)
    chosen = config.model_copy(update={"lora_rates": (float(first.learned.setting["learning_rate"]),)})
    return (first, *(fit_baseline(name, _terms(target, chosen, seed)) for seed in range(1, target.seeds)))


def _terms(target: TargetRuns, config: TransferConfig, seed: int) -> Terms:
    """What every arm is given: the rows, the model and the budget of the target's plain runs."""
    return Terms(
        task=target.task,
        train=target.splits.train,
        selection=target.splits.selection,
        backbone=target.backbone,
        config=target.unkeyed_config.model_copy(update={"seed": seed}),
        out=target.out / "baselines",
        embedding_model=config.embedding_model,
        demonstrations=config.demonstrations,
        lora_rank=config.lora_rank,
        lora_rates=config.lora_rates,
        lora_modules=config.lora_modules,
        progress=target.progress,
    )
