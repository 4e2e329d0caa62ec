"""Compare texts, by what copies of a data set share and what tells two texts apart, and show them safely."""

import re
import unicodedata

_NOT_LETTER_OR_DIGIT = re.compile(r"[\W_]+")
_SIGNS = re.compile(r"[^\w\s]+")  # combining marks, which are no letters to Python, among them
_MARKS = re.escape(".,;!?\u2026")  # end a sentence or a part of one
_QUOTES = re.escape("\"'`\u00b4\u2018\u2019\u201c\u201d\u201e\u00ab\u00bb")
_LEADING = re.compile(rf"^[{_QUOTES}]+(?=[^{_MARKS}{_QUOTES}])")
_TRAILING = re.compile(rf"[{_MARKS}{_QUOTES}]+$")
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-\u2010\u2011](?=[^\W\d_])")
_BETWEEN_DIGITS = re.compile(r"(?<=\d)\s+(?=\d)")
_INVISIBLE = dict.fromkeys(map(ord, "\u00ad\u200b\ufeff\ufe0e\ufe0f"))  # signs that a copy may have lost

# What a terminal obeys or shows in another order than it stands, and what no terminal can be sent: the control
# characters C0, C1 and DEL, the marks of direction, line ends of Unicode, half of a surrogate pair.
_UNPRINTABLE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufff9-\ufffb]"
)


def letters(text: str) -> str:
    """A text's lower-cased letters and digits: every copy of it has the same, and so have a few texts that are none.

    Right where a copy that is missed is worse than a text too many, as in the search for overlaps.
    """
    return _NOT_LETTER_OR_DIGIT.sub("", unicodedata.normalize("NFKC", text).lower())


def copy_key(text: str) -> str:
    """What copies of a text share and other texts do not have.

    Case, Unicode form, spacing, sentence marks, quotation marks and hyphens inside words differ between copies of a
    data set: `it 's good .` is `It's good`. All else tells texts apart: letters with their marks, digits and the point
    within a number, and signs, so that `C`, `C++` and `C#`, `-5` and `5`, `:)` and `:(` differ.
    """
    folded = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold()).translate(_INVISIBLE)
    kept = _SIGNS.sub(_sign, _HYPHEN.sub("", folded))
    kept = "".join(_BETWEEN_DIGITS.sub("\0", kept).split())
    return kept or "".join(folded.split())


def _sign(match: re.Match[str]) -> str:
    """What remains of signs that stand together: a face stays whole, and a sentence mark goes from behind a sign."""
    signs, text = match[0], match.string
    before, after = text[max(0, match.start() - 1) : match.start()], text[match.end() : match.end() + 1]
    if after.isdigit() and (before.isdigit() or not before.strip()):
        return signs  # within a number, or in front of it
    return _TRAILING.sub("", _LEADING.sub("", signs))


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
