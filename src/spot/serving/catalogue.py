"""Which prompts of a library a server answers with: it follows the folder, and passes over what cannot be used."""

import logging
import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np

from spot.collator import Collator, Vocabulary, collator_of_reading
from spot.errors import LibraryError, PromptError, SpotError, StorageError, did_you_mean
from spot.library.entries import Entry
from spot.library.library import Library
from spot.prompts.prompt import reading_of
from spot.reading import Reading
from spot.serving.requests import BASE, Refusal, Served
from spot.tokenization import Tokenization

log = logging.getLogger(__name__)

SHORTEST = 4  # characters of a digest's beginning that name a prompt
SHOWN = 8  # prompts that a message names


@dataclass(frozen=True)
class _State:
    """What was seen when the folder was last looked at."""

    by_name: Mapping[str, Served]  # in the order of a list: the model alone, then by task
    by_task: Mapping[str, tuple[Served, ...]]
    problems: tuple[str, ...]


class LibraryCatalogue:
    """The prompts of a library that belong to one frozen model, and the model alone.

    A thread of its own looks at the folder, so that prompts which come and go need no new start. What is seen is kept
    while the folder is gone.
    """

    def __init__(self, library: Library, vocabulary: Vocabulary, refresh_s: float, max_input_tokens: int) -> None:
        """Look at the library for the first time.

        Args:
            library: the folder.
            vocabulary: of the frozen model, or the model itself.
            refresh_s: seconds from one look to the next.
            max_input_tokens: longest input of the model alone.

        Raises:
            LibraryError: the folder cannot be read.
        """
        self._library = library
        self._vocabulary = vocabulary
        self._tokenization = Tokenization(vocabulary.tokenizer)
        plain = Reading(cue="", separator="", max_input_tokens=max_input_tokens)
        self._base = Served(BASE, self._collator(plain, 0), None, partial(_no_vectors, vocabulary.id.width))
        self._seen: dict[str, Served | str] = {}  # digest -> how it is served, or why it is not
        self._reading = threading.Lock()  # a library is for one thread at a time, and the engine's reads vectors
        self._state = _State({}, {}, ())
        self._state = self._looked()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._follow, args=(refresh_s,), name="spot-catalogue", daemon=True)
        self._thread.start()

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with prompts that are passed over, and with the folder."""
        return self._state.problems

    def served(self) -> list[Served]:
        """All models that a request may name: the frozen one alone, then by task and digest."""
        return list(self._state.by_name.values())

    def find(self, name: str) -> Served:
        """A model by task, digest, the beginning of one (4 characters or more), or `base`.

        Raises:
            Refusal: nothing (404) or more than one prompt (400) is called so.
        """
        state = self._state
        if name in state.by_name:
            return state.by_name[name]
        prompts = list(state.by_task.get(name, ()))
        if not prompts and len(name) >= SHORTEST:
            prompts = [served for served in state.by_name.values() if served.digest.startswith(name)]
        if len(prompts) == 1:
            return prompts[0]
        if prompts:
            digests = ", ".join(served.digest for served in prompts[:SHOWN])
            more = ", ..." if len(prompts) > SHOWN else ""
            raise Refusal(
                f"{len(prompts)} prompts are called {name!r}: {digests}{more}. Name one by its digest.",
                400,
                "ambiguous",
            )
        names = [served.name for served in state.by_name.values()]
        hint = did_you_mean(name[:100], names)
        hint = hint if len(hint) < 300 else f"GET /v1/models lists the {len(names)} that are served"
        raise Refusal(f"no model is called {name[:100]!r}: {hint}", 404, "model_not_found")

    def close(self) -> None:
        """Look no more."""
        self._ended.set()
        self._thread.join()

    def refresh(self) -> None:
        """Look at the folder now; what is wrong with it is a problem and no error."""
        try:
            state = self._looked()
        except Exception as error:  # else the thread would end, and with it every later look
            if not isinstance(error, SpotError | OSError):
                log.exception("the library cannot be looked at")
            problem = f"{self._library.path}: {error}"
            if problem not in self._state.problems:
                log.warning("the prompts that were there are served on: %s", problem)
            state = _State(self._state.by_name, self._state.by_task, (problem,))
        self._state = state

    def _follow(self, refresh_s: float) -> None:
        while not self._ended.wait(refresh_s):
            self.refresh()

    def _looked(self) -> _State:
        """What the folder holds now.

        Raises:
            LibraryError: it is no library any more, or cannot be read.
        """
        Library(self._library.path, read_only=True)  # of a folder that is gone it says so
        with self._reading:
            entries, faults = self._library.entries(), self._library.faults()
        digests = {entry.digest for entry in entries}
        self._seen = {digest: known for digest, known in self._seen.items() if digest in digests}
        tasks = Counter(entry.task for entry in entries if entry.task != BASE)
        for entry in entries:
            name = entry.task if tasks[entry.task] == 1 else entry.digest
            known = self._seen.get(entry.digest)
            if not isinstance(known, Served) or known.name != name:  # what cannot be read now may be there soon
                self._seen[entry.digest] = self._prepared(entry, name)
        served = [known for known in self._seen.values() if isinstance(known, Served)]
        served.sort(key=lambda known: (known.entry.task if known.entry else "", known.digest))
        problems = [*faults, *(known for known in self._seen.values() if isinstance(known, str))]
        for problem in set(problems) - set(self._state.problems):
            log.warning("passed over: %s", problem)
        by_task: dict[str, tuple[Served, ...]] = {}
        for known in served:
            assert known.entry is not None
            by_task[known.entry.task] = (*by_task.get(known.entry.task, ()), known)
        by_name = {BASE: self._base, **{known.name: known for known in served}}
        return _State(by_name, by_task, tuple(problems))

    def _prepared(self, entry: Entry, name: str) -> Served | str:
        """How a prompt is served, or why it is not."""
        if not entry.backbone.is_same_model(self._vocabulary.id):
            return (
                f"the prompt {entry.digest} of task {entry.task!r} belongs to the backbone {entry.backbone}, and "
                f"{self._vocabulary.id} is served: serve it with a backbone of its own"
            )
        try:
            with self._reading:
                prompt = self._library.get(entry.digest)
            reading = reading_of(prompt)
            collator = self._collator(reading, entry.length)
            _ = collator.choices
        except (SpotError, OSError) as error:
            return f"the prompt {entry.digest} of task {entry.task!r} cannot be read by: {error}"
        return Served(name, collator, entry, partial(self._vectors, entry))

    def _collator(self, reading: Reading, length: int) -> Collator:
        return collator_of_reading(self._vocabulary, reading, length=length, tokenization=self._tokenization)

    def _vectors(self, entry: Entry) -> np.ndarray:
        """The vectors of a prompt from its file.

        Raises:
            PromptError: it is damaged, or gone.
        """
        try:
            with self._reading:
                return self._library.get(entry.digest).value
        except (LibraryError, StorageError) as error:
            raise PromptError(str(error)) from error


def _no_vectors(width: int) -> np.ndarray:
    return np.zeros((0, width), "<f4")
