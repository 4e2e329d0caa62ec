"""Write down how a row becomes the text that a prompt was trained on, for requests to other servers."""

from spot.chat import chat_form
from spot.collator import Collator

ROW = "{text}"  # where a row stands in a request


def around_text(collator: Collator) -> tuple[str, str]:
    """What stands before and behind a row's text: the chat template's words, or nothing and the cue."""
    reading = collator.reading.for_kind(collator.kind)
    if not reading.chat:
        return "", reading.cue or ""
    form = chat_form(collator.tokenizer, reading.system)
    return form.before, form.behind


def whole_text(collator: Collator) -> str:
    """A request's text with `{text}`, or the fields of the prompt's template, where a row stands."""
    before, behind = around_text(collator)
    return f"{before}{collator.reading.template or ROW}{behind}"


def begin_text(collator: Collator) -> str:
    """The special tokens that a tokenizer puts in front of a text, as text; in chat form the template writes them."""
    before = () if collator.reading.chat else collator.tokens.around_input.before
    return "".join(map(str, collator.tokenizer.convert_ids_to_tokens(list(before))))
