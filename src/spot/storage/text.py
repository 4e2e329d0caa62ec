"""Compare texts, whose spacing, case and punctuation differ between copies of a data set, and show them safely."""

import re
import unicodedata

_NOT_LETTER_OR_DIGIT = re.compile(r"[\W_]+")
# What a terminal obeys or shows in another order than it stands, and what no terminal can be sent: the control
# characters C0, C1 and DEL, the marks of direction, line ends of Unicode, half of a surrogate pair.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]"
)


def letters(text: str) -> str:
    """A text's lower-cased letters and digits, which copies of it share."""
    return _NOT_LETTER_OR_DIGIT.sub("", unicodedata.normalize("NFKC", text).lower())


def printable(text: str, lines: bool = False) -> str:
    r"""A text, maybe a stranger's, that a terminal only shows: what it would obey stands escaped, as `\x1b`.

    Args:
        text: a name, a message.
        lines: keep line ends and tabs, where several lines are meant.
    """
    return _UNPRINTABLE.sub(lambda match: match[0] if lines and match[0] in "\n\t" else _escaped(match[0]), text)


def _escaped(letter: str) -> str:
    """One letter as Python spells it."""
    return letter.encode("unicode_escape").decode("ascii")
