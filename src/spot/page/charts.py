"""Describe the charts of a page as plain values: figures that plotly's script draws, each with its table in words.

Colours are names of the page's own (`var(--...)`), so that a chart reads on light and on dark pages; the page's script
puts the colours of the moment in their place. Names are a stranger's: plotly reads its texts as a kind of HTML, so they
are escaped here.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np
from scipy.cluster.hierarchy import dendrogram

from spot.page.data import KINDS, MOST_CELLS, OWN_KIND, GroupView, PromptView
from spot.page.runs import CurveView, TransferView
from spot.rendering.tables import Cell, Table
from spot.storage.text import printable
from spot.study.analysis.findings import ArmSummary
from spot.study.analysis.pairs import Transfer

MOST_LETTERS = 26  # of a name beside an axis
MOST_NAMED = 40  # points of a map that have their name beside them
MOST_NUMBERS = 12  # cells on a side that have their number in them
MANY = 30  # cells on a side, beyond which they are lower and their columns have no names
ROW, LOW_ROW = 22, 13  # pixels of a heat map's row
COLOURS = tuple(f"var(--series-{number})" for number in range(1, 9))
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "x", "cross", "star", "triangle-down")
DIVERGING = [[0.0, "var(--minus)"], [0.5, "var(--middle)"], [1.0, "var(--plus)"]]


class Chart(TypedDict):
    """One chart.

    Attributes:
        title: what it shows; stands above it as a heading.
        text: what a reader who does not see it is told.
        figure: `data` and `layout` as plotly takes them.
        table: the same in numbers.
    """

    title: str
    text: str
    figure: dict[str, Any]
    table: Table


def spelled(text: str) -> str:
    """A stranger's text as plotly shows it letter by letter: what it would read as markup is escaped."""
    return printable(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def short(name: str) -> str:
    """A name that fits beside an axis: its end tells more than its beginning."""
    name = printable(name)
    return spelled(name if len(name) <= MOST_LETTERS else f"…{name[1 - MOST_LETTERS :]}")


def task_map(group: GroupView, prompts: Mapping[str, PromptView]) -> Chart:
    """The tasks of a group on a plane, near where they are alike; a colour and a sign for each kind."""
    kinds = [*KINDS, OWN_KIND]
    by_kind: dict[str, list[int]] = {}
    for at, digest in enumerate(group.digests):
        by_kind.setdefault(prompts[digest].kind, []).append(at)
    is_named = len(group.digests) <= MOST_NAMED
    traces = []
    for kind in sorted(by_kind, key=kinds.index):
        places = by_kind[kind]
        names = [prompts[group.digests[at]].task for at in places]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers+text" if is_named else "markers",
                "name": kind,
                "x": group.places[places, 0].round(4).tolist(),
                "y": group.places[places, 1].round(4).tolist(),
                "text": [short(name) for name in names],
                "textposition": [_side(group.places, at) for at in places],
                "textfont": {"size": 11},
                "hovertext": [f"{spelled(name)}<br>{kind}" for name in names],
                "hoverinfo": "text",
                "customdata": [group.digests[at] for at in places],
                "marker": {
                    "color": COLOURS[kinds.index(kind) % len(COLOURS)],
                    "symbol": SYMBOLS[kinds.index(kind) % len(SYMBOLS)],
                    "size": 11 if is_named else 7,
                },
            }
        )
    nearest = _nearest(group)
    rows = [
        [
            printable(prompts[digest].task),
            prompts[digest].kind,
            *([printable(prompts[group.digests[nearest[at]]].task), round(group.cosines[at, nearest[at]], 2)]),
        ]
        for at, digest in enumerate(group.digests)
    ]
    # Room for the names: they stand above their points and are wider than these.
    ranges = [_padded(group.places[:, axis], 0.25 if axis == 0 else 0.15) for axis in (0, 1)]
    axis = {"showticklabels": False, "showgrid": False, "zeroline": False, "ticks": "", "showline": False}
    return {
        "title": "Map of the tasks",
        "text": f"{len(group.digests)} tasks, nearer where their prompts are more alike; the plane shows a part of the "
        "distances. Each point leads to its prompt.",
        "figure": {
            "data": traces,
            "layout": {
                "height": 440,
                "xaxis": {**axis, "range": ranges[0]},
                "yaxis": {**axis, "range": ranges[1], "scaleanchor": "x"},  # a distance is one in every direction
                "margin": {"l": 4, "r": 4, "t": 4, "b": 4},
            },
        },
        "table": {"columns": ["task", "kind", "nearest task", "cosine"], "rows": rows},
    }


def similarity_cells(group: GroupView, prompts: Mapping[str, PromptView]) -> Chart:
    """The cosines of a group, neighbours in the tree beside each other, and the tree above them."""
    count = min(len(group.order), MOST_CELLS)
    order = list(group.order[:count])
    names = [prompts[group.digests[at]].task for at in order]
    cells = group.cosines[np.ix_(order, order)]
    data: list[dict[str, Any]] = [_heat(cells, names, names, "cosine", digits=2)]
    layout = _heat_layout(names, names)
    text = "Cosines of task embeddings, tasks in the order of their tree, alike ones beside each other."
    if count < len(group.order):
        text += f" The first {count} of {len(group.order)}."
    elif len(group.tree) and group.tree[:, 2].any():
        tree = dendrogram(group.tree, no_plot=True, count_sort=False, distance_sort=False)
        # The tree of scipy has its leaves at 5, 15, 25, ...
        across = [[(at - 5) / 10 for at in branch] + [None] for branch in tree["icoord"]]
        heights = [[round(height, 4) for height in branch] + [None] for branch in tree["dcoord"]]
        data.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": [place for branch in across for place in branch],
                "y": [height for branch in heights for height in branch],
                "line": {"color": "var(--soft)", "width": 1.2},
                "hoverinfo": "skip",
                "showlegend": False,
                "yaxis": "y2",
            }
        )
        lowest, highest = float(group.tree[:, 2].min()), float(group.tree[:, 2].max())
        layout["yaxis"]["domain"] = [0, 0.82]
        layout["yaxis2"] = {
            "domain": [0.83, 1],
            "range": [0.8 * lowest, highest + 0.1 * (highest - 0.8 * lowest)],
            "showticklabels": False,
            "showgrid": False,
            "ticks": "",
            "zeroline": False,
        }
        layout["height"] += 60
    rows = [
        [printable(name), *(round(float(value), 2) for value in row)] for name, row in zip(names, cells, strict=True)
    ]
    return {
        "title": "How alike the tasks are",
        "text": text,
        "figure": {"data": data, "layout": layout},
        "table": {"columns": ["task", *map(printable, names)], "rows": rows},
    }


def gain_cells(gains: Mapping[tuple[str, str], float], title: str, text: str, unit: str) -> Chart:
    """What each source gained on each target, the most helpful source on top.

    Args:
        gains: (source, target) -> gain.
        title: of the chart.
        text: what a reader who does not see it is told.
        unit: of the gains.
    """
    targets = sorted({target for _, target in gains})[:MOST_CELLS]
    by_source: dict[str, list[float]] = {}
    for (source, _), gain in gains.items():
        by_source.setdefault(source, []).append(gain)
    sources = sorted(by_source, key=lambda source: (-float(np.mean(by_source[source])), source))[:MOST_CELLS]
    table = np.array([[gains.get((source, target), np.nan) for target in targets] for source in sources])
    heat = _heat(table, sources, targets, unit, digits=1)
    return {
        "title": title,
        "text": text,
        "figure": {"data": [heat], "layout": _heat_layout(sources, targets)},
        "table": {
            "columns": [f"source \\ target ({unit})", *map(printable, targets)],
            "rows": [
                [printable(source), *(None if np.isnan(value) else round(float(value), 1) for value in row)]
                for source, row in zip(sources, table, strict=True)
            ],
        },
    }


def study_gains(transfers: Sequence[Transfer]) -> Chart:
    """The gains of a study's pairs."""
    gains = {(pair.source, pair.target): pair.gain for pair in transfers}
    best = max(gains, key=gains.__getitem__)
    text = (
        f"{len(gains)} pairs of source and target, points over plain tuning on report rows. Highest: "
        f"{gains[best]:+.1f} from {printable(best[0])} to {printable(best[1])}."
    )
    return gain_cells(gains, "Each source on each target", text, "points")


def arm_scores(arms: Sequence[ArmSummary]) -> Chart:
    """The gain of each arm over plain tuning, with its interval, the best on top."""
    ordered = sorted(arms, key=lambda arm: arm.gain)
    names = [arm.arm for arm in ordered]
    rows: list[list[Cell]] = [
        [
            printable(arm.arm),
            round(arm.score, 1),
            round(arm.gain, 1),
            f"{arm.gain_interval[0]:+.1f} to {arm.gain_interval[1]:+.1f}",
            None if arm.cost is None else round(arm.cost, 2),
            arm.targets,
            arm.runs,
        ]
        for arm in reversed(ordered)
    ]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [round(arm.gain, 3) for arm in ordered],
        "y": list(range(len(ordered))),
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [round(max(0.0, arm.gain_interval[1] - arm.gain), 3) for arm in ordered],
            "arrayminus": [round(max(0.0, arm.gain - arm.gain_interval[0]), 3) for arm in ordered],
            "color": "var(--series-1)",
            "thickness": 1.4,
            "width": 3,
        },
        "hovertext": [
            f"{spelled(arm.arm)}<br>{arm.gain:+.1f} points ({arm.gain_interval[0]:+.1f} to {arm.gain_interval[1]:+.1f})"
            for arm in ordered
        ],
        "hoverinfo": "text",
        "marker": {"color": "var(--series-1)", "size": 8},
        "showlegend": False,
    }
    return {
        "title": "What each way of tuning gains",
        "text": "Gain over plain tuning in points on report rows, with 95 % intervals, best on top.",
        "figure": {
            "data": [trace],
            "layout": {
                "height": 110 + 22 * len(ordered),
                "meta": "names above",
                "xaxis": {"title": {"text": "gain over plain tuning (points)"}, "zeroline": True},
                "yaxis": {
                    "tickvals": list(range(len(ordered))),
                    "ticktext": [spelled(name) for name in names],
                    "range": [-0.7, len(ordered) - 0.3],
                    "automargin": True,
                    "showgrid": False,
                    "zeroline": False,
                },
                "margin": {"l": 8, "r": 12, "t": 8, "b": 40},
            },
        },
        "table": {
            "columns": ["arm", "score (%)", "gain", "95 % interval", "cost (plain runs)", "targets", "runs"],
            "rows": rows,
        },
    }


def cost_quality(arms: Sequence[ArmSummary], labels: Mapping[str, str]) -> Chart:
    """What each arm gains against what it trains on a target, a line for each family of arms.

    Args:
        arms: those without a cost are left out; one that trains nothing and lies far below the others is only named.
        labels: kind of arm -> family.
    """
    costly = [arm for arm in arms if arm.cost is not None]
    low = min(arm.gain_interval[0] for arm in [arm for arm in costly if arm.tuned] or costly)
    below = [arm for arm in costly if arm.gain < low]
    families: dict[str, list[ArmSummary]] = {}
    for arm in costly:
        if arm not in below:
            families.setdefault(labels.get(arm.kind, arm.kind), []).append(arm)
    traces = []
    rows: list[list[Cell]] = []
    for number, (family, members) in enumerate(families.items()):
        members = sorted(members, key=lambda arm: (arm.cost or 0.0, arm.k))
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": family,
                "x": [round(arm.cost or 0.0, 3) for arm in members],
                "y": [round(arm.gain, 3) for arm in members],
                "hovertext": [
                    f"{spelled(arm.arm)}<br>{arm.gain:+.1f} points for {arm.cost or 0.0:.1f} plain runs"
                    for arm in members
                ],
                "hoverinfo": "text",
                "line": {"color": COLOURS[number % len(COLOURS)], "width": 1.4},
                "marker": {
                    "color": COLOURS[number % len(COLOURS)],
                    "symbol": SYMBOLS[(number + number // len(COLOURS)) % len(SYMBOLS)],
                    "size": 9,
                },
            }
        )
        rows += [[printable(arm.arm), round(arm.cost or 0.0, 2), round(arm.gain, 1)] for arm in members]
    rows += [[printable(arm.arm), round(arm.cost or 0.0, 2), round(arm.gain, 1)] for arm in below]
    outside = ", ".join(f"{printable(arm.arm)} {arm.gain:+.1f}" for arm in below)
    return {
        "title": "Cost against quality",
        "text": "Text tokens that an arm trains on the target, in multiples of one plain run, against its gain over "
        "plain tuning in points." + (f" Far below, not drawn: {outside}." if below else ""),
        "figure": {
            "data": traces,
            "layout": {
                "height": 340,
                "xaxis": {"title": {"text": "cost (plain runs)"}, "zeroline": False},
                "yaxis": {"title": {"text": "gain (points)"}, "zeroline": True, "automargin": True},
                "margin": {"l": 48, "r": 12, "t": 8, "b": 40},
            },
        },
        "table": {"columns": ["arm", "cost (plain runs)", "gain (points)"], "rows": rows},
    }


def learning_curves(curves: Sequence[CurveView], title: str) -> Chart:
    """Selection scores by step, a line for each way to begin."""
    traces = [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": short(curve.label) if len(curve.label) > 2 * MOST_LETTERS else spelled(curve.label),
            "x": [step for step, _ in curve.points],
            "y": [round(score, 3) for _, score in curve.points],
            "hovertemplate": "step %{x}: %{y:.1f}",
            "line": {"color": COLOURS[number % len(COLOURS)], "width": 1.6, "dash": _dash(number)},
            "marker": {"color": COLOURS[number % len(COLOURS)], "size": 5},
        }
        for number, curve in enumerate(curves)
    ]
    steps = sorted({step for curve in curves for step, _ in curve.points})
    shown = steps if len(steps) <= 12 else [steps[at] for at in np.linspace(0, len(steps) - 1, 12).round().astype(int)]
    by_step = [(curve.label, dict(curve.points)) for curve in curves]
    return {
        "title": title,
        "text": "Mean selection score over the seeds, in percent, by step; step 0 is the start itself.",
        "figure": {
            "data": traces,
            "layout": {
                "height": 380,
                "xaxis": {"title": {"text": "step"}, "zeroline": False},
                "yaxis": {"title": {"text": "selection score (%)"}, "zeroline": False},
                "margin": {"l": 48, "r": 12, "t": 8, "b": 40},
            },
        },
        "table": {
            "columns": ["start", *(f"step {step}" for step in shown)],
            "rows": [
                [printable(label), *(round(scores[step], 1) if step in scores else None for step in shown)]
                for label, scores in by_step
            ],
        },
    }


def transfer_curves(transfer: TransferView) -> Chart:
    """The learning curves of a transfer's runs."""
    curves = [CurveView(run.label, run.curve) for run in transfer.runs if run.curve]
    return learning_curves(curves, "Learning curves")


def _dash(number: int) -> str:
    """Lines beyond the colours differ by their dashes."""
    return ("solid", "dash", "dot", "dashdot")[number // len(COLOURS) % 4]


def _nearest(group: GroupView) -> list[int]:
    """The most similar other task of each."""
    cosines = group.cosines.copy()
    np.fill_diagonal(cosines, -np.inf)
    return cosines.argmax(axis=1).tolist()


def _side(places: np.ndarray, at: int) -> str:
    """Where the name of a point stands: on the side where the next point is further away."""
    span = np.ptp(places, axis=0)
    apart = (places - places[at]) / np.where(span > 0, span, 1.0)
    beside = np.abs(apart[:, 0]) < 0.2
    above = apart[beside & (apart[:, 1] > 0), 1].min(initial=1.0)
    below = -apart[beside & (apart[:, 1] < 0), 1].max(initial=-1.0)
    return "bottom center" if above < min(0.12, below) else "top center"


def _padded(values: np.ndarray, share: float) -> list[float]:
    """The range of values with room on both sides."""
    low, high = float(values.min()), float(values.max())
    room = share * (high - low) or 1.0
    return [round(low - room, 4), round(high + room, 4)]


def _heat(table: np.ndarray, rows: Sequence[str], columns: Sequence[str], unit: str, digits: int) -> dict[str, Any]:
    """A heat map, middle colour at 0, its first row on top.

    Args:
        table: [rows, columns], NaN where there is nothing.
        rows: names.
        columns: names.
        unit: of the numbers.
        digits: of the numbers, after the point.
    """
    off_diagonal = table[~np.eye(len(table), dtype=bool)] if list(rows) == list(columns) else table.ravel()
    sizes = np.abs(off_diagonal[~np.isnan(off_diagonal)])
    limit = float(np.quantile(sizes, 0.97)) if sizes.size else 1.0
    values = [[None if np.isnan(value) else round(float(value), 4) for value in row] for row in table]
    trace: dict[str, Any] = {
        "type": "heatmap",
        "z": values,
        "x": list(range(len(columns))),
        "y": list(range(len(rows))),
        "zmin": -(limit or 1.0),
        "zmax": limit or 1.0,
        "colorscale": DIVERGING,
        "xgap": 1,
        "ygap": 1,
        "hovertext": [
            [
                f"{spelled(row)}<br>{spelled(column)}<br>{'nothing' if np.isnan(value) else f'{value:.{digits}f}'} "
                f"{unit}"
                for column, value in zip(columns, line, strict=True)
            ]
            for row, line in zip(rows, table, strict=True)
        ],
        "hoverinfo": "text",
        "colorbar": {
            "thickness": 10,
            "outlinewidth": 0,
            "lenmode": "pixels",
            "len": min(210, 40 + ROW * len(rows)),
            "y": 1,
            "yanchor": "top",
            "title": {"text": unit, "side": "top"},
        },
    }
    if len(columns) <= MOST_NUMBERS:
        trace |= {
            # Adding 0 makes a 0 of the -0 that rounding leaves.
            "text": [
                ["" if value is None else f"{round(value, digits) + 0:.{digits}f}" for value in row] for row in values
            ],
            "texttemplate": "%{text}",
            "textfont": {"size": 10},
        }
    return trace


def _heat_layout(rows: Sequence[str], columns: Sequence[str]) -> dict[str, Any]:
    """The axes of a heat map."""
    axis = {"showgrid": False, "zeroline": False, "ticks": "", "automargin": True}
    named = columns if len(columns) <= MANY else []
    return {
        "height": 150 + (ROW if len(rows) <= MANY else LOW_ROW) * len(rows),
        "xaxis": {
            **axis,
            "tickvals": list(range(len(named))),
            "ticktext": [short(name) for name in named],
            "tickangle": -60 if len(columns) > 3 else 0,
            "range": [-0.5, len(columns) - 0.5],
        },
        "yaxis": {
            **axis,
            "tickvals": list(range(len(rows))),
            "ticktext": [short(name) for name in rows],
            "tickfont": {"size": 12 if len(rows) <= MANY else 9},
            "range": [len(rows) - 0.5, -0.5],
        },
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
    }
