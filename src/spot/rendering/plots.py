"""Write what matplotlib drew as SVG text, to stand inside a page: the same input gives the same bytes.

Lines, axes and letters take the colour of the text around the picture (`currentColor`), so that it reads on light and
on dark pages. Letters stay letters: they can be searched, copied and read out.
"""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from typing import TYPE_CHECKING, Any

from spot.errors import MissingExtra
from spot.storage.text import printable

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK = "#010203"  # stands for currentColor until the picture is written; no other colour comes near it
FONT = "DejaVu Sans"  # comes with matplotlib, so letters are measured alike everywhere
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
