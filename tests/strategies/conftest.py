"""Shared fixtures: three source prompts on a tiny model, a library of them, and a transfer from it."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from spot.config import TransferConfig
from spot.library.library import Library
from spot.models.backbone import Backbone
from spot.prompts.prompt import SoftPrompt
from spot.strategies import as_is, comparison, transfers
from spot.strategies.report import TransferReport
from spot.strategies.target import TargetRuns
from spot.strategies.transfers import transfer_rows
from spot.tasks.splits import Splits
from spot.training.tuning import tune_prompt
from tests.support.toy_runs import SPLITS, TASK, library_of, named, source_config, toy_config, word_splits
from tests.support.toy_transfers import CONFIG, WORDS


@pytest.fixture(scope="module")
def backbone(tiny_folder: Callable[[str], Path]) -> Backbone:
    return Backbone.load(str(tiny_folder("llama")))


@pytest.fixture(scope="module")
def prompts(backbone, tiny_folder, tmp_path_factory) -> list[SoftPrompt]:
    folder, model = tmp_path_factory.mktemp("sources"), tiny_folder("llama")
    return [
        tune_prompt(source_config(word, model), named(word), backbone, word_splits(word), out=folder / word)
        for word in WORDS
    ]


@pytest.fixture
def library(prompts, tmp_path) -> Library:
    return library_of(prompts, tmp_path / "library")


@pytest.fixture(scope="module")
def few_resamples() -> Iterator[None]:
    """Bootstraps would take half of the time where nothing looks at intervals."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (as_is, comparison, transfers):
            patch.setattr(module, "interval", partial(comparison.interval, resamples=20))
        yield


@pytest.fixture
def run(backbone, library, tmp_path, few_resamples) -> Callable[..., TransferReport]:
    """A transfer to a toy task, by default from the library of three sources."""

    def transferred(
        strategy: str,
        out: str = "out",
        library: Library = library,
        splits: Splits | None = None,
        data: Path | None = None,
        **settings: Any,
    ) -> TransferReport:
        config = TransferConfig(**{**CONFIG.model_dump(), "strategy": strategy, **settings})
        rows = splits or word_splits("toy")
        return transfer_rows(named("toy"), rows, backbone, library, config, out=tmp_path / out, data=data)

    return transferred


@pytest.fixture
def target(backbone, tmp_path) -> TargetRuns:
    """The runs of a toy target with two seeds; none is made yet."""
    return TargetRuns(task=TASK, splits=SPLITS, backbone=backbone, config=toy_config(), seeds=2, out=tmp_path)
