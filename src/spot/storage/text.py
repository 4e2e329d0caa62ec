"""Compare texts: spacing, case and punctuation differ between copies of a data set."""

import re
import unicodedata

_NOT_LETTER_OR_DIGIT = re.compile(r"[\W_]+")


def letters(text: str) -> str:
    """A text's lower-cased letters and digits, which copies of it share."""
    return _NOT_LETTER_OR_DIGIT.sub("", unicodedata.normalize("NFKC", text).lower())
