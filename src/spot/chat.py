"""Find out what a tokenizer's chat template writes around the text of a user, and what it ends an answer with.

A template is a program of the model's author: it is run on a word of ours and never on a row, so that what a row says
can change nothing but its own place.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from transformers import PreTrainedTokenizerBase

from spot.errors import TaskError
from spot.storage.text import printable
from spot.tokenization import Part, Parts

MOST_LETTERS = 100_000  # of what a template writes; usual ones write some hundred

# In front of templates that write the date, so that a prompt reads its rows alike on every day: Llama 3's own where it
# is told none.
_ONE_DATE = "{% macro strftime_now(format) %}26 Jul 2024{% endmacro %}"

_USER = "qvkzjwxhqtrm"  # stands for the text of a user: no template writes it by itself
_ANSWER = "xjzqkvwmhrtp"  # stands for the answer
_WRONG = "this backbone's chat template"
_MEND = "leave chat out, or give the backbone another template"

Message = dict[str, Any]


@dataclass(frozen=True)
class ChatForm:
    """What a chat template writes around a text.

    Attributes:
        before: in front of the user's text: a begin token, the system's turn, the head of the user's.
        behind: from there to where the answer begins.
        end: behind an answer; empty where the template takes no answer.
        trim: what the template makes of the blanks and line breaks at the ends of the user's text.
    """

    before: str
    behind: str
    end: str
    trim: Callable[[str], str]

    def around(self, parts: Parts) -> Parts:
        """The parts of a user's text with the template's words in front and behind, which are their author's."""
        whole = "".join(part.text for part in parts)
        first = len(whole) - len(self.trim(f"{whole}.")) + 1  # of a text that ends in no blank, only blanks in front go
        last = len(self.trim(f".{whole}")) - 1
        kept: list[Part] = []
        place = 0
        for part in parts:
            text = part.text[max(0, first - place) : max(0, last - place)]
            kept.append(part._replace(text=text))
            place += len(part.text)
        return (Part(self.before, is_row=False), *kept, Part(self.behind, is_row=False))


def chat_form(tokenizer: PreTrainedTokenizerBase, system: str = "") -> ChatForm:
    """What the chat template of a tokenizer writes around the text of a user's only turn.

    Args:
        tokenizer: of a causal model.
        system: the text of the system's turn; without it the template has what its author put there, mostly nothing.

    Raises:
        TaskError: there is no template, it fails, it writes no generation prompt, or it takes no system turn.
    """
    if not tokenizer.chat_template:
        raise TaskError(
            "chat form is asked for, and this backbone's tokenizer has no chat template; expected a model that was "
            "trained to chat. Leave chat out, or take such a model."
        )
    content, form = _first_that_works(tokenizer, system)
    answered = _answered(tokenizer, system, content)
    write = partial(_written, tokenizer, system, content)
    # Some need no generation prompt: the answer follows the user's text, as in `[INST] .. [/INST]`.
    is_prompted = write(_USER, prompted=False) != _USER.join(form)
    if not is_prompted and (answered is None or answered[0].rstrip() != _USER.join(form).rstrip()):
        raise TaskError(
            f"{_WRONG} writes no generation prompt, so that an answer would stand in the user's turn; expected one "
            f"that heeds add_generation_prompt; {_MEND}"
        )
    return ChatForm(*form, answered[1] if answered else "", _trim(write, form))


def _first_that_works(tokenizer: PreTrainedTokenizerBase, system: str) -> tuple[bool, tuple[str, str]]:
    """Whether texts are given as lists of contents, and what stands around the user's; plain texts are tried first."""
    failures = []
    for as_list in (False, True):
        try:
            parts = _written(tokenizer, system, as_list, _USER).split(_USER)
            if len(parts) == 2:
                return as_list, (parts[0], parts[1])
            failures.append(
                TaskError(f"{_WRONG} writes the user's text {len(parts) - 1} times; expected once; {_MEND}")
            )
        except TaskError as error:
            failures.append(error)
    raise failures[0]


def _written(
    tokenizer: PreTrainedTokenizerBase,
    system: str,
    as_list: bool,
    user: str,
    answer: str = "",
    *,
    prompted: bool = True,
) -> str:
    """What the template makes of a system's turn, if there is one, a user's, and an answer, if there is one.

    Raises:
        TaskError: the template fails, or leaves the system's turn out.
    """
    turns = [("user", user), *([("assistant", answer)] if answer else [])]
    text = _rendered(tokenizer, [("system", system), *turns] if system else turns, as_list, prompted)
    if isinstance(text, str) and (not system or system.strip() in text):
        return text
    if system and isinstance(_rendered(tokenizer, turns, as_list, prompted), str):
        why = printable(str(text))[:200] if isinstance(text, Exception) else "it leaves it out"
        raise TaskError(
            f"{_WRONG} takes no system turn ({why}); expected none with this model: leave system out, and put its "
            "words into the input"
        )
    why = printable(f"{type(text).__name__}: {text}")[:200]
    raise TaskError(f"{_WRONG} cannot be used ({why}); expected one that writes a user's turn; {_MEND}")


def _rendered(
    tokenizer: PreTrainedTokenizerBase, turns: list[tuple[str, str]], as_list: bool, prompted: bool
) -> str | Exception:
    """What the template makes of some turns, or how it fails."""
    messages = [
        {"role": role, "content": [{"type": "text", "text": text}] if as_list else text} for role, text in turns
    ]
    try:
        template = tokenizer.get_chat_template()
        template = _ONE_DATE + template if "strftime_now" in template else template
        text = tokenizer.apply_chat_template(
            messages, chat_template=template, tokenize=False, add_generation_prompt=prompted
        )
    except Exception as error:  # a template is a program of another's, and fails as it likes
        return error
    if not isinstance(text, str) or len(text) > MOST_LETTERS:
        return ValueError(f"it writes more than {MOST_LETTERS:,} characters")
    return text


def _answered(tokenizer: PreTrainedTokenizerBase, system: str, as_list: bool) -> tuple[str, str] | None:
    """What stands before and behind an answer; None where the template takes none."""
    try:
        parts = _written(tokenizer, system, as_list, _USER, _ANSWER, prompted=False).split(_ANSWER)
    except TaskError:
        return None
    return (parts[0], parts[1]) if len(parts) == 2 else None


def _trim(write: Callable[[str], str], form: tuple[str, str]) -> Callable[[str], str]:
    """What the template makes of the ends of a user's text, as it shows on one with blanks and line breaks around it.

    Raises:
        TaskError: it makes something else of it.
    """
    text = f" \n{_USER}\n "
    written = write(text)
    for trim in (str, str.strip, str.lstrip, str.rstrip):
        if written == trim(text).join(form):
            return trim
    raise TaskError(f"{_WRONG} changes the blanks of the user's text; expected it as it is or trimmed; {_MEND}")
