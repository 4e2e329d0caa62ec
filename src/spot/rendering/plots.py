"""Draw pictures as SVG text, to stand inside a page: the same input gives the same bytes.

Lines, axes and letters take the colour of the text around the picture (`currentColor`), so that it reads on light and
on dark pages. Letters stay letters: they can be searched, copied and read out.
"""

import io
import math
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from spot.errors import MissingExtra
from spot.storage.text import printable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each has a contrast of 3 or more with white and with near-black, and differs in lightness from its neighbours.
COLOURS = ("#2f7fd1", "#d9660f", "#14936a", "#c0559b", "#8f7a00", "#7d6fd0", "#767676", "#c44545")
DASHES = ("solid", "dashed", "dashdot", "dotted")
INK = "#010203"  # stands for currentColor until the picture is written; no colour above comes near it
FONT = "DejaVu Sans"  # comes with matplotlib, so letters are measured alike everywhere
MOST_LETTERS = 90  # of a name in a picture
WIDTH = 7.2  # inches of 72 CSS pixels
SETTINGS = {
    "svg.fonttype": "none",
    "svg.hashsalt": "spot",
    "text.parse_math": False,  # a task may have a dollar sign in its name
    "font.size": 11,
    "font.family": [FONT],
    "axes.spines.top": False,
    "axes.spines.right": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
}


def learning_curves(
    curves: Mapping[str, Sequence[Sequence[tuple[int, float]]]],
    *,
    title: str = "Learning curves",
    score: str = "score on selection rows",
) -> str:
    """Draw score against steps: for each arm the mean over seeds as a line and the range of the seeds as a band.

    Args:
        curves: for each arm one curve a seed, and a curve is (step, score in percent) pairs. An arm with no point is
            left out; one that was measured only once, such as a frozen model, is one mark.
        title: what a reader who cannot see the picture is told that it is.
        score: name of what is on the vertical axis.

    Returns:
        One `<svg>` element.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    arms = {arm: scores_at for arm, seeds in curves.items() if (scores_at := _by_step(seeds))}
    with settings():
        figure, axes = _canvas(height=4.0)
        for number, (arm, scores_at) in enumerate(arms.items()):
            steps = list(scores_at)
            colour = COLOURS[number % len(COLOURS)]
            means = [sum(scores) / len(scores) for scores in scores_at.values()]
            dash = DASHES[number % len(DASHES)]
            axes.plot(
                steps, means, color=colour, linestyle=dash, marker="o", markersize=4, linewidth=2, label=_label(arm)
            )
            low, high = [min(scores) for scores in scores_at.values()], [max(scores) for scores in scores_at.values()]
            if low != high:
                axes.fill_between(steps, low, high, color=colour, alpha=0.16, linewidth=0)
        axes.set_xlabel("training steps (batches)")
        axes.set_ylabel(f"{score} (%)")
        axes.grid(color=INK, alpha=0.12, linewidth=0.8)
        if arms:
            figure.legend(frameon=False, loc="outside upper left", ncols=2)
        seeds = max(map(len, curves.values()), default=0)
        return svg(figure, title, f"{title}: {score}, percent, mean and range over {seeds} seeds. {_ends(arms)}")


def similarity_bars(
    names: Sequence[str], values: Sequence[float], *, title: str = "Similarity of the target to each source"
) -> str:
    """Draw one bar a source, the first on top.

    Args:
        names: of the sources; equal names are separate bars.
        values: one a name, without unit; at most 1 for a cosine.
        title: what a reader who cannot see the picture is told that it is.

    Returns:
        One `<svg>` element.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    assert len(names) == len(values), f"{len(names)} names for {len(values)} values"
    names = [_label(name) for name in names]
    largest = max(map(abs, values), default=0) or 1.0
    low, high = min([0.0, *values]), max([0.0, *values])
    decimals = max(2, 1 - math.floor(math.log10(largest)))  # two digits of the largest, were it ever so small
    shown = [f"{value:.{decimals}f}" for value in values]
    with settings():
        figure, axes = _canvas(height=1.0 + 0.32 * max(1, len(names)))
        axes.barh(range(len(names)), values, color=COLOURS[0], height=0.66)
        for place, (value, label) in enumerate(zip(values, shown, strict=True)):
            axes.text(max(value, 0.0) + 0.02 * largest, place, label, va="center")
        axes.set_yticks(range(len(names)), labels=names)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.axvline(0, color=INK, linewidth=0.8)
        axes.set_xlim(low - 0.05 * largest, high + 0.16 * largest)
        axes.set_xlabel("similarity of task embeddings (no unit)")
        told = ", ".join(f"{name} {label}" for name, label in zip(names, shown, strict=True))
        return svg(figure, title, f"{title}. {told}")


def _label(name: str) -> str:
    """A name as it stands in a picture, which a long one would leave no room."""
    name = printable(name)
    return name if len(name) <= MOST_LETTERS else f"{name[: MOST_LETTERS - 3]}..."


def _by_step(seeds: Sequence[Sequence[tuple[int, float]]]) -> dict[int, list[float]]:
    """The scores of all seeds at each step, steps ascending."""
    scores_at: dict[int, list[float]] = defaultdict(list)
    for curve in seeds:
        for step, score in curve:
            scores_at[step].append(score)
    return dict(sorted(scores_at.items()))


def _ends(arms: Mapping[str, Mapping[int, Sequence[float]]]) -> str:
    """The last mean of each arm in words."""
    last = {arm: max(scores_at.items()) for arm, scores_at in arms.items()}
    return ", ".join(f"{arm} {sum(scores) / len(scores):.1f} at step {step}" for arm, (step, scores) in last.items())


@contextmanager
def settings() -> Iterator[None]:
    """Our settings for as long as a picture is drawn; those of the user's session come back afterwards."""
    try:
        import matplotlib
    except ImportError as error:
        raise MissingExtra(
            "pictures need matplotlib, which is not installed; run: pip install 'spot-transfer[plots]'"
        ) from error
    values: dict[Any, Any] = {**matplotlib.rcParamsDefault, **SETTINGS, "backend": "agg"}
    with matplotlib.rc_context(values), warnings.catch_warnings():
        # Letters that our font lacks stay letters in SVG, and are boxes in PNG.
        warnings.filterwarnings("ignore", "constrained_layout not applied")  # names leave the axes no room
        warnings.filterwarnings("ignore", r"Glyph \d+ .*missing from font")
        yield


def _canvas(height: float) -> "tuple[Figure, Axes]":
    """An empty picture, `height` in inches; no window and no global state of pyplot is involved."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    return figure, figure.add_subplot()


def svg(figure: "Figure", title: str, description: str) -> str:
    """Write a picture as one `<svg>` element that can stand beside others in one page."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # the date would differ in each run
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(INK, "currentColor").strip() + "\n"
    text = text.replace(f"'{FONT}'", f"'{FONT}', system-ui, sans-serif")
    text = re.sub(r"\s*<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Every picture of matplotlib calls its parts figure_1, axes_1, ...: in one page these must differ.
    prefix = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-") or "picture"
    text = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", text)
    head, body = text.split(">", 1)
    label = f'role="img" aria-labelledby="{prefix}-title {prefix}-text"'
    return (
        f'{head} {label}>\n <title id="{prefix}-title">{escape(printable(title))}</title>'
        f'\n <desc id="{prefix}-text">{escape(printable(description))}</desc>{body}'
    )
