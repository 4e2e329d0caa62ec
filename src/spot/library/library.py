"""Keep source prompts in a library: one folder, one backbone, keys that can be compared with each other.

prompts/<digest>.safetensors   the truth
README.md                      a card for people, written anew when prompts come or go
index.sqlite                   a cache of what the files say, rebuilt wherever it is missing, stale or damaged
transfers.jsonl                the history of transfers, one record a line

A library may be a stranger's: no link in it is followed, and nothing but its prompt files is believed.

All keys of a library come from runs of one recipe that no other prompt initialised: two keys differ by their tasks
only when nothing else differs.
"""

import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Self

import numpy as np

from spot.errors import LibraryError, PromptError, StorageError, did_you_mean
from spot.library import history, prompt_files
from spot.library.cache import Cache
from spot.library.card import library_card
from spot.library.copies import local_copy
from spot.library.entries import Entry, check_belongs, entry_of, kept_text, objections
from spot.library.history import TransferRecord
from spot.prompts.card import README, may_replace
from spot.prompts.prompt import PROMPT_FILE, BackboneId, KeyRecipe, SoftPrompt, header, load, save
from spot.remote.address import is_address
from spot.storage.files import lock, remove_leftovers, write_whole
from spot.storage.opening import exists, is_folder, open_folder, read_bounded, user_path

log = logging.getLogger(__name__)

PACKAGED = "packaged"
Summarise = Callable[[SoftPrompt], np.ndarray]  # from a prompt to float32 [D]
_LARGEST_CARD = 4_000_000  # bytes
_LONGEST_HINT = 300  # characters; a library may know thousands of names


class Library:
    """Owns one library folder. Any number of processes may read it while one writes.

    Args:
        path: an existing library folder.
        read_only: refuse to change anything in it.
    """

    def __init__(self, path: Path | str, read_only: bool = False) -> None:
        """Open a library.

        Raises:
            LibraryError: the folder does not exist or is no library.
        """
        self.path = Path(path)
        self.read_only = read_only
        self._prompts = self.path / "prompts"
        self._cache = Cache(self.path / "index.sqlite", read_only)
        self._files: dict[str, Entry | str] | None = None  # file stem -> what it holds, or what is wrong with it
        self._stamps: dict[str, str] = {}  # file stem -> the stamp of the file that this was read from
        try:
            is_library, is_there = is_folder(self._prompts, self.path), exists(self.path)
        except StorageError as error:
            raise LibraryError(str(error)) from error
        if not is_library:
            other = f"{self.path} is not a prompt library: it has no folder `prompts`"
            missing = f"there is no prompt library at {self.path}"
            raise LibraryError(
                f"{other if is_there else missing}. Check the path, or make a library there with "
                f"`spot library add PROMPT --library {self.path}`; `{PACKAGED}` is the one that ships with spot."
            )

    @classmethod
    def create(cls, path: Path | str) -> Self:
        """Make an empty library, or open the one that is there.

        Raises:
            LibraryError: the path is a file or a folder with something else in it, or cannot be written.
        """
        if is_address(path):
            raise LibraryError(
                f"{path} is the address of a shared library. Make a library in a folder, and bring it there with "
                f"`spot library push {path} --library DIR`."
            )
        path = Path(path)
        try:
            if is_folder(path) and not is_folder(path / "prompts", path) and any(path.iterdir()):
                raise LibraryError(
                    f"cannot make a library at {path}: the folder holds other things. Name a new or empty folder."
                )
            os.close(open_folder(path / "prompts", path, make=True))
        except StorageError as error:
            raise LibraryError(f"cannot make a library at {path}: {error}") from error
        except (OSError, ValueError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            raise LibraryError(
                f"cannot make a library at {path}: {reason}. Name a new folder that you may write to."
            ) from error
        return cls(path)

    @property
    def backbone(self) -> BackboneId | None:
        """The frozen model of the prompts; None while the library is empty."""
        usual = self.usual()
        return usual.backbone if usual else None

    @property
    def key_recipe(self) -> KeyRecipe | None:
        """How the keys were made; None while the library is empty, or where that is unknown."""
        usual = self.usual()
        return usual.key_recipe if usual else None

    def usual(self) -> Entry | None:
        """An entry with the backbone and the recipe that most prompts have; None while the library is empty."""
        entries = self.entries()
        kinds = Counter((entry.backbone.fingerprint, entry.key_recipe) for entry in entries)
        usual = kinds.most_common(1)[0][0] if kinds else None
        return next((entry for entry in entries if (entry.backbone.fingerprint, entry.key_recipe) == usual), None)

    def require_recipe(self) -> KeyRecipe:
        """How the keys were made, of a library that new tasks can be compared with.

        Raises:
            LibraryError: no prompt has a key of a known recipe.
        """
        recipe = self.key_recipe
        if recipe is None:
            raise LibraryError(
                f"the library {self.path} holds no prompt whose key was made by a known recipe, so no task can be "
                "compared with it. Add prompts that were tuned with a key_step: `spot library add`."
            )
        return recipe

    def entries(self, backbone: BackboneId | None = None) -> list[Entry]:
        """The prompts by task and digest; files that are no prompts are left out with a warning.

        Args:
            backbone: only prompts of this model; its name makes no difference.
        """
        entries = [entry for entry in self._refreshed().values() if isinstance(entry, Entry)]
        if backbone is not None:
            entries = [entry for entry in entries if entry.backbone.is_same_model(backbone)]
        return sorted(entries, key=lambda entry: (entry.task, entry.digest))

    def faults(self) -> list[str]:
        """What was wrong with each file that was passed over, when the folder was looked at last."""
        files = self._refreshed() if self._files is None else self._files
        return [fault for fault in files.values() if isinstance(fault, str)]

    def get(self, reference: str) -> SoftPrompt:
        """Read one prompt, checking every byte.

        Args:
            reference: a digest, the beginning of one, or the name of a task that has one prompt here.

        Raises:
            LibraryError: nothing or more than one prompt is called so.
            PromptError: the file is damaged.
        """
        digest = self._resolve(reference)
        prompt = self._load(digest)
        if prompt.digest != digest:
            raise LibraryError(prompt_files.misnamed(self._file(digest), prompt.digest))
        return prompt

    def add(self, item: SoftPrompt | Path | str) -> Entry:
        """Add a prompt whose key can be compared with those that are there; adding it again changes nothing.

        Args:
            item: a prompt, or the path of a prompt file.

        Raises:
            LibraryError: the prompt does not belong here (each reason is named), or another writer is at work.
            PromptError: the file is no prompt.
            StorageError: it cannot be written; the library is as before.
        """
        prompt = item if isinstance(item, SoftPrompt) else load(item)
        with self._writing():
            path = self._file(prompt.digest)
            if not self._is_intact(prompt.digest):
                check_belongs(prompt, self.usual(), self.path)
                save(prompt, path, self.path)
            entry = self._refreshed(again=(prompt.digest,))[prompt.digest]
            self._describe()
        assert isinstance(entry, Entry), entry
        return entry

    def merge(
        self, source: "Library", digests: Sequence[str], records: Sequence[TransferRecord] = ()
    ) -> tuple[list[str], dict[str, str]]:
        """Add prompts of another library, and what was transferred there; nothing that is here is overwritten.

        Args:
            source: the other library.
            digests: of the prompts that are wanted.
            records: of transfers; one whose id stands here already is passed over.

        Returns:
            The digests that were added, and why others were not.

        Raises:
            LibraryError: another writer is at work.
            StorageError: the disk is full or the folder cannot be written; the library is as before.
        """
        added: list[str] = []
        refused: dict[str, str] = {}
        with self._writing():
            here = self._refreshed().keys()
            usual = self.usual() or source.usual()
            try:
                for digest in digests:
                    if digest in here:
                        continue
                    try:
                        prompt = source.get(digest)
                    except (LibraryError, PromptError) as error:
                        refused[digest] = str(error)
                        continue
                    if reasons := objections(prompt, usual):
                        refused[digest] = "; ".join(reasons)
                        continue
                    added.append(digest)
                    save(prompt, self._file(digest), self.path)
                if records:
                    history.append(self._transfers, records, self.path)
            except StorageError:
                for digest in added:
                    prompt_files.remove(self._file(digest), self.path)
                raise
            self._refreshed()
            self._describe()
        return added, refused

    def remove(self, reference: str) -> str:
        """Delete one prompt, damaged or not.

        Args:
            reference: as in `get`.

        Returns:
            Its digest.

        Raises:
            LibraryError: nothing or more than one prompt is called so, or another writer is at work.
        """
        with self._writing():
            digest = self._resolve(reference)
            prompt_files.remove(self._file(digest), self.path)
            self._refreshed()
            self._describe()
        return digest

    def reindex(self, backbone: BackboneId | None = None) -> int:
        """Throw the cache away and read every file again.

        Args:
            backbone: of a model at hand: prompts that name it by the fingerprint of older versions are written anew
                with that of today. Their digests change with it, in the history of transfers too.

        Returns:
            The number of prompts.

        Raises:
            LibraryError: another writer is at work, or the folder cannot be written.
        """
        with self._writing():
            self._cache.drop()
            self._files = {}
            if backbone is not None and backbone.formerly:
                self._upgrade(backbone)
            self._describe()
            return len(self.entries())

    def verify(self, summaries: Mapping[str, Summarise] | None = None) -> list[str]:
        """Read every byte of every prompt, what the index says of it, and both histories; nothing is changed.

        Args:
            summaries: what `summaries` computes, by name: the vectors in the index are compared with these.

        Returns:
            What is wrong, one problem a line. That of the user's history (`experience.jsonl`) is named here too, for
            rankings by past transfers read it beside the library's own.
        """
        stamps = prompt_files.stamped(self._prompts, self.path)
        index = self._cache.problem()
        headers = self._cache.headers(stamps)
        vectors = {name: self._cache.vectors(name, stamps) for name in summaries or {}}
        entries = [entry for entry in self._refreshed(keep=False).values() if isinstance(entry, Entry)]
        usual = self.usual()
        problems = [index] if index else []
        problems += [self._differs(digest) for kept in (headers, *vectors.values()) for digest in kept.damaged]
        for stem in sorted(stamps):
            try:
                prompt = self._load(stem)
                described = kept_text(header(self._file(stem), self.path)).encode()
            except PromptError as error:
                problems.append(str(error))
                continue
            if prompt.digest != stem:
                problems.append(prompt_files.misnamed(self._file(stem), prompt.digest))
            problems += [f"{self._file(stem)}: {reason}" for reason in objections(prompt, usual)]
            if headers.values.get(stem, described) != described or any(
                not _is_summary(kept.values[stem], prompt, summarise)
                for name, summarise in (summaries or {}).items()
                if stem in (kept := vectors[name]).values
            ):
                problems.append(self._differs(stem))
        for path, inside in ((self._transfers, self.path), (history.user_history(), None)):
            problems += history.problems(path, entries, inside)
        return problems

    def _differs(self, digest: str) -> str:
        """The problem of an index that says something else of a prompt than its file."""
        return (
            f"{self._cache.path}: what the index says of the prompt {digest} is damaged or not what the file says. "
            f"`spot library reindex --library {self.path}` makes it anew."
        )

    def summaries(self, name: str, entries: Sequence[Entry], compute: Summarise) -> np.ndarray:
        """One vector a prompt, computed from its file once and then read from the cache.

        Args:
            name: what is computed.
            entries: prompts of this library, of one width.
            compute: from a prompt to float32 [D].

        Returns:
            float32 [N, D], in the order of the entries: finite numbers, in no row all zeros.

        Raises:
            LibraryError, PromptError: a prompt cannot be read; whatever `compute` raises.
        """
        if not entries:
            return np.zeros((0, 0), "<f4")
        if self._files is None:
            self._refreshed()
        vectors = dict(self._cache.vectors(name, self._stamps).values)
        size = 4 * entries[0].backbone.width
        missing = [entry for entry in entries if len(vectors.get(entry.digest, b"")) != size]
        computed = {
            entry.digest: np.asarray(compute(self.get(entry.digest)), dtype="<f4").tobytes() for entry in missing
        }
        here = {digest: vector for digest, vector in computed.items() if digest in self._stamps}
        self._cache.keep_vectors(name, self._stamps, here)
        vectors.update(computed)
        rows = np.frombuffer(b"".join(vectors[entry.digest] for entry in entries), dtype="<f4")
        return rows.reshape(len(entries), -1)

    def record_transfers(self, records: Sequence[TransferRecord]) -> bool:
        """Append what transfers came to, each once if it has an `id`: what later choices of a source can learn from.

        Args:
            records: gains of sources on targets.

        Returns:
            False where the library cannot be written, so that nothing was recorded.

        Raises:
            LibraryError: a field of a record holds something else than it should, or another writer is at work.
            StorageError: the disk is full; the records before are intact.
        """
        if self.read_only or not os.access(self.path, os.W_OK):
            return False
        with self._writing():
            history.append(self._transfers, records, self.path)
        return True

    def transfers(self) -> list[TransferRecord]:
        """The recorded transfers, oldest first.

        Raises:
            LibraryError: a line is no record, or holds a summary of another width than its source.
        """
        return history.read(self._transfers, self.entries(), self.path)

    def _upgrade(self, backbone: BackboneId) -> None:
        """Give each prompt of a model the fingerprint that the model has today; the old files go last."""
        renamed = {}
        for entry in self.entries(backbone):
            if entry.backbone.fingerprint != backbone.fingerprint:
                prompt = self.get(entry.digest)
                prompt = replace(prompt, backbone=replace(prompt.backbone, fingerprint=backbone.fingerprint))
                save(prompt, self._file(prompt.digest), self.path)
                renamed[entry.digest] = prompt.digest
        history.rename_sources(self._transfers, renamed, self.path)
        for digest in renamed:
            prompt_files.remove(self._file(digest), self.path)

    def _describe(self) -> None:
        """Bring the card up to date. One that somebody wrote stays; without one a library is none the worse."""
        path = self.path / README
        try:
            present = read_bounded(path, _LARGEST_CARD, self.path)
            if present is None or may_replace(present):
                card = library_card(self.entries())
                if card != present:
                    write_whole(path, card, self.path)
        except StorageError as error:
            log.warning("the card of the library is not up to date: %s", error)

    @property
    def _transfers(self) -> Path:
        return self.path / "transfers.jsonl"

    def _file(self, digest: str) -> Path:
        return self._prompts / f"{digest}{prompt_files.SUFFIX}"

    def _load(self, digest: str) -> SoftPrompt:
        """A prompt from its file, whatever its digest is."""
        return load(self._file(digest), self.path)

    def _is_intact(self, digest: str) -> bool:
        """Whether the file of a prompt is there and holds it, every byte of it."""
        try:
            return self._load(digest).digest == digest
        except PromptError:
            return False

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Hold the library for writing.

        Raises:
            LibraryError: it is read-only, or another writer holds it.
        """
        if self.read_only:
            what = "ships with spot" if self.path == packaged() else "is the copy of a shared library"
            raise LibraryError(
                f"{self.path} {what} and is not changed. Make a library of your own: "
                "`spot library add PROMPT --library DIR`."
            )
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(lock(self._prompts, self.path))
                remove_leftovers(self._prompts, self.path)
            except StorageError as error:
                raise LibraryError(f"cannot change the library: {error}") from error
            yield

    def _resolve(self, reference: str) -> str:
        """The digest that a reference means."""
        if self._files and reference in self._files:  # the folder is not listed for every prompt of a long loop
            return reference
        files = self._refreshed()
        if reference in files:
            return reference
        entries = [entry for entry in files.values() if isinstance(entry, Entry)]
        digests = [entry.digest for entry in entries if entry.task == reference]
        digests = digests or [stem for stem in files if reference and stem.startswith(reference)]
        if len(digests) == 1:
            return digests[0]
        if digests:
            raise LibraryError(
                f"{len(digests)} prompts in {self.path} are called {reference!r}: {', '.join(sorted(digests)[:8])}"
                f"{', ...' if len(digests) > 8 else ''}. Name one by its digest."
            )
        hint = did_you_mean(reference, {entry.task for entry in entries})
        if len(hint) > _LONGEST_HINT:
            hint = f"`spot library list --library {self.path}` shows its {len(entries)} prompts"
        raise LibraryError(f"no prompt in {self.path} is called {reference!r}: {hint}")

    def _refreshed(self, again: Collection[str] = (), keep: bool = True) -> dict[str, Entry | str]:
        """What each prompt file holds, or what is wrong with it, brought up to date with the folder.

        A file that is as it was read is not read again; one with a problem is.

        Args:
            again: names of files to read in any case.
            keep: what is read, in the cache.
        """
        stamps = prompt_files.stamped(self._prompts, self.path)
        if self._files is None:
            self._files = self._cached(stamps)
            self._stamps = {stem: stamps[stem] for stem in self._files}
        files, known = self._files, self._stamps
        gone = files.keys() - stamps.keys()
        for stem in gone:
            del files[stem]
        fresh: dict[str, str] = {}
        for stem, stamp in stamps.items():
            if known.get(stem) == stamp and isinstance(files.get(stem), Entry) and stem not in again:
                continue
            try:
                files[stem], fresh[stem] = prompt_files.described(self._file(stem), self.path)
            except PromptError as error:
                if files.get(stem) != str(error):
                    log.warning("left out of the library %s: %s", self.path, error)
                files[stem] = str(error)
        self._stamps = stamps
        if keep:
            self._cache.update(stamps, gone, fresh)
        return files

    def _cached(self, stamps: Mapping[str, str]) -> dict[str, Entry | str]:
        """The entries in the cache; those that cannot be used are left out and read again from their files."""
        entries: dict[str, Entry | str] = {}
        for digest, content in self._cache.headers(stamps).values.items():
            with contextlib.suppress(PromptError):
                entries[digest] = entry_of(self._file(digest), content)
        return entries


def packaged() -> Path:
    """The folder of the library that ships in the package."""
    return Path(str(resources.files("spot") / "packaged"))


def open_library(spec: Path | str) -> Library:
    """Open a library.

    Args:
        spec: a folder; the word `packaged` for the library that ships with spot; or the address of a shared library,
            such as `hf://OWNER/REPO`, of which a copy in the user's cache is brought up to date. Neither of these two
            is ever changed. An address that stands in a file is not to be opened: only what a user gives.

    Raises:
        LibraryError: there is none.
        SharingError, Unreachable, MissingExtra: the address cannot be read.
    """
    if is_address(spec):
        return Library(local_copy(str(spec)), read_only=True)
    if str(spec) != PACKAGED:
        return Library(spec)
    if not (packaged() / "prompts").is_dir():
        raise LibraryError(
            f"this installation of spot has no packaged library ({packaged()}). Install spot from a wheel, or name the "
            "folder of a library."
        )
    return Library(packaged(), read_only=True)


def resolve(name: str) -> SoftPrompt:
    """The prompt that a name stands for: a file, the folder of a run, `packaged:TASK` or `packaged:DIGEST`.

    Raises:
        PromptError, LibraryError: there is no such prompt, or it is damaged.
    """
    if name.startswith(f"{PACKAGED}:"):
        return open_library(PACKAGED).get(name.removeprefix(f"{PACKAGED}:"))
    path = user_path(name)
    try:
        return load(path / PROMPT_FILE, path) if is_folder(path) else load(path)
    except StorageError as error:
        raise PromptError(str(error)) from error


def _is_summary(vector: bytes, prompt: SoftPrompt, compute: Summarise) -> bool:
    """Whether a vector from the index is what is computed from the prompt; machines differ in the last digits."""
    try:
        expected = np.asarray(compute(prompt), dtype="<f4")
    except PromptError:
        return False
    kept = np.frombuffer(vector, "<f4") if len(vector) == expected.nbytes else None
    return kept is not None and bool(np.allclose(kept, expected, rtol=1e-4, atol=1e-6))
