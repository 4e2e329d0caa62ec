"""Soft prompts and their file, one self-describing `.safetensors` that never holds pickled code.

The file is written here byte by byte, so that equal prompts give equal files with any version of safetensors.
"""

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, deserialize

from spot.errors import PromptError, TaskError
from spot.prompts.overlap import Sketch
from spot.reading import Reading, past_reading
from spot.storage.files import write_whole
from spot.storage.values import plain, read_value

FORMATS = (1, 2)  # the first says nothing of how rows are read
_ARRAYS = ("key", "start", "value")  # float32 [P, D]
_DTYPES = {"F32": "<f4", "U8": "<u1"}
_SCALARS = (str, int, int | float, int | None)  # the field types that a file is checked for
_HEADER_LIMIT = 50_000_000  # bytes; a longer header is damage, not content


@dataclass(frozen=True)
class BackboneId:
    """Which frozen model a prompt belongs to."""

    name: str  # hub id, or `embedded`; never a local path
    kind: str  # `causal` or `seq2seq`
    width: int  # D, the size of one embedding
    vocabulary: int  # V, the rows of the embedding
    fingerprint: str  # hash of the checkpoint's files
    # Of the same files as older versions took it; known of a model at hand alone, and in no file.
    formerly: str = field(default="", compare=False, repr=False)

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


@dataclass(frozen=True)
class KeyRecipe:
    """How a prompt's key was trained and at which step it was taken; keys of one recipe can be compared."""

    step: int
    length: int
    init: str
    init_seed: int
    optimiser: str
    learning_rate: float
    weight_decay: float
    batch_size: int
    max_input_tokens: int


@dataclass(frozen=True)
class Parent:
    """A prompt that an initial value was made from, and its share of it (1.0 for a single parent)."""

    digest: str
    weight: float


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

    def save(self, path: Path | str) -> Path:
        """Write the prompt's file, whole or not at all; equal prompts give equal bytes.

        Returns:
            The path.

        Raises:
            StorageError: the file cannot be written; an old file of that name is intact.
        """
        save(self, path)
        return Path(path)

    @classmethod
    def load(cls, path: Path | str) -> "SoftPrompt":
        """Read a prompt file and check every byte of it.

        Raises:
            PromptError: the file is missing, empty, damaged, a pickle, not ours or of a newer format.
        """
        return load(path)

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


def save(prompt: SoftPrompt, path: Path | str) -> None:
    """Write a prompt file, whole or not at all; equal prompts give equal bytes.

    Raises:
        StorageError: the file cannot be written; an old file of that name is intact.
    """
    write_whole(path, to_bytes(prompt))


def load(path: Path | str) -> SoftPrompt:
    """Read a prompt file and check every byte of it.

    Raises:
        PromptError: the file is missing, empty, damaged, a pickle, not ours or of a newer format.
    """
    return from_bytes(_read(Path(path)), origin=str(path))


def header(path: Path | str) -> dict[str, Any]:
    """What a prompt file says of itself, checked; its arrays are neither read nor checked.

    Returns:
        Every field of `SoftPrompt` but the arrays, as JSON values, and `format`, `digest`, `length`, `width`,
        `arrays` (names of the stored ones).

    Raises:
        PromptError: as `load`, for everything that can be seen without the arrays.
    """
    origin = str(path)
    stored = _stored_header(_read(Path(path), arrays=False), origin)
    content, digest = _our_header(stored, origin)
    try:
        known = (entry for entry in fields(SoftPrompt) if entry.name not in (*_ARRAYS, "sketch"))
        result = {entry.name: content.get(entry.name, _default(entry)) for entry in known}
        result["backbone"] = _backbone(content["backbone"]).to_json()
        if content["format"] > 1:
            result["reading"] = plain(_reading(content))
        (length, width), (begin, end) = stored["value"]["shape"], stored["value"]["data_offsets"]
        if width != result["backbone"]["width"] or end - begin != 4 * length * width:
            raise ValueError(f"value is {[length, width]}")
        if MISSING in result.values():
            raise ValueError(f"only {', '.join(content)} are there")
    except PromptError as error:
        raise PromptError(f"{origin}: {error}") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _damaged(origin, error) from error
    arrays = sorted(name for name in stored if name != "__metadata__")
    sizes = {"length": length, "width": width, "arrays": arrays}
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
    content, _ = _our_header(stored, origin)
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
    """The canonical header. Defaults are left out, so that new fields keep the digests of old prompts."""
    content: dict[str, Any] = {"format": prompt.format, "arrays": _arrays_checksum(_tensors(prompt))}
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
        elif isinstance(value, BackboneId):
            value = value.to_json()
        elif isinstance(value, KeyRecipe):
            value = asdict(value)
        if value != _default(entry):
            content[entry.name] = value
    return _canonical(content)


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


def _read(path: Path, arrays: bool = True) -> bytes:
    """The bytes of a prompt file, or only those up to the end of its header."""
    try:
        with path.open("rb") as file:
            if arrays:
                return file.read()
            length = file.read(8)
            return length + file.read(min(int.from_bytes(length, "little"), _HEADER_LIMIT))
    except OSError as error:
        reason = error.strerror or str(error)
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
        return dict(json.loads(data[8 : 8 + size]))
    except (TypeError, ValueError, RecursionError) as error:
        raise _damaged(origin, error) from error


def _our_header(stored: Mapping[str, Any], origin: str) -> tuple[dict[str, Any], str]:
    """Our own header within that of safetensors, checked against its checksum, and the prompt's digest."""
    metadata = stored.get("__metadata__")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("spot"), str):
        raise PromptError(
            f"{origin}: this safetensors file was not written by spot (no `spot` entry in its metadata); "
            "bring a prompt of another program in with `spot import`."
        )
    try:
        content = json.loads(metadata["spot"])
        version = content["format"]
        intact = metadata["checksum"] == (checksum := _checksum(metadata["spot"]))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(origin, error) from error
    if isinstance(version, bool) or version not in FORMATS:
        raise PromptError(
            f"{origin}: this prompt file has format {version!r}, and this version of spot reads formats "
            f"{' and '.join(map(str, FORMATS))}: upgrade spot."
        )
    if not intact:
        raise _damaged(origin, "the header does not match its checksum")
    return content, checksum[:16]


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
    values["backbone"] = _backbone(values["backbone"])
    if content["format"] > 1:
        values["reading"] = _reading(content)
    elif "reading" in values:
        raise ValueError("a file of format 1 has no reading settings")
    values["parents"] = tuple(_record(Parent, parent) for parent in values.get("parents", ()))
    if "key_recipe" in values:
        values["key_recipe"] = _record(KeyRecipe, values["key_recipe"])
    return _record(SoftPrompt, {**values, **arrays})


def _reading(content: Mapping[str, Any]) -> Reading:
    """The reading settings of a header, each field checked."""
    try:
        return read_value(Reading, json.dumps(content["reading"]), "reading settings", PromptError)
    except TaskError as error:
        raise PromptError(f"reading settings: {error}") from error


def _backbone(content: Mapping[str, Any]) -> BackboneId:
    """The backbone of a header; what only a model at hand can say does not stand there."""
    if "formerly" in content:
        raise TypeError("the backbone has a field 'formerly', which no file has")
    return _record(BackboneId, content)


def _record(kind: type, content: Mapping[str, Any]) -> Any:
    """A record from a file, refusing text where a number belongs: a checksum only proves a file unchanged."""
    record = kind(**content)
    for entry in fields(kind):
        allowed: Any = int | float if entry.type is float else entry.type
        value = getattr(record, entry.name)
        if allowed in _SCALARS and (isinstance(value, bool) or not isinstance(value, allowed)):
            raise TypeError(f"{entry.name} is {value!r}, expected {allowed}")
    return record
