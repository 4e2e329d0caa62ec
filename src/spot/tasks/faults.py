"""Find what makes rows a bad task: columns that tell the label, and columns that are no text.

Writing a task file leaves such columns out and says why; checking a task finds them in files that somebody else wrote.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

_SURE = 0.9  # share of the rows that must hold their own label; the rest may be spelled another way
_LOOKED = 2000  # rows whose words are compared with the labels', evenly over the file
_FEWEST = 4  # rows below which nothing can be told from chance
_NUMBER = re.compile(r"\s*[-+]?[\d.,]*\s*")
_CODE = re.compile(r"(?=.*[\d/_:-])[!-~]+")  # such as a12, 2024-01-31, https://..
_WORD = re.compile(r"\w+|[^\w\s]")
_UNSPACED = re.compile(
    "[\u0e00-\u0eff\u1000-\u109f\u3040-\u30ff\u3400-\u9fff]{4}"
)  # scripts without blanks between words
_EDGES = re.compile(r"^\W+|\W+$")
_PARTING = frozenset("split fold set subset partition group dataset source origin lang language locale".split())


def tellers(
    columns: Mapping[str, Sequence[str]], labels: Sequence[str], words: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The columns that hold or determine the label, and how.

    Args:
        columns: name -> its text in each row, all rows with a label.
        labels: of the rows.
        words: label -> the word that is answered for it.

    Returns:
        Column -> a clause such as `it is the label in other words ('card lost' for '0')`.
    """
    reasons: dict[str, str] = {}
    if len(labels) < _FEWEST or len(set(labels)) < 2:
        return reasons
    spellings = defaultdict(set)
    for label in set(labels):
        spellings[label] |= {_plain(label), _plain((words or {}).get(label, label))}
    for column, values in columns.items():
        plain = [_plain(value) for value in values]
        if all(value == _plain(label) for value, label in zip(plain, labels, strict=True)):
            reasons[column] = "it holds the label"
        elif reason := _determines(plain, labels, values):
            reasons[column] = reason
            # A column that names the labels in words is what a longer text may hold.
            if len(set(zip(values, labels, strict=True))) == len(set(labels)):
                for value, label in set(zip(values, labels, strict=True)):
                    spellings[label].add(_plain(value))
    if len(spellings) * 2 > len(labels):  # answers rather than labels, which a passage may well hold
        return reasons
    spelled = {label: [_words(word) for word in words if word.strip()] for label, words in spellings.items()}
    step = -(-len(labels) // _LOOKED)
    for column, values in columns.items():
        if column not in reasons and (reason := _contains(values[::step], labels[::step], spelled)):
            reasons[column] = reason
    return reasons


def no_text(column: str, values: Sequence[object]) -> str:
    """Why a column is no text to read, as a clause; empty where it is.

    Args:
        column: its name.
        values: in each row.
    """
    filled = [value for value in values if value is not None and value != "" and value == value]  # nor NaN
    if not filled:
        return "it is blank"
    if other := [value for value in filled if not isinstance(value, str)]:
        kinds = {"int": "numbers", "float": "numbers", "bool": "truth values", "list": "lists", "dict": "objects"}
        kind = type(other[0]).__name__
        return f"it holds {kinds.get(kind, f'values of the kind {kind}')}"
    texts = [str(value) for value in filled]
    if all(map(_NUMBER.fullmatch, texts)):
        return "it holds numbers"
    different = len(set(texts))
    if different == 1 and len(texts) > 1:
        return "it holds the same in every row"
    if different == len(texts) and len(texts) > 1 and all(map(_CODE.fullmatch, texts)):
        return "it holds a code a row, such as an id or an address"
    if column.strip().lower() in _PARTING and not any(" " in text.strip() for text in texts):
        return "it says what rows belong together"
    return ""


def wordy(values: Iterable[object]) -> bool:
    """Whether most values have several words."""
    texts = [value for value in values if isinstance(value, str) and value]
    return sum(" " in text.strip() or _UNSPACED.search(text) is not None for text in texts) * 2 >= max(1, len(texts))


def _determines(plain: Sequence[str], labels: Sequence[str], values: Sequence[str]) -> str:
    """How values and labels go together, where one determines the other."""
    pairs = Counter(zip(plain, labels, strict=True))
    different, classes = len(set(plain)), len(set(labels))
    if different < 2:
        return ""
    to_label, to_value = len(pairs) == different, len(pairs) == classes
    if to_label and to_value and len(labels) >= classes + 2:
        value, label = next(iter(zip(values, labels, strict=True)))
        return f"it is the label in other words ({value[:40]!r} for {label!r})"
    if to_label and different * 4 <= len(labels) and len(labels) >= 2 * _FEWEST:
        return f"each of its {different} values goes with one label"
    if to_value and classes * 4 <= len(labels) and len(labels) >= 2 * _FEWEST:
        return f"the label determines it: each of {classes} labels has one value there"
    return ""


def _contains(values: Sequence[str], labels: Sequence[str], spellings: Mapping[str, Sequence[str]]) -> str:
    """How texts hold the label of their own row, and not those of others.

    Args:
        values: of the column.
        labels: of the rows.
        spellings: label -> its words between blanks, as `_words` gives them.
    """
    own = ends = 0
    others = 0.0
    shown: set[str] = set()
    for value, label in zip(values, labels, strict=True):
        text = _words(value)
        held = {name for name, words in spellings.items() if any(word in text for word in words)}
        own += label in held
        others += len(held - {label}) / (len(spellings) - 1)
        if any(text.endswith(word) for word in spellings[label]):
            ends += 1
            shown.add(label)
    if ends >= _SURE * len(labels) and len(shown) > 1:
        return "it ends in the label of its row"
    if own >= _SURE * len(labels) and others * 2 <= own and len(labels) >= _FEWEST + 2:
        return "it holds the word of its row's label"
    return ""


def _plain(text: str) -> str:
    """A value without case and what stands around it."""
    return _EDGES.sub("", text.strip()).casefold() or text.strip()


def _words(text: str) -> str:
    """The words and signs of a text, in small letters, each between blanks."""
    return f" {' '.join(_WORD.findall(text.casefold()))} "
