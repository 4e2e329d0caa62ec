"""Draw the pictures of a study's report: each as SVG for the page and as PNG for everything else."""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.cluster.hierarchy import dendrogram

from spot.config import INSTEAD
from spot.rendering import plots
from spot.rendering.drawings import COLOURS
from spot.rendering.plots import INK, WIDTH
from spot.study.analysis.findings import ArmSummary, Findings
from spot.study.analysis.pairs import Correlation, TaskMap, Transfer

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh
    from matplotlib.figure import Figure

DPI = 150  # of the PNG
DIVERGING, CELL = "RdBu", "#ffffff"  # red is worse; the lines between cells
LEVELS = 41  # of colour; from 50 on matplotlib would draw the bar beside as pixels, which a page may not hold
CLIP = 0.95  # of the reductions have a colour of their own; the few beyond share the last
MOST_NUMBERS = 16  # tasks whose cosines are written into the cells
FAMILIES = {
    "frozen": "frozen model",
    "as_is": "nearest prompt as it is",
    "none": "plain tuning",
    "plain": "plain tuning",
    "restarts": "plain tuning",
    "random": "random source",
    "always": "always the best known",
    "hindsight": "always the best, in hindsight",
    "best": "best of k nearest",
    "race": "race of k nearest",
    "average": "average of k nearest",
    "mixture": "mixture with k nearest",
    "oracle": "oracle",
    "model": "model tuning",
    "mixture_model": "multi-task model tuning",
    "learned_best": "best of k most promising",
    "learned_race": "race of k most promising",
    **INSTEAD,
}
MARKERS = "osD^vPX"  # one fewer than colours, so that no two families share both


@dataclass(frozen=True)
class Picture:
    """One picture.

    Attributes:
        name: of its file, without the ending.
        title: what it shows.
        svg: one `<svg>` element, for a page.
        png: a file's content, on white.
    """

    name: str
    title: str
    svg: str
    png: bytes


def draw(findings: Findings) -> tuple[Picture, ...]:
    """All pictures that the findings have something for.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    pictures = []
    if any(transfer.rer is not None for transfer in findings.transfers):
        pictures.append(heat_map(findings.transfers))
    if findings.tasks is not None:
        pictures.append(task_tree(findings.tasks))
    if findings.correlations:
        pictures.append(similarity_gains(findings.transfers, findings.correlations, findings.metric))
    if any(arm.cost is not None for arm in findings.arms):
        pictures.append(cost_quality(findings.arms))
    return tuple(pictures)


def heat_map(transfers: Sequence[Transfer]) -> Picture:
    """The relative error reduction of each source on each target, the source with the highest mean on top."""
    reductions = {(pair.source, pair.target): pair.rer for pair in transfers if pair.rer is not None}
    targets = sorted({target for _, target in reductions})
    means = {
        source: np.mean([rer for (name, _), rer in reductions.items() if name == source]) for source, _ in reductions
    }
    sources = sorted(means, key=lambda source: (-means[source], source))
    table = np.array([[reductions.get((source, target), np.nan) for target in targets] for source in sources])
    sizes = np.abs(table[~np.isnan(table)])
    limit = float(np.quantile(sizes, CLIP, method="lower")) or float(sizes.max()) or 1.0
    with plots.settings():
        figure = _figure(1.6 + 0.27 * len(sources) + 0.07 * max(map(len, targets)))
        axes = figure.add_subplot()
        mesh = _cells(axes, table, limit, DIVERGING, digits=0)
        _names(axes, targets, sources)
        axes.set_xlabel("target")
        axes.set_ylabel("source, the most helpful on top")
        bar = figure.colorbar(mesh, ax=axes, extend="both" if sizes.max() > limit else "neither", aspect=30)
        bar.set_label("relative error reduction (%)")
        best = max(reductions, key=reductions.__getitem__)
        title = "Relative error reduction of each source on each target"
        pairs = f"{len(reductions)} pairs, highest {reductions[best]:.0f} from {best[0]} to {best[1]}"
        return _picture(figure, "heat-map", title, f"{title}, percent: {pairs}")


def task_tree(tasks: TaskMap) -> Picture:
    """The cosines of task embeddings, similar tasks beside each other, and the tree that put them there."""
    order = list(tasks.order)
    names = [f"{tasks.names[at]} *" if tasks.targets[at] else tasks.names[at] for at in order]
    part = tasks.cosines[np.ix_(order, order)]
    with plots.settings():
        figure = _figure(1.2 + 0.23 * len(order) + 0.07 * max(map(len, names)))
        tree, cells = figure.subplots(1, 2, width_ratios=[1, 4])
        if tasks.tree[:, 2].any():
            dendrogram(
                tasks.tree, orientation="left", ax=tree, no_labels=True, color_threshold=0, above_threshold_color=INK
            )
        else:
            tree.set_visible(False)  # all are alike, which leaves no tree to draw
        # A dendrogram has its leaves at 5, 15, 25, ...: the same places as the rows of the cells.
        tree.set_ylim(10 * len(order), 0)
        tree.set_xlabel("1 - cosine")
        tree.spines[["left"]].set_visible(False)
        off_diagonal = np.abs(part[~np.eye(len(order), dtype=bool)])
        mesh = _cells(
            cells, part, float(off_diagonal.max()) or 1.0, DIVERGING, digits=2 if len(order) <= MOST_NUMBERS else None
        )
        _names(cells, names, names)
        bar = figure.colorbar(mesh, ax=cells, aspect=30, extend="max")
        bar.set_label("cosine of task embeddings (no unit)")
        title = "How alike the tasks are"
        near = ", ".join(names)
        return _picture(figure, "similarity-map", title, f"{title}: tasks in the order of the tree, * a target: {near}")


def similarity_gains(transfers: Sequence[Transfer], correlations: Sequence[Correlation], metric: str) -> Picture:
    """Gain against similarity: one small picture a target, one point a source."""
    columns = min(4, len(correlations))
    rows = math.ceil(len(correlations) / columns)
    with plots.settings():
        figure = _figure(0.5 + 1.9 * rows)
        grid = figure.subplots(rows, columns, sharex=True, squeeze=False)
        for axes in grid.flat[len(correlations) :]:
            axes.set_visible(False)
        for number, (axes, correlation) in enumerate(zip(grid.flat, correlations, strict=False)):
            points = [(pair.similarity[metric], pair.gain) for pair in transfers if pair.target == correlation.target]
            axes.scatter(*zip(*points, strict=True), s=14, color=COLOURS[0], linewidths=0)
            axes.axhline(0, color=INK, linewidth=0.6, alpha=0.5)
            text = correlation_text(correlation) if correlation.pearson is not None else "no r"
            axes.set_title(f"{_short(correlation.target)}\n{text}", fontsize=9)
            axes.tick_params(labelsize=8, labelbottom=number + columns >= len(correlations))
            axes.margins(0.12)
        figure.supxlabel(f"similarity of source and target, {metric!r} (no unit)", fontsize=10)
        figure.supylabel("gain over plain tuning (points)", fontsize=10)
        title = "Similarity against gain"
        texts = "; ".join(f"{pair.target}: {correlation_text(pair)}" for pair in correlations)
        return _picture(figure, "similarity-gain", title, f"{title}, one point a source. {texts}")


def cost_quality(arms: Sequence[ArmSummary]) -> Picture:
    """What each arm gains against the text tokens that it trains on a target.

    An arm that trains nothing is only named where it lies below the intervals of those that do.
    """
    costly = [arm for arm in arms if arm.cost is not None]
    trained = [arm for arm in costly if arm.tuned] or costly
    low = min(arm.gain_interval[0] for arm in trained)
    below = [arm for arm in costly if arm.gain < low]
    families: dict[str, list[ArmSummary]] = {}
    for arm in costly:
        if arm not in below:
            families.setdefault(FAMILIES[arm.kind], []).append(arm)
    with plots.settings():
        figure = _figure(4.6)
        axes = figure.add_subplot()
        looks = list(dict.fromkeys(FAMILIES.values()))
        for number, (family, members) in enumerate(families.items()):
            look = looks.index(family)
            apart = 1 + 0.008 * (number - len(families) / 2)  # equal costs would hide each other
            _draw_family(
                axes,
                family,
                members,
                colour=COLOURS[look % len(COLOURS)],
                marker=MARKERS[look % len(MARKERS)],
                apart=apart,
            )
        axes.set_xscale("symlog", base=2, linthresh=1)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.axhline(0, color=INK, linewidth=0.6, alpha=0.5)
        outside = ", ".join(f"{arm.arm} {arm.gain:+.1f}" for arm in below)
        label = "text tokens trained on the target (multiples of one plain run)"
        axes.set_xlabel(f"{label}\nbelow, not drawn: {outside}" if below else label)
        axes.set_ylabel("gain over plain tuning (points)")
        axes.grid(color=INK, alpha=0.12, linewidth=0.8)
        figure.legend(frameon=False, loc="outside upper left", ncols=3, fontsize=9)
        title = "Cost against quality"
        texts = "; ".join(f"{arm.arm} {arm.gain:+.1f} points at {arm.cost:.2f}" for arm in costly)
        return _picture(figure, "cost-quality", title, f"{title}. {texts}")


def correlation_text(correlation: Correlation) -> str:
    """A correlation in a few letters, or why there is none."""
    if correlation.pearson is None:
        return f"no r: {correlation.why}"
    return f"r {correlation.pearson:+.2f}, p {correlation.p:.2g}"


def _draw_family(
    axes: "Axes", family: str, arms: Sequence[ArmSummary], *, colour: str, marker: str, apart: float
) -> None:
    """Arms of one family as a line with intervals, each point with its number of sources or runs.

    Args:
        axes: to draw on.
        family: its name in the legend.
        arms: of the family.
        colour: of all of it.
        marker: of its points.
        apart: what costs are multiplied by.
    """
    arms = sorted(arms, key=lambda arm: (arm.cost or 0.0, arm.k))
    costs, gains = [(arm.cost or 0.0) * apart for arm in arms], [arm.gain for arm in arms]
    errors = [
        [max(0.0, arm.gain - arm.gain_interval[0]) for arm in arms],
        [max(0.0, arm.gain_interval[1] - arm.gain) for arm in arms],
    ]
    axes.errorbar(
        costs, gains, errors, color=colour, marker=marker, markersize=6, linewidth=1.2, elinewidth=0.8, label=family
    )
    numbers: dict[tuple[float, float], list[str]] = {}
    for arm, cost in zip(arms, costs, strict=True):
        numbers.setdefault((round(cost, 3), round(arm.gain, 3)), []).append(str(arm.k))
    for at, same in numbers.items() if len(arms) > 1 else ():
        axes.annotate(", ".join(same), at, (4, 5), textcoords="offset points", fontsize=8, color=colour)


def _cells(axes: "Axes", table: np.ndarray, limit: float, colours: str, digits: int | None) -> "QuadMesh":
    """A table as coloured cells, white at 0, its first row on top.

    Args:
        axes: to draw on; cell (row, column) covers 10 units each way, as the leaves of a dendrogram do.
        table: [rows, columns], NaN where there is nothing.
        limit: the value of the last colour on either side.
        colours: name of a diverging map.
        digits: of the numbers in the cells, after the point; None writes none.
    """
    from matplotlib import colormaps
    from matplotlib.colors import CenteredNorm

    rows, columns = table.shape
    norm, shades = CenteredNorm(0.0, limit), colormaps[colours].resampled(LEVELS)
    mesh = axes.pcolormesh(
        10 * np.arange(columns + 1),
        10 * np.arange(rows + 1),
        np.ma.masked_invalid(table),
        norm=norm,
        cmap=shades,
        edgecolors=CELL,
        linewidth=0.5,
    )
    axes.set_ylim(10 * rows, 0)
    for row, column in np.ndindex(rows, columns):
        value, at = float(table[row, column]), (10 * column + 5, 10 * row + 5)
        if np.isnan(value):
            axes.text(*at, "-", ha="center", va="center", fontsize=8)
        elif digits is not None:
            red, green, blue, _ = shades(norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.5
            # Adding 0 makes a 0 of the -0 that rounding leaves.
            axes.text(
                *at,
                f"{round(value, digits) + 0:.{digits}f}",
                ha="center",
                va="center",
                fontsize=min(8, 130 / columns),
                color="#ffffff" if dark else "#000000",
                in_layout=False,
            )
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return mesh


def _names(axes: "Axes", below: Sequence[str], beside: Sequence[str]) -> None:
    """Write names at the middle of columns and rows."""
    turn: dict[str, Any] = (
        {"rotation": 45, "ha": "right", "rotation_mode": "anchor"} if len(below) <= 12 else {"rotation": 90}
    )
    axes.set_xticks(10 * np.arange(len(below)) + 5, labels=list(below), **turn)
    axes.set_yticks(10 * np.arange(len(beside)) + 5, labels=list(beside))
    axes.tick_params(labelsize=9)


def _short(name: str) -> str:
    """A name that fits above a small picture: its end tells more than its beginning."""
    return name if len(name) <= 22 else f"...{name[-19:]}"


def _figure(height: float) -> "Figure":
    """An empty picture, `height` in inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def _picture(figure: "Figure", name: str, title: str, description: str) -> Picture:
    """Write a picture in both formats."""
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # all is in its place now; each file would find the same places again
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, facecolor="white", metadata={"Software": None})
    return Picture(name, title, plots.svg(figure, title, description), buffer.getvalue())
