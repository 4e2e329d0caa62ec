"""Read what a GGUF file says of itself, within bounds: its kind of model, the words of its tokenizer, its tensors.

A file may come from a stranger and its readers believe every count in it. So nothing else opens a GGUF file before it
is walked here once, from front to end, and every length lies within the file.
"""

import mmap
import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

from spot.errors import BackboneError
from spot.models.weights import StoredTensor
from spot.storage.opening import open_regular

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ENDING = ".gguf"
MOST_FIELDS, MOST_TENSORS, MOST_DIMENSIONS = 10_000, 200_000, 4
MOST_WORDS = 4_000_000  # entries of a list; the largest vocabulary known has 262,144
MOST_TEXT = 16 * 2**20  # bytes of one text, such as a chat template
TOKENS, KIND_OF_WORDS, SPLIT = "tokenizer.ggml.tokens", "tokenizer.ggml.model", "tokenizer.ggml.pre"
_TEXT, _LIST = 8, 9
# Types of values of a fixed size: how Python unpacks them.
_NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


@dataclass(frozen=True)
class GgufHeader:
    """What stands before the numbers of a GGUF file.

    Attributes:
        architecture: such as `llama`, in the words of llama.cpp.
        values: key -> text or number; lists are left out.
        words: the vocabulary, by token id.
        tensors: none of them read; their type is that of their blocks, such as `Q4_K`.
    """

    architecture: str
    values: Mapping[str, Any] = field(repr=False)
    words: Sequence[str] = field(repr=False)
    tensors: Sequence[StoredTensor] = field(repr=False)

    @property
    def tokenizer(self) -> str:
        """The kind of its tokenizer, such as `gpt2` or `llama`; empty where it says none."""
        return str(self.values.get(KIND_OF_WORDS, ""))

    @property
    def bytes_whole(self) -> int:
        """How many bytes its numbers take as float32."""
        return 4 * sum(prod(tensor.shape) for tensor in self.tensors)


def is_gguf(path: Path) -> bool:
    """Whether a regular file begins as GGUF files do, or has their ending."""
    with suppress(OSError):
        if path.is_file():
            with path.open("rb") as file:
                return path.suffix == ENDING or file.read(len(MAGIC)) == MAGIC
    return False


def gguf_in(folder: Path) -> Path | None:
    """The only GGUF file of a folder, or None where it holds none.

    Raises:
        BackboneError: it holds several.
    """
    files = sorted(path for path in folder.glob(f"*{ENDING}") if path.is_file())
    if len(files) > 1:
        names = ", ".join(path.name for path in files[:5])
        raise BackboneError(
            f"{folder} holds {len(files)} GGUF files ({names}{', ...' if len(files) > 5 else ''}) and no safetensors; "
            f"expected one model. Give the path of one of them: --backbone {files[0]}"
        )
    return files[0] if files else None


def read_header(path: Path) -> GgufHeader:
    """Walk a GGUF file up to its numbers, and check that these are all there.

    Args:
        path: of the file.

    Raises:
        BackboneError: it is none, of another version, cut, one part of several, or claims more than any model has.
    """
    try:
        with open_regular(path) as file:
            size = file.seek(0, 2)
            if size < 24:
                raise _Damaged(f"it has {size} bytes, and its counts alone take 24", cut=True)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _header(_Walk(content, size), str(path))
    except _Damaged as error:
        raise BackboneError(
            f"the GGUF file {path} cannot be read: {error}; "
            + (
                "it is cut, or the download is not complete. Download it again."
                if error.cut
                else "expected a GGUF file of version 2 or 3, as llama.cpp writes it."
            )
        ) from error
    except OSError as error:
        raise BackboneError(f"the GGUF file {path} cannot be read: {error.strerror or error}") from error


class _Damaged(Exception):
    """What is wrong with a file, and whether its end is missing."""

    def __init__(self, reason: str, *, cut: bool = False) -> None:
        super().__init__(reason)
        self.cut = cut


class _Walk:
    """A place in a file, which moves behind what is read."""

    def __init__(self, content: mmap.mmap, size: int) -> None:
        self._content, self.size, self.at = content, size, 0

    def skip(self, count: int) -> int:
        """Move on by some bytes; where they begin."""
        if count > self.size - self.at:
            raise _Damaged(f"at byte {self.at:,} it goes on for {count:,} and has {self.size:,} in all", cut=True)
        begin, self.at = self.at, self.at + count
        return begin

    def numbers(self, form: str) -> tuple[Any, ...]:
        """Numbers that lie one behind the other, as `struct` calls them."""
        form = f"<{form}"
        return struct.unpack_from(form, self._content, self.skip(struct.calcsize(form)))

    def count(self, form: str, most: int, what: str) -> int:
        """A number of things, no more than any model has."""
        (count,) = self.numbers(form)
        if count > most:
            raise _Damaged(f"it claims {count:,} {what}, and no model has more than {most:,}")
        return count

    def text(self) -> str:
        """A text, whose length stands before it."""
        length = self.count("Q", MOST_TEXT, "bytes of one text")
        begin = self.skip(length)
        return self._content[begin : begin + length].decode("utf-8", "replace")


def _header(walk: _Walk, file: str) -> GgufHeader:
    """Read the parts of a file in their order."""
    if (magic := bytes(walk.numbers("4s")[0])) != MAGIC:
        raise _Damaged(f"it begins with {magic!r} and not with {MAGIC!r}")
    if (version := walk.numbers("I")[0]) not in VERSIONS:
        raise _Damaged(f"it is of version {version:,}")
    tensor_count = walk.count("Q", MOST_TENSORS, "tensors")
    field_count = walk.count("Q", MOST_FIELDS, "fields")
    values: dict[str, Any] = {}
    words: list[str] = []
    for _ in range(field_count):
        key = walk.text()
        (kind,) = walk.numbers("I")
        if kind == _LIST:
            listed = _list(walk, key)
            words = listed if key == TOKENS else words
        else:
            values[key] = _value(walk, kind, key)
    if int(values.get("split.count") or 0) > 1:
        raise _Damaged(
            f"it is one of {values['split.count']} parts of a model; join them with `llama-gguf-split --merge` first"
        )
    architecture = values.get("general.architecture")
    if not isinstance(architecture, str):
        raise _Damaged("it has no general.architecture")
    alignment = values.get("general.alignment", 32)
    if not isinstance(alignment, int) or not 0 < alignment <= 2**16:
        raise _Damaged(f"its general.alignment is {alignment!r:.40}")
    entries = [_entry(walk) for _ in range(tensor_count)]
    begin = -(-walk.at // alignment) * alignment
    tensors = [
        StoredTensor(name, shape, kind, size, file, begin + offset) for name, shape, kind, size, offset in entries
    ]
    for tensor in tensors:
        assert tensor.offset is not None
        if tensor.offset + tensor.size > walk.size:
            raise _Damaged(
                f"its tensor {tensor.name!r:.80} ends at byte {tensor.offset + tensor.size:,} of {walk.size:,}",
                cut=True,
            )
    return GgufHeader(architecture, values, words, tensors)


def _value(walk: _Walk, kind: int, key: str) -> Any:
    """A text or a number."""
    if kind == _TEXT:
        return walk.text()
    if kind not in _NUMBERS:
        raise _Damaged(f"its field {key!r:.80} is of the unknown type {kind}")
    return walk.numbers(_NUMBERS[kind])[0]


def _list(walk: _Walk, key: str) -> list[str]:
    """The texts of a list; none of one of numbers, which is passed over."""
    (kind,) = walk.numbers("I")
    count = walk.count("Q", MOST_WORDS, f"entries of {key!r:.80}")
    if kind == _TEXT:
        return [walk.text() for _ in range(count)]
    if kind not in _NUMBERS:
        raise _Damaged(f"its field {key!r:.80} lists the unknown type {kind}")
    walk.skip(count * struct.calcsize(f"<{_NUMBERS[kind]}"))
    return []


def _entry(walk: _Walk) -> tuple[str, tuple[int, ...], str, int, int]:
    """Name, shape as torch has it, type of blocks, bytes and offset of one tensor."""
    name = walk.text()
    dimensions = walk.numbers(f"{walk.count('I', MOST_DIMENSIONS, 'dimensions of a tensor')}Q")
    kind, offset = walk.numbers("IQ")
    try:
        type_of_blocks = GGMLQuantizationType(kind)
    except ValueError:
        raise _Damaged(f"its tensor {name!r:.80} is of the unknown type {kind}") from None
    per_block, bytes_of_block = GGML_QUANT_SIZES[type_of_blocks]
    return (
        name,
        tuple(reversed(dimensions)),
        type_of_blocks.name,
        -(-prod(dimensions) // per_block) * bytes_of_block,
        offset,
    )
