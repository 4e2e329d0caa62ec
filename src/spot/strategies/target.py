"""Tune a target as all arms of its transfer are tuned: the same rows, settings and seeds, in one folder."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from spot.config import TuneConfig
from spot.evaluation.predictions import Progress
from spot.models.backbone import Backbone
from spot.prompts.prompt import KeyRecipe, SoftPrompt
from spot.tasks.splits import Splits
from spot.tasks.task import Task
from spot.training.door import tune_config
from spot.training.loop import Rule
from spot.training.run import Member, Run, prepare_run
from spot.training.tuning import TunedPrompt, tune_prompt, tune_runs


@dataclass(frozen=True, kw_only=True)
class TargetRuns:
    """What all arms of one transfer share.

    Attributes:
        task: the target.
        splits: its rows; the report rows are kept from every run.
        backbone: the frozen model.
        config: of every run, but for the seed.
        seeds: runs of every arm.
        out: folder of the transfer.
        progress: called after every step of every gang.
        races_rates: whether runs that no embedding is read from choose their learning rate by selection rows.
    """

    task: Task
    splits: Splits
    backbone: Backbone
    config: TuneConfig
    seeds: int
    out: Path
    progress: Progress | None = None
    races_rates: bool = False

    @property
    def member(self) -> Member:
        """The target as its runs see it, without report rows."""
        return Member(self.task, self.splits).unreported

    @property
    def unkeyed_config(self) -> TuneConfig:
        """The settings of a run whose task embedding nobody asks for."""
        return self.config.model_copy(update={"key_step": None})

    @property
    def raced_config(self) -> TuneConfig:
        """The settings of such a run at the learning rate that selection rows choose, where they are to."""
        return self.unkeyed_config.model_copy(update={"learning_rate": "auto"} if self.races_rates else {})

    def prepare(self, config: TuneConfig, source: SoftPrompt | None = None) -> Run:
        """A run on the target, from a prompt where one is given."""
        return prepare_run(config, (self.member,), self.backbone, source)

    def with_seeds(self, run: Run) -> list[Run]:
        """The same run with every seed, as a gang."""
        configs = [run.config.model_copy(update={"seed": seed}) for seed in range(self.seeds)]
        return [replace(run, config=config) for config in configs]

    def tune(self, folder: str, runs: Sequence[Run], rule: Rule | None = None) -> list[TunedPrompt]:
        """Tune a gang in a folder below the transfer's.

        Raises:
            Diverged: every run did.
        """
        return tune_runs(runs, self.backbone, self.out / folder, self.progress, rule)


def embed_target(
    task: Task,
    splits: Splits,
    backbone: Backbone,
    recipe: KeyRecipe,
    *,
    out: Path | None = None,
    progress: Progress | None = None,
) -> SoftPrompt:
    """Train a task up to a library's key step, and no further: its `key` and `start` are the task embedding.

    Args:
        task: the target.
        splits: its rows.
        backbone: the library's backbone.
        recipe: the library's key recipe.
        out: the run's folder; in the user's cache when left out.
        progress: called after every step.
    """
    config = recipe_config(task, recipe, steps=recipe.step, eval_every=recipe.step)
    unreported = Member(task, splits).unreported
    return tune_prompt(config, task, backbone, unreported.splits, out=out, progress=progress)


def recipe_config(task: Task, recipe: KeyRecipe, *, steps: int, eval_every: int) -> TuneConfig:
    """The configuration of a run whose key can be compared with keys of `recipe`.

    Args:
        task: the target.
        recipe: of the library's keys.
        steps: of the run.
        eval_every: steps between evaluations.

    Raises:
        ConfigError: the run ends before the key step.
    """
    return tune_config(task.name, recipe, {"steps": steps, "eval_every": eval_every})
