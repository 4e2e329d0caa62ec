"""Soft prompts and their file, one self-describing `.safetensors` that never holds pickled code.

The file is written here byte by byte, so that equal prompts give equal files with any version of safetensors.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property, lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field, with_config
from safetensors import SafetensorError, deserialize

from spot.config import TuneConfig, make_config
from spot.errors import ConfigError, PromptError, SharingError, SpotError, StorageError, TaskError
from spot.prompts.card import README, may_replace, prompt_card
from spot.prompts.overlap import Sketch
from spot.reading import Reading, past_reading
from spot.remote.address import is_address, parse
from spot.remote.hub import client, download, hub_store, make_repository
from spot.remote.store import Raced
from spot.storage.files import write_whole
from spot.storage.opening import check_size, is_folder, open_regular, read_bounded, user_path
from spot.storage.strict_json import read_json, read_object
from spot.storage.values import STRICT, check_value, plain

PROMPT_FILE = "prompt.safetensors"  # in the folder of a run, and in a repository of one prompt
FORMATS = (1, 2)  # the first says nothing of how rows are read
_ARRAYS = ("key", "start", "value")  # float32 [P, D]
_DTYPES = {"F32": "<f4", "U8": "<u1"}
_HEADER_LIMIT = 4_000_000  # bytes; a longer header is damage, not content
_CARD_LIMIT = 4_000_000  # bytes
_FILE_LIMIT = 1_000_000_000  # bytes: three arrays of 5,000 tokens of the widest models, and a sketch

Count = Annotated[int, Field(ge=0, le=2**31)]
Share = Annotated[float, Field(ge=-1e6, le=1e6)]
Percent = Annotated[float, Field(ge=-100.001, le=100.001)]  # a sum of floats passes 100 by a hair


@with_config(STRICT)
@dataclass(frozen=True)
class BackboneId:
    """Which frozen model a prompt belongs to."""

    name: str  # hub id, or `embedded`; never a local path
    kind: Annotated[str, Field(pattern="^(causal|seq2seq)$")]
    width: Annotated[Count, Field(ge=1)]  # D, the size of one embedding
    vocabulary: Count  # V, the rows of the embedding
    fingerprint: str  # hash of the checkpoint's files
    # Of the same files as older versions took it; known of a model at hand alone, and of no length in a file.
    formerly: Annotated[str, Field(max_length=0)] = field(default="", compare=False, repr=False)

    def __str__(self) -> str:
        """One line for messages."""
        size = f"width {self.width}, vocabulary {self.vocabulary}"
        return f"{self.name} ({self.kind}, {size}, fingerprint {self.fingerprint})"

    def is_same_model(self, other: "BackboneId") -> bool:
        """Whether two ids mean one frozen model: names may differ; kind, sizes and fingerprint may not.

        An id with a fingerprint of older versions means a model at hand whose files have that one too.
        """
        if replace(self, name=other.name, fingerprint=other.fingerprint) != other:
            return False
        if self.fingerprint == other.fingerprint:
            return True
        return (self.formerly or None) == other.fingerprint or (other.formerly or None) == self.fingerprint

    def to_json(self) -> dict[str, Any]:
        """What files say of it."""
        return {name: value for name, value in asdict(self).items() if name != "formerly"}


@with_config(STRICT)
@dataclass(frozen=True)
class KeyRecipe:
    """How a prompt's key was trained and at which step it was taken; keys of one recipe can be compared.

    The bounds of its numbers are those of `TuneConfig`. Files leave out what has a default here. A rate that falls does
    so over `decay_steps`, so that a run that ends at the key step has the key of a longer one.
    """

    step: int
    length: int
    init: str
    init_seed: int
    optimiser: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    max_input_tokens: int
    reparameterise: str = TuneConfig.model_fields["reparameterise"].default
    bottleneck: int = TuneConfig.model_fields["bottleneck"].default
    network_learning_rate: float = TuneConfig.model_fields["network_learning_rate"].default
    warmup_steps: int = TuneConfig.model_fields["warmup_steps"].default
    decay: str = TuneConfig.model_fields["decay"].default
    decay_steps: int | None = TuneConfig.model_fields["decay_steps"].default

    def to_json(self) -> dict[str, Any]:
        """What files say of it."""
        return {entry.name: value for entry in fields(self) if (value := getattr(self, entry.name)) != entry.default}


@with_config(STRICT)
@dataclass(frozen=True)
class Parent:
    """A prompt that an initial value was made from, and its share of it (1.0 for a single parent)."""

    digest: str
    weight: Share


@with_config(STRICT)
@dataclass(frozen=True)
class _StoredSketch:
    """What a header says of a sketch beside its bits."""

    hashes: Annotated[int, Field(ge=1, le=16)]


@with_config(STRICT)
@dataclass(frozen=True)
class _StoredArray:
    """Where one array stands in a file of safetensors."""

    dtype: str
    shape: tuple[Count, ...]
    data_offsets: tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


@with_config(STRICT)
@dataclass(frozen=True)
class _Header:
    """What a prompt file says of itself, for what reads and for what writes it; fields are those of `SoftPrompt`."""

    format: int
    arrays: str
    backbone: BackboneId
    task: str
    step: Count
    sketch: _StoredSketch | None = None
    task_revision: str = ""
    seed: int | None = None
    initialiser: str = ""
    parents: tuple[Parent, ...] = ()
    key_recipe: KeyRecipe | None = None
    config: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Percent] = field(default_factory=dict)
    frozen_scores: Mapping[str, Percent] = field(default_factory=dict)
    data_digest: str = ""
    code_version: str = ""
    reading: Reading | None = None


@dataclass(frozen=True, eq=False)
class SoftPrompt:
    """A trained prompt with everything that its users must know. Compare prompts by `digest`."""

    value: np.ndarray  # float32 [P, D], the best checkpoint
    backbone: BackboneId  # the frozen model that it belongs to
    task: str
    step: int  # of `value`
    key: np.ndarray | None = None  # float32 [P, D] at the key step
    start: np.ndarray | None = None  # float32 [P, D], the initial value; None where unknown
    sketch: Sketch | None = None  # the texts that it was trained on; None where unknown
    task_revision: str = ""
    seed: int | None = None
    initialiser: str = ""  # kind of initial value
    parents: tuple[Parent, ...] = ()  # the prompts that the initial value was made from
    key_recipe: KeyRecipe | None = None
    config: Mapping[str, Any] = field(default_factory=dict)  # of the run, resolved; JSON values
    scores: Mapping[str, float] = field(default_factory=dict)  # metric -> percent, on report rows if there are any
    frozen_scores: Mapping[str, float] = field(default_factory=dict)  # the same without a prompt
    data_digest: str = ""  # of the training rows
    code_version: str = ""
    reading: Reading | None = None  # how rows become text; None where the file does not say: `reading_of` knows then

    def __post_init__(self) -> None:
        """Check the arrays, take read-only copies, bring the mappings to plain JSON values.

        Raises:
            PromptError: an array has a wrong shape or holds NaN or infinity, or a mapping is not JSON.
        """
        shape = np.shape(self.value)
        if len(shape) != 2 or 0 in shape or shape[1] != self.backbone.width:
            raise PromptError(
                f"the prompt of task {self.task!r} has value {list(shape)}; "
                f"expected [P, {self.backbone.width}], P tokens of the width of {self.backbone.name}."
            )
        for name in _ARRAYS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _checked_array(self, name, shape))
        for name in ("scores", "frozen_scores"):
            floats = {metric: float(percent) for metric, percent in getattr(self, name).items()}
            object.__setattr__(self, name, _plain(floats, name))
        object.__setattr__(self, "config", _plain(dict(self.config), "config"))
        object.__setattr__(self, "parents", tuple(self.parents))
        recipe = {} if self.key_recipe is None else asdict(self.key_recipe)
        _plain({"parents": [asdict(parent) for parent in self.parents], **recipe}, "parents and key recipe")
        text, place = _spelled(self, arrays=""), f"the prompt of task {self.task!r} cannot be kept"
        _check_header(text, place, PromptError)
        read_json(text, place, PromptError, most_bytes=_HEADER_LIMIT)

    @property
    def format(self) -> int:
        """The format of its file: 2 where the file says how rows are read, else 1."""
        return FORMATS[self.reading is not None]

    @property
    def length(self) -> int:
        """P, prompt tokens."""
        return self.value.shape[0]

    @property
    def width(self) -> int:
        """D, the size of one embedding."""
        return self.value.shape[1]

    def save(self, path: Path | str, *, card: bool = False) -> Path:
        """Write the prompt's file, whole or not at all; equal prompts give equal bytes.

        Args:
            path: the file.
            card: write a model card beside it, of the same name and with the ending `.md`.

        Returns:
            The path.

        Raises:
            StorageError: the file cannot be written; an old file of that name is intact.
        """
        save(self, path)
        if card:
            write_card(self, path)
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> "SoftPrompt":
        """Read a prompt file and check every byte of it.

        Raises:
            PromptError: the file is missing, empty, damaged, a pickle, not ours or of a newer format.
        """
        return load(path)

    @classmethod
    def from_pretrained(
        cls,
        repo_id_or_folder: Path | str,
        *,
        filename: str = PROMPT_FILE,
        revision: str | None = None,
        token: str | bool | None = None,
        local_files_only: bool = False,
    ) -> "SoftPrompt":
        """Read a prompt from a repository of the Hugging Face hub or from a folder, checking every byte.

        Args:
            repo_id_or_folder: `OWNER/REPO`, or a folder such as that of a run.
            filename: of the prompt in it; of a shared library `prompts/DIGEST.safetensors`.
            revision: a branch, a tag or a commit.
            token: of the hub; left out: the one that is logged in.
            local_files_only: ask nothing of the network: only what the hub's cache has.

        Raises:
            PromptError: there is no such file, or it is damaged or no prompt.
            SharingError, Unreachable: there is no such repository, no right to it, or nothing answers.
            MissingExtra: huggingface_hub is not installed.
        """
        name = str(repo_id_or_folder)
        try:
            folder = user_path(name)
            if not is_address(name) and is_folder(folder):
                return load(folder / filename)
        except StorageError as error:
            raise PromptError(str(error)) from error
        address = parse(f"hf://{name.removeprefix('hf://')}{f'@{revision}' if revision else ''}")
        path = download(client(address, token), address, filename, local_files_only)
        if path is None:
            raise PromptError(f"{address} has no file {filename!r}: it holds no prompt, or one of another name.")
        return load(path)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        commit_message: str | None = None,
        private: bool | None = None,
        token: str | bool | None = None,
        revision: str | None = None,
        licence: str | None = None,
    ) -> str:
        """Bring the prompt and a model card to a repository of the Hugging Face hub, which is made where it is missing.

        A card that somebody wrote stays as it is.

        Args:
            repo_id: `OWNER/REPO`.
            commit_message: of the commit.
            private: make a missing repository for its owners' eyes alone.
            token: of the hub; left out: the one that is logged in.
            revision: the branch.
            licence: of the prompt, for the card, as its owner states it.

        Returns:
            The commit.

        Raises:
            SharingError, Unreachable: it cannot be written.
            MissingExtra: huggingface_hub is not installed.
        """
        address = parse(f"hf://{repo_id.removeprefix('hf://')}{f'@{revision}' if revision else ''}")
        api = client(address, token)
        make_repository(api, address, private)
        content = to_bytes(self)
        files = {PROMPT_FILE: content}
        store = hub_store(address, api)
        present = store.read(README, _CARD_LIMIT)
        if present is None or may_replace(present):
            described = described_by(content, self.task)
            files[README] = prompt_card(described, PROMPT_FILE, address.path, licence).encode()
        try:
            store.write(files, commit_message or f"Add a soft prompt for {self.task}")
        except Raced as error:
            raise SharingError(f"{address}: somebody else wrote there at the same moment. Push again.") from error
        return store.head

    @cached_property
    def digest(self) -> str:
        """16 hex digits over every array and every field: two prompts of one digest are the same prompt."""
        return _checksum(_header_text(self))[:16]


def reading_of(prompt: SoftPrompt) -> Reading:
    """How the rows that a prompt answers become text, spelled out for its model.

    A prompt whose file does not say so, as one of format 1, was trained with the defaults and the settings of its run.

    Raises:
        PromptError: the settings of such a prompt are none.
    """
    try:
        reading = prompt.reading if prompt.reading is not None else past_reading(prompt.task, prompt.config)
        reading.check_answers()
    except TaskError as error:
        raise PromptError(f"the prompt of task {prompt.task!r} cannot be read by: {error}") from error
    return reading.for_kind(prompt.backbone.kind)


def save(prompt: SoftPrompt, path: Path | str, inside: Path | str | None = None) -> None:
    """Write a prompt file, whole or not at all; equal prompts give equal bytes.

    Args:
        prompt: what to write.
        path: the file.
        inside: the folder, maybe a stranger's, that it belongs to: no link below it is followed.

    Raises:
        StorageError: the file cannot be written; an old file of that name is intact.
    """
    write_whole(path, to_bytes(prompt), inside)


def write_card(prompt: SoftPrompt, path: Path | str) -> None:
    """Write the model card of a prompt beside its file; equal prompts give equal bytes.

    A page of that name that was not made here stays as it is.

    Args:
        prompt: what it is about.
        path: of the prompt's file; the card has the ending `.md` instead.

    Raises:
        StorageError: it cannot be written.
    """
    path = Path(path)
    card = path.with_suffix(".md")
    present = read_bounded(card, _CARD_LIMIT, path.parent)
    if present is None or may_replace(present):
        write_whole(card, prompt_card(described_by(to_bytes(prompt), prompt.task), path.name).encode())


def load(path: Path | str, inside: Path | str | None = None) -> SoftPrompt:
    """Read a prompt file and check every byte of it.

    Args:
        path: the file.
        inside: the folder, maybe a stranger's, that it belongs to: no link below it is followed.

    Raises:
        PromptError: the file is missing, empty, damaged, a pickle, not ours or of a newer format, or no regular file.
    """
    return from_bytes(_read(Path(path), inside), origin=str(path))


def header(path: Path | str, inside: Path | str | None = None) -> dict[str, Any]:
    """What a prompt file says of itself, checked; its arrays are neither read nor checked.

    Args:
        path: the file.
        inside: as for `load`.

    Returns:
        Every field of `SoftPrompt` but the arrays, as JSON values, and `format`, `digest`, `length`, `width`,
        `arrays` (names of the stored ones).

    Raises:
        PromptError: as `load`, for everything that can be seen without the arrays.
    """
    return described_by(_read(Path(path), inside, arrays=False), str(path))


def described_by(data: bytes, origin: str) -> dict[str, Any]:
    """What the content of a prompt file, or of its beginning, says of itself; as `header`.

    Raises:
        PromptError: as `header`.
    """
    stored = _stored_header(data, origin)
    content, digest, arrays = _our_header(stored, origin)
    known = (entry for entry in fields(SoftPrompt) if entry.name not in (*_ARRAYS, "sketch"))
    result = {entry.name: content.get(entry.name, _default(entry)) for entry in known}
    try:
        if content["format"] > 1:
            result["reading"] = plain(_reading(content))
        (length, width), (begin, end) = arrays["value"].shape, arrays["value"].data_offsets
        if width != content["backbone"]["width"] or not length or end - begin != 4 * length * width:
            raise ValueError(f"value is {[length, width]}")
    except PromptError as error:
        raise PromptError(f"{origin}: {error}") from error
    except (KeyError, ValueError) as error:
        raise _damaged(origin, error) from error
    sizes = {"length": length, "width": width, "arrays": sorted(arrays)}
    return {**result, "format": content["format"], "digest": digest, **sizes}


def to_bytes(prompt: SoftPrompt) -> bytes:
    """The content of the prompt file; equal prompts give equal bytes."""
    tensors = _tensors(prompt)
    text = _header_text(prompt)
    stored: dict[str, Any] = {"__metadata__": {"checksum": _checksum(text), "spot": text}}
    offset = 0
    for name, array in tensors.items():
        dtype = "U8" if name == "sketch" else "F32"
        place = [offset, offset + array.nbytes]
        stored[name] = {"dtype": dtype, "shape": list(array.shape), "data_offsets": place}
        offset += array.nbytes
    head = json.dumps(stored, separators=(",", ":")).encode("ascii")
    head += b" " * (-len(head) % 8)
    return b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in tensors.values())])


def from_bytes(data: bytes, origin: str = "prompt") -> SoftPrompt:
    """Read the content of a prompt file; `origin` names it in messages.

    Raises:
        PromptError: as `load`.
    """
    stored = _stored_header(data, origin)
    try:
        entries = deserialize(data)
    except SafetensorError as error:
        raise _damaged(origin, error) from error
    content, _, _ = _our_header(stored, origin)
    try:
        tensors = {
            name: np.frombuffer(entry["data"], _DTYPES[entry["dtype"]]).reshape(entry["shape"])
            for name, entry in entries
        }
        if _arrays_checksum(tensors) != content["arrays"]:
            raise ValueError("the arrays do not match their checksum")
        return _assemble(content, tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(origin, error) from error
    except PromptError as error:
        raise PromptError(f"{origin}: {error}") from error


def check_fits(prompt: SoftPrompt, backbone: BackboneId) -> None:
    """Refuse a prompt of another frozen model.

    Raises:
        PromptError: naming both models.
    """
    if not prompt.backbone.is_same_model(backbone):
        raise PromptError(
            f"the prompt of task {prompt.task!r} belongs to the backbone {prompt.backbone}, but the backbone "
            f"at hand is {backbone}. Load {prompt.backbone.name}, or tune a prompt for {backbone.name}."
        )


@lru_cache(maxsize=1024)
def check_recipe(recipe: KeyRecipe) -> None:
    """Refuse a recipe that no run can follow. Its start may be a prompt that is not here.

    Raises:
        PromptError: naming each wrong setting.
    """
    settings = {name: value for name, value in asdict(recipe).items() if name not in ("step", "init")}
    try:
        make_config(TuneConfig, {**settings, "task": "any", "steps": recipe.step, "key_step": recipe.step})
    except ConfigError as error:
        raise PromptError(f"the key recipe of a prompt cannot be followed: {error}") from error
    if not recipe.init:
        raise PromptError("the key recipe of a prompt cannot be followed: init is empty; expected how a prompt starts.")


def _checked_array(prompt: SoftPrompt, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A read-only float32 copy of one array of a prompt, which must be [P, D] and finite."""
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is refused below
        array = np.array(getattr(prompt, name), dtype="<f4", order="C")
    subject = f"the prompt of task {prompt.task!r} has {name}"
    if array.shape != shape:
        raise PromptError(f"{subject} {list(array.shape)}; expected {list(shape)}, as value.")
    wrong = int(np.count_nonzero(~np.isfinite(array)))
    if wrong:
        raise PromptError(
            f"{subject} with {wrong} of {array.size} numbers NaN or infinite; expected finite numbers. "
            "Tune it again with a lower learning rate."
        )
    array.flags.writeable = False
    return array


def _plain(content: dict[str, Any], name: str) -> dict[str, Any]:
    """The same mapping as it comes back from a file."""
    try:
        return json.loads(_canonical(content))
    except (TypeError, ValueError) as error:
        raise PromptError(f"{name} of a prompt must hold JSON values and finite numbers: {error}.") from error


def _canonical(content: Any) -> str:
    """JSON with one spelling for one content."""
    return json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _default(entry: Any) -> Any:
    """The value of a dataclass field that a file leaves out, as JSON."""
    value = entry.default if entry.default_factory is MISSING else entry.default_factory()
    return [] if value == () else value


def _header_text(prompt: SoftPrompt) -> str:
    """The canonical header of a prompt."""
    return _spelled(prompt, _arrays_checksum(_tensors(prompt)))


def _spelled(prompt: SoftPrompt, arrays: str) -> str:
    """The canonical header. Defaults are left out, so that new fields keep the digests of old prompts."""
    content: dict[str, Any] = {"format": prompt.format, "arrays": arrays}
    for entry in fields(prompt):
        value = getattr(prompt, entry.name)
        if entry.name in _ARRAYS or value is None:
            continue
        if entry.name == "sketch":
            value = {"hashes": value.hashes}
        elif entry.name == "parents":
            value = [asdict(parent) for parent in value]
        elif isinstance(value, Reading):
            value = {part.name: got for part in fields(value) if (got := getattr(value, part.name)) != part.default}
        elif isinstance(value, BackboneId | KeyRecipe):
            value = value.to_json()
        if value != _default(entry):
            content[entry.name] = value
    return _canonical(content)


def _check_header(text: str, place: str, error: type[SpotError]) -> None:
    """Refuse a header with a wrong field; `read_json` has seen it.

    Raises:
        SpotError: of the kind `error`, naming each wrong field.
    """
    try:
        checked = check_value(_Header, text, place, error, most_bytes=_HEADER_LIMIT)
    except TaskError as failure:
        raise error(f"{place}: {failure}") from failure
    try:
        if checked.key_recipe is not None:
            check_recipe(checked.key_recipe)
        if checked.reading is None:
            past_reading(checked.task, checked.config)
    except (TaskError, PromptError) as failure:
        raise error(f"{place}: {failure}") from failure


def _tensors(prompt: SoftPrompt) -> dict[str, np.ndarray]:
    """The arrays in their order in the file: float32 before uint8, so that each is aligned."""
    arrays = {name: array for name in _ARRAYS if (array := getattr(prompt, name)) is not None}
    return arrays if prompt.sketch is None else {**arrays, "sketch": prompt.sketch.bits}


def _checksum(text: str) -> str:
    """SHA-256 over the header as it is spelled in the file, which holds that over the arrays."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _arrays_checksum(tensors: Mapping[str, np.ndarray]) -> str:
    """SHA-256 over every array with its name and shape."""
    total = sha256()
    for name, array in sorted(tensors.items()):
        total.update(f"\0{name} {array.dtype.str} {list(array.shape)}\0".encode("utf-8", "surrogatepass"))
        total.update(array.tobytes())
    return total.hexdigest()


def _damaged(origin: str, reason: object) -> PromptError:
    """The error for a file that is no longer, or never was, a whole prompt file."""
    return PromptError(
        f"{origin}: this prompt file is cut short, damaged or something else ({reason}); expected a "
        ".safetensors file as spot wrote it. Restore it from a copy, or tune the prompt again."
    )


def _read(path: Path, inside: Path | str | None, arrays: bool = True) -> bytes:
    """The bytes of a prompt file, or only those up to the end of its header."""
    try:
        with open_regular(path, inside) as file:
            check_size(path, file, _FILE_LIMIT)
            length = file.read(8)
            head = length + file.read(min(int.from_bytes(length, "little"), _HEADER_LIMIT))
            if not arrays:
                return head
            # What the header does not speak of is not read: a file may be cut, or as long as a disk.
            return head + file.read(_announced(_stored_header(head, str(path))) + 1)
    except StorageError as error:
        raise PromptError(f"{error} It was to be a prompt file.") from error
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise PromptError(f"cannot read the prompt file {path}: {reason}. Check the path.") from error


def _stored_header(data: bytes, origin: str) -> dict[str, Any]:
    """The JSON at the head of a safetensors file, after turning away everything that is something else."""
    if not data:
        raise PromptError(f"{origin}: the file is empty; expected a prompt file. Tune the prompt again.")
    # A safetensors length may begin with the first two bytes of a pickle; what follows is then zeros.
    pickle = data[:1] == b"\x80" and data[1:2] in b"\x02\x03\x04\x05" and any(data[2:8])
    if data[8:9] != b"{" and (pickle or data[:4] == b"PK\x03\x04"):
        raise PromptError(
            f"{origin}: this is a pickle (a torch .pt or .bin file); reading one can run code, so spot never "
            "does. Save the prompt as .safetensors or .npy and bring it in with `spot import`."
        )
    if data[:6] == b"\x93NUMPY":
        raise PromptError(f"{origin}: this is a numpy file, not a prompt file; bring it in with `spot import`.")
    size = int.from_bytes(data[:8], "little")
    held = max(0, len(data) - 8)
    if size > min(held, _HEADER_LIMIT):
        raise _damaged(origin, f"a header of {size:,} bytes is announced, the file holds {held:,}")
    try:
        return read_object(data[8 : 8 + size], "its header")
    except StorageError as error:
        raise _damaged(origin, error) from error


def _announced(stored: Mapping[str, Any]) -> int:
    """How many bytes of arrays a header speaks of, at most those of the largest file; what is no array has none."""
    places = [value.get("data_offsets") for value in stored.values() if isinstance(value, dict)]
    ends = [place[1] for place in places if isinstance(place, list) and len(place) == 2]
    return min(max(end for end in (0, *ends) if type(end) is int), _FILE_LIMIT)


def _our_header(stored: Mapping[str, Any], origin: str) -> tuple[dict[str, Any], str, dict[str, _StoredArray]]:
    """Our own header within that of safetensors, checked against its checksum; the prompt's digest; its arrays."""
    metadata = stored.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("spot"), str):
        raise PromptError(
            f"{origin}: this safetensors file was not written by spot (no `spot` entry in its metadata); "
            "bring a prompt of another program in with `spot import`."
        )
    text = metadata["spot"]
    try:
        content: dict[str, Any] = dict(read_object(text, "its header", most_bytes=_HEADER_LIMIT))
    except StorageError as error:
        raise _damaged(origin, error) from error
    version = content.get("format")
    if version is not None and (type(version) is not int or version not in FORMATS):
        raise PromptError(
            f"{origin}: this prompt file has format {version!r:.80}, and this version of spot reads formats "
            f"{' and '.join(map(str, FORMATS))}: upgrade spot."
        )
    if metadata.get("checksum") != (checksum := _checksum(text)):
        raise _damaged(origin, "the header does not match its checksum")
    try:
        _check_header(text, "its header", PromptError)
        if (content["format"] > 1) != ("reading" in content):
            raise PromptError("a file of format 1 has no reading settings, and one of format 2 has some")
        arrays = {name: value for name, value in stored.items() if name != "__metadata__"}
        places = check_value(dict[str, _StoredArray], json.dumps(arrays), "its arrays", PromptError)
    except PromptError as error:
        raise _damaged(origin, error) from error
    return content, checksum[:16], places


def _assemble(content: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> SoftPrompt:
    """A prompt from its header and arrays, whose checksums are right."""
    values = {name: value for name, value in content.items() if name not in ("format", "arrays")}
    arrays = dict(tensors)
    for name, array in arrays.items():
        wanted = np.uint8 if name == "sketch" else np.float32
        if name not in (*_ARRAYS, "sketch") or array.dtype != wanted:
            raise ValueError(f"array {name!r} of {array.dtype} does not belong in a prompt file")
    if "sketch" in values or "sketch" in arrays:
        values["sketch"] = Sketch(bits=arrays.pop("sketch"), hashes=values["sketch"]["hashes"])
    values["backbone"] = BackboneId(**values["backbone"])
    if content["format"] > 1:
        values["reading"] = _reading(content)
    values["parents"] = tuple(Parent(**parent) for parent in values.get("parents", ()))
    if values.get("key_recipe") is not None:
        values["key_recipe"] = KeyRecipe(**values["key_recipe"])
    return SoftPrompt(**{**values, **arrays})


def _reading(content: Mapping[str, Any]) -> Reading:
    """The reading settings of a header, each field checked."""
    try:
        return check_value(Reading, json.dumps(content["reading"]), "reading settings", PromptError)
    except TaskError as error:
        raise PromptError(f"reading settings: {error}") from error
