"""Say in a plain sentence what is asked of a row, where nobody has: by the names of its texts and the labels."""

import re
from collections.abc import Sequence

from spot.reading import parse_template
from spot.storage.text import printable
from spot.tasks.task import Task

MOST_LISTED = 12  # labels that a sentence lists; of more it says how many there are, and some of them
MOST_LETTERS = 200  # of all labels that a sentence lists
MOST_NAME = 40  # letters of a text's name
MOST_NAMES = 4  # texts that a sentence names

_KEY = re.compile(r"(\w[\w '-]*):\s*$")  # what a template calls the text behind it, such as `premise: `
_BLANKS = re.compile(r"[\s_]+")
_NAME = re.compile(r"\w[\w '-]*")


def proposed_instruction(task: Task) -> str:
    """What is asked of a task's rows, in a sentence such as `Read the sentence and say which of these it is: yes, no.`.

    It is made of what the task reads and answers, and says nothing of what its labels mean: whoever knows the rows
    says it better (`Task.instruction`).

    Args:
        task: of any kind.
    """
    return proposed_sentence(task.reading.template, task.labels)


def proposed_sentence(template: str, words: Sequence[str]) -> str:
    """The sentence for rows that are read by a template and answered with one of several words.

    Args:
        template: as in `Reading`; empty where nothing is known of the texts.
        words: the label words; none for open answers.
    """
    names = _names(template)
    if not words:
        asked = "write the answer"
    elif len(words) <= MOST_LISTED and sum(map(len, words)) <= MOST_LETTERS:
        asked = f"say which of these {'it is' if len(names) == 1 else 'fits'}: {', '.join(words)}"
    else:
        asked = f"say which of {len(words)} classes {'it is' if len(names) == 1 else 'fits'}{_some(words)}"
    return printable(f"Read {_joined([f'the {name}' for name in names])} and {asked}.")


def _names(template: str) -> list[str]:
    """What the texts of a row are called: what the template writes in front of each, else the names of its fields."""
    pieces = parse_template(template) if template else ()
    keys = [(match[1] if (match := _KEY.search(before)) else field) for before, field in pieces if field]
    names = [_BLANKS.sub(" ", key).strip() for key in keys]
    names = [name if _NAME.fullmatch(name) and len(name) <= MOST_NAME else "text" for name in names]
    names = list(dict.fromkeys(names)) or ["text"]
    return names if len(names) <= MOST_NAMES else ["texts"]


def _some(words: Sequence[str]) -> str:
    """The first labels, as many as there is room for; nothing where the first one is too long."""
    shown: list[str] = []
    for word in words[:MOST_LISTED]:
        if sum(map(len, shown)) + len(word) > MOST_LETTERS:
            break
        shown.append(word)
    return f", such as {', '.join(shown)}" if shown else ""


def _joined(names: Sequence[str]) -> str:
    """Names as a sentence lists them: `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
