"""Refuse what cannot be used, with one family of errors: what was found, what was expected, what to do."""

from collections.abc import Iterable
from difflib import get_close_matches


class SpotError(Exception):
    """A mistake that its user can mend; the command line prints it as one message and exits with 2."""


class ConfigError(SpotError):
    """A configuration file, an override or an option holds an unknown key or a bad value."""


class TaskError(SpotError):
    """A task is unknown, or its file or rows cannot be used."""


class PromptError(SpotError):
    """A prompt file cannot be read, or does not belong to the backbone at hand."""


class BackboneError(SpotError):
    """A frozen model cannot be found, loaded or used for prompt tuning."""


class LibraryError(SpotError):
    """A prompt library is missing, damaged, or refuses an entry."""


class RunError(SpotError):
    """A run cannot start, go on, or diverged."""


class StudyError(SpotError):
    """A study's file or one of its records cannot be used, or an executor cannot be reached."""


class StorageError(SpotError):
    """A file cannot be written, or another process holds it."""


class SharingError(SpotError):
    """The address of a shared library cannot be used, or what lies there is none."""


class NotShared(SharingError):
    """There is no shared library at an address, and maybe could be."""


class Unreachable(SharingError):
    """Nothing answers at the address of a shared library, now."""


class MissingExtra(SpotError):
    """An optional package is needed; the message holds the install line."""


PAGE = "docs/errors.md"  # has a section for each class above


def section_of(error: SpotError) -> str:
    """Where the documents say more of an error: the section of its class, or of the class here that it is one of."""
    kind = next(kind for kind in type(error).__mro__ if kind.__module__ == __name__)
    return f"{PAGE}#{kind.__name__.lower()}"


def lacks_memory(error: BaseException) -> bool:
    """Whether an error of Python or torch says that memory ran out; torch has no class for that of the CPU."""
    words = ("DefaultCPUAllocator", "CUDA out of memory", "Cannot allocate memory")
    return isinstance(error, MemoryError) or any(word in str(error) for word in words)


def did_you_mean(name: str, accepted: Iterable[str]) -> str:
    """The tail of an error message about an unknown name: near misses, or the list of known names.

    Args:
        name: the name as the user wrote it.
        accepted: the names that would have been right.

    Returns:
        A clause such as `did you mean 'glue/sst2'?`, without leading punctuation.
    """
    names = sorted(accepted)
    close = get_close_matches(name, names, n=3, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(match) for match in close) + "?"
    if not names:
        return "none are known here"
    return "known: " + ", ".join(names)
