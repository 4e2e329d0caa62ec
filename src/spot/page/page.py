"""Write the page: one HTML file that needs nothing else, or the frame that a server fills with its data."""

import base64
import hashlib
import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Template
from markupsafe import Markup

from spot import __version__
from spot.errors import MissingExtra, SpotError
from spot.library.history import TransferRecord
from spot.library.library import PACKAGED, Library
from spot.page import charts
from spot.page.data import GroupView, LibraryView, PromptView, view_library
from spot.page.runs import StudyView, TransferView, transfer_folders, view_study, view_transfer
from spot.rendering.html import environment_of
from spot.storage.text import printable
from spot.study.report.figures import FAMILIES

ASSETS = ("page.css", "page.js", "plotly.min.js")
PLOTLY = "plotly.min.js"
MOST_MAPS = 4  # groups of prompts that are drawn
MOST_NEAREST = 40  # prompts that one is listed beside
MOST_SETTING = 300  # characters of a setting
# Plotly writes its styles into the page, and draws nothing from elsewhere.
POLICY = (
    "default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; connect-src {connect}; "
    "base-uri 'none'; form-action 'none'"
)
LIVE_POLICY = f"{POLICY}; frame-ancestors 'none'".format(
    scripts="'self'", styles="'self' 'unsafe-inline'", connect="'self'"
)


@dataclass(frozen=True)
class Sources:
    """What a page shows beside a library.

    Attributes:
        studies: TOML files or folders of records.
        transfers: folders; None for those in the user's cache.
    """

    studies: tuple[Path, ...] = ()
    transfers: tuple[Path, ...] | None = None


def page_html(library: Library, *, live: bool = False, sources: Sources | None = None, with_data: bool = True) -> str:
    """The page of a library.

    Args:
        library: to show.
        live: for a server: scripts and styles are files of the same origin, and prompts can be tried; else all of it
            stands in the file.
        sources: studies and transfers.
        with_data: whether the data stand in the page; a server that wants a token gives them only to who has it.

    Raises:
        MissingExtra: plotly is not installed.
        LibraryError: the library cannot be read.
        SpotError: a study or a transfer that was named cannot be read.
    """
    value = page_value(library, sources) if with_data else None
    return render_page(value, live=live, name=library.path.name)


def render_page(value: Mapping[str, Any] | None, *, live: bool, name: str) -> str:
    """The HTML of a page.

    Args:
        value: from `page_value`; None where the page asks the server for it.
        live: as for `page_html`.
        name: of the library, for the title; empty where the title is not to tell it.

    Raises:
        MissingExtra: plotly is not installed.
    """
    scripts = {file: asset(file) for file in ASSETS if file.endswith(".js")}
    hashes = " ".join(_hash(text) for text in scripts.values())
    return _template().render(
        title=f"spot: {printable(name)}" if name else "spot",
        live=live,
        policy="" if live else POLICY.format(scripts=hashes, styles="'unsafe-inline'", connect="'none'"),
        style=Markup(asset("page.css")),
        plotly=Markup(scripts[PLOTLY]),
        script=Markup(scripts["page.js"]),
        data=None if value is None else Markup(script_json(value)),
        version=__version__,
    )


def page_value(library: Library, sources: Sources | None = None, *, patient: bool = False) -> dict[str, Any]:
    """All that the page shows, as a JSON value.

    Args:
        library: to show.
        sources: studies and transfers.
        patient: as for `progress_value`.

    Raises:
        LibraryError: the library cannot be read.
        SpotError: a study or a transfer that was named cannot be read.
    """
    return {"library": library_value(view_library(library)), **progress_value(library, sources, patient=patient)}


def progress_value(library: Library, sources: Sources | None = None, *, patient: bool = False) -> dict[str, Any]:
    """What changes while studies and transfers go on, as a JSON value, with a stamp that differs where it does.

    Args:
        library: which knows the tasks of sources.
        sources: studies and transfers.
        patient: say what cannot be read among the problems, and show the rest: what is there now may be gone later.

    Raises:
        SpotError: a study or a transfer that was named cannot be read.
    """
    sources = sources or Sources()
    is_named = sources.transfers is not None
    folders = transfer_folders() if sources.transfers is None else sources.transfers
    studies, transfers, problems = [], [], []
    for path in sources.studies:
        try:
            studies.append(study_value(view_study(path)))
        except SpotError as error:
            if not patient:
                raise
            problems.append(printable(str(error)))
    for folder in folders:
        try:
            view = view_transfer(folder, library)
        except SpotError as error:
            if is_named and not patient:
                raise
            problems += [printable(str(error))] if is_named else []
            continue
        if view.runs or is_named:
            transfers.append(transfer_value(view))
    value = {"studies": studies, "transfers": transfers, "problems": problems}
    return {**value, "stamp": hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]}


def library_value(view: LibraryView) -> dict[str, Any]:
    """What the page says of a library."""
    prompts = {prompt.digest: prompt for prompt in view.prompts}
    nearest = {digest: _others(group, at) for group in view.groups for at, digest in enumerate(group.digests)}
    children: dict[str, list[str]] = {}
    for prompt in view.prompts:
        for parent in dict.fromkeys(parent.digest for parent in prompt.parents):
            children.setdefault(parent, []).append(prompt.digest)
    transfers: dict[str, list[TransferRecord]] = {}
    for record in view.transfers:
        transfers.setdefault(record.source, []).append(record)
    drawn = []
    for group in view.groups[:MOST_MAPS]:
        if len(group.digests) > 1:
            drawn.append(
                {
                    "name": printable(group.name),
                    "size": len(group.digests),
                    "charts": [charts.task_map(group, prompts), charts.similarity_cells(group, prompts)],
                }
            )
    return {
        "name": printable(view.name),
        "prompts": [
            {
                **_prompt(prompt, view.name),
                "nearest": nearest.get(prompt.digest, []),
                "children": children.get(prompt.digest, []),
                "transfers": [
                    {"target": printable(record.target), "gain": round(record.gain, 2)}
                    for record in transfers.get(prompt.digest, [])
                ],
            }
            for prompt in view.prompts
        ],
        "groups": drawn,
        "history": _history(view),
        "problems": [
            *map(printable, view.problems),
            *(printable(reason) for group in view.groups for reason in group.left_out.values()),
            *(
                f"{group.passed_over} further prompts of {printable(group.name)} are listed and not compared."
                for group in view.groups
                if group.passed_over
            ),
        ],
    }


def study_value(view: StudyView) -> dict[str, Any]:
    """What the page says of a study."""
    pictures: list[charts.Chart] = []
    if view.findings is not None:
        pictures.append(charts.arm_scores(view.findings.arms))
        if any(arm.cost is not None for arm in view.findings.arms):
            pictures.append(charts.cost_quality(view.findings.arms, FAMILIES))
        if view.findings.transfers:
            pictures.append(charts.study_gains(view.findings.transfers))
    cells = [[kind, *asdict(count).values()] for kind, count in view.kinds.items()]
    return {
        "name": printable(view.name),
        "verdict": printable(view.verdict),
        "charts": pictures,
        "curves": [
            {
                "label": printable(target),
                "chart": charts.learning_curves(curves, f"Learning curves: {printable(target)}"),
            }
            for target, curves in view.curves.items()
        ],
        "progress": {
            "cells": {"columns": ["cells", "all", "finished", "failed", "running", "missing"], "rows": cells},
            "running": {
                "columns": ["at work", "step", "of", "last sign (s ago)"],
                "rows": [[printable(gang.title), gang.step, gang.steps, round(gang.idle)] for gang in view.running],
            },
        },
        "running": bool(view.running),
        "done": sum(count.finished + count.failed for count in view.kinds.values()),
        "all": sum(count.cells for count in view.kinds.values()),
    }


def transfer_value(view: TransferView) -> dict[str, Any]:
    """What the page says of a transfer's folder."""
    rows = [
        [
            printable(run.label),
            run.state,
            run.seeds,
            run.step,
            run.best and round(run.best, 1),
            run.report and round(run.report, 1),
            round(run.seconds, 1),
        ]
        for run in view.runs
    ]
    columns = ["start", "state", "seeds", "step", "best selection score (%)", "report score (%)", "seconds"]
    return {
        "name": printable(view.name),
        "target": printable(view.target),
        "table": {"columns": columns, "rows": rows},
        "charts": [charts.transfer_curves(view)] if any(run.curve for run in view.runs) else [],
        "problems": [printable(problem) for problem in view.problems],
        "running": view.is_running,
    }


def script_json(value: object) -> str:
    """A JSON value as it may stand in a `<script>` element: no letter in it ends the element or opens another."""
    text = json.dumps(value, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def asset(name: str) -> str:
    """One of the page's own files, or plotly's script.

    Args:
        name: one of `ASSETS`.

    Raises:
        MissingExtra: plotly is not installed.
        KeyError: there is no such file.
    """
    if name not in ASSETS:
        raise KeyError(name)
    if name == PLOTLY:
        return _plotly()
    return (resources.files("spot.page") / "assets" / name).read_text(encoding="utf-8")


def _plotly() -> str:
    """The script of plotly, as its package has it."""
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise MissingExtra(
            "the charts of a page need plotly, which is not installed; run: pip install 'spot-transfer[page]'"
        ) from error
    return get_plotlyjs()


def _hash(script: str) -> str:
    """A script as a content security policy names it."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _others(group: GroupView, at: int) -> list[dict[str, Any]]:
    """The prompts that the one at a place of a group can be compared with, the most similar first."""
    order = np.argsort(-group.cosines[at], kind="stable")[: MOST_NEAREST + 1].tolist()
    return [
        {"digest": group.digests[other], "similarity": round(float(group.cosines[at, other]), 3)}
        for other in order
        if other != at
    ][:MOST_NEAREST]


def _prompt(prompt: PromptView, library: str) -> dict[str, Any]:
    """What the page says of one prompt."""
    reading = prompt.reading
    return {
        "digest": prompt.digest,
        "task": printable(prompt.task),
        "kind": prompt.kind,
        "score": prompt.score,
        "frozen": prompt.frozen_score,
        "scores": [
            [printable(metric), prompt.scores.get(metric), prompt.frozen_scores.get(metric)]
            for metric in dict.fromkeys([*prompt.scores, *prompt.frozen_scores])
        ],
        "step": prompt.step,
        "length": prompt.length,
        "width": prompt.width,
        "bytes": prompt.bytes,
        "changed": prompt.changed,
        "backbone": printable(prompt.backbone.name),
        "fingerprint": printable(prompt.backbone.fingerprint),
        "facts": _pairs(
            {
                "frozen model": f"{prompt.backbone.name} ({prompt.backbone.kind})",
                "its fingerprint": prompt.backbone.fingerprint,
                "seed": prompt.seed,
                "begun from": prompt.initialiser or None,
                "digest of the rows": prompt.data_digest or None,
                "made by spot": prompt.code_version or None,
            }
        ),
        "config": _pairs(prompt.config),
        "recipe": _pairs({} if prompt.recipe is None else asdict(prompt.recipe)),
        "reading": _pairs({} if reading is None else _told(asdict(reading))),
        "labels": [] if reading is None else [printable(word) for word in reading.words],
        "decode": "unknown" if reading is None else _decoding(prompt),
        "template": None if reading is None or not reading.template else [list(pair) for pair in reading.pieces],
        "fields": list(prompt.fields),
        "begin": printable(prompt.initialiser or (prompt.recipe.init if prompt.recipe else "") or "unknown"),
        "parents": [{"digest": parent.digest, "weight": parent.weight} for parent in prompt.parents],
        "command": _command(prompt, library),
        "python": _python(prompt, library),
    }


def _decoding(prompt: PromptView) -> str:
    """Whether labels are ranked or text is generated."""
    reading = prompt.reading
    return "rank" if reading is not None and reading.decode == "rank" and reading.words else "generate"


def _told(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings that say something."""
    return {name: value for name, value in values.items() if value not in ("", None, (), False)}


def _pairs(values: Mapping[str, Any]) -> list[list[str]]:
    """Settings as (name, text)."""
    pairs = []
    for name, value in values.items():
        if value is None:
            continue
        text = value if isinstance(value, str) else json.dumps(value, default=str)
        text = printable(text, lines=True)
        pairs.append([printable(name), text if len(text) <= MOST_SETTING else f"{text[:MOST_SETTING]}..."])
    return pairs


def _command(prompt: PromptView, library: str) -> str:
    """The command that answers rows with a prompt."""
    name = f"{PACKAGED}:{prompt.digest}" if library == PACKAGED else _file(prompt, library)
    return f"spot predict {shlex.quote(printable(name))} --input new.csv"


def _python(prompt: PromptView, library: str) -> str:
    """Lines of Python that do the same."""
    rows = json.dumps(["a text"] if len(prompt.fields) < 2 else [dict.fromkeys(prompt.fields, "a text")])
    return (
        "import spot\n\n"
        f"prompt = spot.open_library({printable(library)!r}).get({prompt.digest!r})\n"
        f"backbone = spot.Backbone.load({printable(prompt.backbone.name)!r})\n"
        f"print(spot.predict(prompt, backbone, {rows}))"
    )


def _file(prompt: PromptView, library: str) -> str:
    """The file of a prompt."""
    return f"{library}/prompts/{prompt.digest}.safetensors"


def _history(view: LibraryView) -> charts.Chart | None:
    """The gains that the library remembers, the mean of equal pairs; None where it remembers none of its prompts."""
    tasks = {prompt.digest: prompt.task for prompt in view.prompts}
    gains: dict[tuple[str, str], list[float]] = {}
    for record in view.transfers:
        if record.source in tasks:
            gains.setdefault((tasks[record.source], record.target), []).append(record.gain)
    if not gains:
        return None
    return charts.gain_cells(
        {pair: _mean(values) for pair, values in gains.items()},
        "What sources gained on targets",
        f"{len(gains)} pairs of source and target that the library remembers: points over plain tuning on selection "
        "rows.",
        "points",
    )


def _mean(values: Iterable[float]) -> float:
    """Of at least one number."""
    numbers = list(values)
    return sum(numbers) / len(numbers)


@cache
def _template() -> Template:
    """The page's template, read once."""
    return environment_of("spot.page").get_template("page.html.j2")
