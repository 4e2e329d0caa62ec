"""Draw charts as HTML and SVG that fit any width: letters keep their size, and colours are those of the page.

A chart is a box: its lines are an SVG that is stretched to the box, its letters are HTML beside it. So it reads on a
phone as on a desktop, in the dark and on paper, needs no script and no other package, and equal input gives equal text.
The styles stand in the page's template.
"""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from spot.storage.text import printable

# Each has a contrast of 3 or more with white and with near-black, and differs in lightness from its neighbours.
COLOURS = ("#2f7fd1", "#d9660f", "#14936a", "#c0559b", "#8f7a00", "#7d6fd0", "#767676", "#c44545")
DASHES = ("", "7 4", "7 3 2 3", "2 3")  # of lines, in CSS pixels
MOST_LETTERS = 90  # of a name
STEPS = (1, 2, 2.5, 5, 10)  # between two ticks, times a power of ten

Curve = Sequence[tuple[int, float]]  # (step, percent)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A value with its interval.

    Attributes:
        name: of what was measured.
        value: percent.
        low, high: ends of its interval, percent.
        is_marked: whether it is the one that a reader looks for.
    """

    name: str
    value: float
    low: float
    high: float
    is_marked: bool = False


@dataclass(frozen=True)
class _Axis:
    """A scale between two round numbers.

    Attributes:
        low, high: its ends.
        ticks: round numbers on it, ascending.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def share(self, value: float) -> float:
        """Where a value stands, percent of the way from the low end to the high one."""
        return 100 * (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)


def interval_plot(measured: Sequence[Measured], *, subject: str = "Score on report rows, percent") -> str:
    """Draw values with their intervals, one a line in the order given: a forest plot.

    Args:
        measured: at least one.
        subject: what was measured, with its unit.

    Returns:
        HTML. Below it stands where its axis begins and ends.
    """
    axis = _axis([end for row in measured for end in (row.low, row.value, row.high)], parts=4)
    grid = "".join(f'<s style="left:{_number(axis.share(tick))}%"></s>' for tick in axis.ticks)
    lines = []
    for row in measured:
        left, right = axis.share(row.low), axis.share(row.high)
        ends = f" <small>{row.low:.1f} to {row.high:.1f}</small>" if row.low < row.high else ""
        lines.append(
            f'<div class="line{" marked" * row.is_marked}"><span class="name">{_text(row.name)}</span>'
            f'<span class="track">{grid}<i style="left:{_number(left)}%;width:{_number(right - left)}%"></i>'
            f'<b style="left:{_number(axis.share(row.value))}%"></b></span>'
            f'<span class="value">{row.value:.1f}{ends}</span></div>'
        )
    told = "; ".join(f"{row.name} {row.value:.1f} ({row.low:.1f} to {row.high:.1f})" for row in measured)
    return (
        f'<div class="forest" role="img" aria-label="{_text(f"{subject}, with 95 % intervals: {told}", longest=4000)}">'
        + "".join(lines)
        + f'<div class="line scale"><span class="name"></span><span class="track">{_ticks(axis)}</span>'
        f'<span class="value"></span></div></div>\n<p class="note">{_text(subject)}, with 95 % intervals. '
        f"{_extent(axis)}</p>\n"
    )


def learning_curves(curves: Mapping[str, Sequence[Curve]], *, score: str = "Score on selection rows") -> str:
    """Draw score against steps: for each arm the mean over seeds as a line and the range of the seeds as a band.

    The axis of scores begins at 0, so that a small gain looks small.

    Args:
        curves: for each arm one curve a seed. An arm with no point is left out; one that was measured only once is one
            mark.
        score: name of what is on the vertical axis.

    Returns:
        HTML.
    """
    arms = {arm: scores_at for arm, seeds in curves.items() if (scores_at := _by_step(seeds))}
    values = [score for scores_at in arms.values() for scores in scores_at.values() for score in scores]
    across = _axis([0, *(step for scores_at in arms.values() for step in scores_at)], parts=5)
    # Percent have a top of their own; scores that stay far below it, as those of open answers may, have a nearer one.
    up = _axis([0, *values, *([100] if max(values, default=0) > 40 else [])], parts=5)
    marks, legend = [], []
    for number, (arm, scores_at) in enumerate(arms.items()):
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[(number + number // len(COLOURS)) % len(DASHES)]
        means = [(step, sum(scores) / len(scores)) for step, scores in scores_at.items()]
        lows = [(step, min(scores)) for step, scores in scores_at.items()]
        highs = [(step, max(scores)) for step, scores in scores_at.items()]
        if lows != highs:
            band = " ".join(_point(across, up, *point) for point in [*lows, *reversed(highs)])
            marks.append(f'<polygon class="band" fill="{colour}" points="{band}"/>')
        line = " ".join(_point(across, up, *point) for point in means)
        dots = "".join(f"M{_point(across, up, *point)}h0" for point in means)
        style = f'stroke="{colour}" stroke-dasharray="{dash}"' if dash else f'stroke="{colour}"'
        marks.append(f'<polyline {style} points="{line}"/><path class="dots" stroke="{colour}" d="{dots}"/>')
        sample = f'<svg viewBox="0 0 28 10" aria-hidden="true"><polyline {style} points="0,5 28,5"/></svg>'
        legend.append(f"<li>{sample}{_text(arm)} <b>{means[-1][1]:.1f}</b></li>")
    seeds = max(map(len, curves.values()), default=0)
    counted = "1 seed" if seeds == 1 else f"mean and range over {seeds} seeds"
    told = f"{score}, percent, against training steps, {counted}. {_ends(arms)}"
    below = f"{score}, percent, by training steps; {counted}. The number behind a name is the last. {_extent(up)}"
    return (
        f'<ul class="legend">{"".join(legend)}</ul>\n{_box(across, up, "".join(marks), told, "training steps")}'
        f'<p class="note">{_text(below, longest=4000)}</p>\n'
    )


def bars(rows: Sequence[tuple[str, float, str]], *, subject: str) -> str:
    """Draw one bar a name, the longest first, from 0.

    Args:
        rows: name, value, and the value as text.
        subject: what is drawn, with its unit.
    """
    rows = sorted(rows, key=lambda row: (-row[1], row[0]))
    low, high = min([0.0, *(value for _, value, _ in rows)]), max([0.0, *(value for _, value, _ in rows)])
    axis = _Axis(low, high if high > low else low + 1.0, ())
    zero = axis.share(0)
    lines = []
    for name, value, shown in rows:
        left, right = sorted((zero, axis.share(value)))
        lines.append(
            f'<div class="line"><span class="name">{_text(name)}</span><span class="track">'
            f'<i style="left:{_number(left)}%;width:{_number(right - left)}%"></i></span>'
            f'<span class="value">{_text(shown)}</span></div>'
        )
    told = ", ".join(f"{name} {shown}" for name, _, shown in rows)
    return (
        f'<div class="forest bars" role="img" aria-label="{_text(f"{subject}: {told}", longest=4000)}">'
        f'{"".join(lines)}</div>\n<p class="note">{_text(subject)}. Bars begin at 0, the longest first.</p>\n'
    )


def reliability_diagram(bins: Sequence[tuple[float, float, float, int]]) -> str:
    """Draw how often answers are right against how probable the model calls them.

    Args:
        bins: of answers of like probability: their lowest and highest probability, the share that is right, all
            percent, and how many there are.
    """
    axis = _axis([0, 100], parts=5)
    most = max((count for *_, count in bins), default=0)
    marks = ['<polyline class="diagonal" points="0,100 100,0"/>']
    for low, high, right, count in bins:
        if count:
            marks.append(
                f'<rect x="{_number(low + 0.6)}" y="{_number(100 - right)}" width="{_number(high - low - 1.2)}" '
                f'height="{_number(right)}" fill="{COLOURS[0]}" opacity="{0.35 + 0.6 * count / most:.2f}"/>'
            )
    told = "; ".join(
        f"{low:.0f} to {high:.0f} percent probable: {right:.0f} percent right, {count} rows"
        for low, high, right, count in bins
        if count
    )
    box = _box(axis, axis, "".join(marks), f"How often answers are right. {told}", "probability of the answer, %")
    return (
        f'{box}<p class="note">Answers that are right, percent, by the probability that the model gives them. On the '
        "dashed line the two are equal; the fuller a bar's colour, the more rows it stands for.</p>\n"
    )


def _box(across: _Axis, up: _Axis, marks: str, told: str, label: str) -> str:
    """A chart with two axes."""
    grid = "".join(f'<path class="grid" d="M0 {_number(100 - up.share(tick))}H100"/>' for tick in up.ticks)
    on_left = "".join(f'<span style="bottom:{_number(up.share(tick))}%">{_short(tick)}</span>' for tick in up.ticks)
    return (
        f'<div class="chart" role="img" aria-label="{_text(told, longest=4000)}"><div class="up">{on_left}</div>'
        f'<svg viewBox="0 0 100 100" preserveAspectRatio="none" aria-hidden="true">{grid}{marks}</svg>'
        f'<div class="across">{_ticks(across)}</div><div class="label">{_text(label)}</div></div>\n'
    )


def _ticks(axis: _Axis) -> str:
    """The numbers below an axis."""
    return "".join(f'<span style="left:{_number(axis.share(tick))}%">{_short(tick)}</span>' for tick in axis.ticks)


def _axis(values: Sequence[float], parts: int) -> _Axis:
    """A scale between round numbers around all values, with about so many steps."""
    low, high = min(values, default=0.0), max(values, default=1.0)
    rough = max(high - low, 1e-9) / parts
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(size * power for size in STEPS if size * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    last = max(last, first + 1)
    return _Axis(first * step, last * step, tuple(number * step for number in range(first, last + 1)))


def _extent(axis: _Axis) -> str:
    """Where an axis begins and ends, in words."""
    return f"The axis goes from {_short(axis.low)} to {_short(axis.high)}."


def _by_step(seeds: Sequence[Curve]) -> dict[int, list[float]]:
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


def _point(across: _Axis, up: _Axis, step: float, score: float) -> str:
    """A point in an SVG of 100 by 100, y downwards."""
    return f"{_number(across.share(step))},{_number(100 - up.share(score))}"


def _number(value: float) -> str:
    """A coordinate without needless digits."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _short(value: float) -> str:
    """A round number as a tick shows it."""
    return f"{value:,.0f}" if abs(value - round(value)) < 1e-9 else f"{value:g}"


def _text(text: str, longest: int = MOST_LETTERS) -> str:
    """A text as HTML, one line and not too long."""
    text = printable(text)
    return escape(text if len(text) <= longest else f"{text[: longest - 3]}...")
