"""A worker of builds that makes up what it finds: quick, the same every time, and as bad as a test wants."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from spot.building.jobs import Check, Done, Job, Race, Source, TaskCheck
from spot.building.plan import BuildPlan
from spot.building.recipe import find_title
from spot.config import TuneConfig
from spot.library.library import Library
from spot.prompts.prompt import BackboneId, KeyRecipe, SoftPrompt, to_bytes
from spot.study.executors import GivenUp
from spot.training.result import CurvePoint, RunResult


@dataclass
class MadeUpWorker:
    """Makes up what came of jobs, by the rate of the setting alone; an executor.

    Attributes:
        identity: of the model.
        best_rate: the setting that does best.
        learns: whether it beats the frozen model.
        mixed_up: whether a second seed is like another task.
        broken: task -> why it has no prompt.
        done: titles of the jobs that were done.
    """

    identity: BackboneId
    best_rate: float
    learns: bool = True
    mixed_up: bool = False
    broken: dict[str, str] = field(default_factory=dict)
    done: list[str] = field(default_factory=list)

    def __call__(
        self, load: Callable, work: Callable, items: Iterable[Job | None]
    ) -> Iterator[tuple[Job, Done | GivenUp]]:
        for job in items:
            assert job is not None, "nothing is at work between two jobs"
            self.done.append(job.title)
            yield job, self.made_up(job)

    def made_up(self, job: Job) -> Done | GivenUp:
        if isinstance(job, Race):
            results = tuple(self.result(config) for config in job.configs)
            return Done(results=results, prompts={n: self.prompt(c) for n, c in enumerate(job.configs)})
        if isinstance(job, Check):
            tuned, low = (90.0, 20.0) if self.learns else (52.0, -8.0)
            return Done(
                checks=tuple(
                    TaskCheck(
                        task=find_title(config.task),
                        rows=30,
                        tuned=tuned,
                        frozen=50.0,
                        constant=51.0,
                        low=low,
                        high=45.0,
                    )
                    for config in job.configs
                )
            )
        assert isinstance(job, Source)
        title = find_title(job.config.task)
        if title in self.broken:
            return GivenUp(self.broken[title])
        return Done(results=(self.result(job.config),), prompts={0: self.prompt(job.config, title)})

    def result(self, config: TuneConfig) -> RunResult:
        far = abs(np.log(config.learning_rate / self.best_rate))
        curve = tuple(
            CurvePoint(step=step, score=50.0 + 40.0 * np.exp(-far) * step / config.steps, nats=1.0, tokens=10 * step)
            for step in range(0, config.steps + 1, config.eval_every)
        )
        return RunResult(
            task=find_title(config.task),
            digest=self.name(config),
            scores={"accuracy": curve[-1].score},
            frozen_scores={"accuracy": 50.0},
            step=curve[-1].step,
            steps=config.steps,
            tokens=10 * config.steps,
            seconds=1.5,
            curve=curve,
        )

    def prompt(self, config: TuneConfig, title: str = "any") -> bytes:
        like = "another" if self.mixed_up and config.seed else title
        task, own = (
            np.random.default_rng(int(sha256(word.encode()).hexdigest()[:8], 16)).normal(
                size=(config.length, self.identity.width)
            )
            for word in (like, f"{title} {config.seed}")
        )
        start = np.ones((config.length, self.identity.width), np.float32)
        key_recipe = KeyRecipe(
            step=config.key_step or 1,
            length=config.length,
            init=config.init,
            init_seed=0,
            optimiser=config.optimiser,
            learning_rate=config.learning_rate,
            weight_decay=config.weight_decay,
            batch_size=config.batch_size,
            max_input_tokens=config.max_input_tokens,
        )
        value = (start + task + 0.3 * own).astype(np.float32)
        return to_bytes(
            SoftPrompt(
                value=value,
                key=value,
                start=start,
                backbone=self.identity,
                task=title,
                step=config.steps,
                seed=config.seed,
                key_recipe=key_recipe,
                scores={"accuracy": 90.0},
                frozen_scores={"accuracy": 50.0},
            )
        )

    def name(self, config: TuneConfig) -> str:
        return sha256(config.model_dump_json().encode()).hexdigest()[:16]


def worker(planned: BuildPlan, **bad: Any) -> MadeUpWorker:
    """One for which the last setting is the best."""
    return MadeUpWorker(planned.identity, planned.settings[-1].learning_rate, **bad)


def tasks_in(library: Path) -> list[str]:
    """The tasks that a library has prompts of."""
    return [entry.task for entry in Library(library).entries()]
