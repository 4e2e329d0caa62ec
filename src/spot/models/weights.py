"""Read the weight files of a frozen model without loading it: names, shapes and sizes, and the fingerprint.

A fingerprint is a SHA-256 over every stored number of every tensor, so that no two models share it. Reading takes less
than two seconds a gigabyte, once: the result is kept in the user's cache as long as no weight file changes.
"""

import hashlib
import json
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import safe_open
from transformers.utils.hub import cached_file

from spot.errors import BackboneError, SpotError, StorageError
from spot.storage.files import cache_dir, write_whole

WHOLE = ("model.safetensors", "pytorch_model.bin")  # safetensors where there is a choice, as transformers chooses
FORMER_ROWS = 64  # rows of the stored embedding that entered the former fingerprint
SETTLED = 2.0  # seconds that a file must be old for its time to tell a later change
MOST_JSON = 64 * 2**20  # bytes of an index of shards; the largest known has 10 MB
_DTYPES = {  # what safetensors calls a type -> what torch does, without `torch.`
    **{"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"},
    **{"I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8", "BOOL": "bool"},
}
_WORKERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a weight file, not yet read.

    Attributes:
        name: in the file.
        shape: of the tensor.
        dtype: as torch calls it, such as `bfloat16`; other types as safetensors does.
        size: in bytes.
        file: its path.
        offset: where it begins in a safetensors file; None in another, which is read through torch.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int
    file: str
    offset: int | None


@dataclass(frozen=True)
class Fingerprints:
    """What identifies the numbers in the weight files of a model, 16 hexadecimal digits each.

    Attributes:
        current: over every number of every tensor.
        former: over names, shapes and the first rows of the embedding, as prompts of older versions have it; empty
            where the files hold no embedding of as many rows as the vocabulary has words.
    """

    current: str
    former: str


def stored_file(source: str, name: str, *, cached: bool = False) -> str | None:
    """The path of a file of a folder or hub id, or None where it has none of that name.

    Args:
        source: a local folder or a hub id.
        name: of the file.
        cached: look only into the hub's cache.

    Raises:
        BackboneError: it is no regular file: a FIFO would be read for ever.
    """
    try:
        file = cached_file(source, name, local_files_only=cached, _raise_exceptions_for_missing_entries=False)
    except OSError as error:
        raise BackboneError(f"{name} of {source} cannot be had: {str(error).splitlines()[0][:200]}") from error
    if file is not None and not stat.S_ISREG(os.stat(file).st_mode):
        raise BackboneError(f"{file} is no regular file; expected one, as save_pretrained writes it. Delete it.")
    return file


def read_json(file: str, most_bytes: int = MOST_JSON) -> dict[str, Any]:
    """The JSON object in a small file of a model.

    Raises:
        BackboneError: it is none, or larger than any of its kind.
    """
    try:
        size = os.path.getsize(file)
        if size > most_bytes:
            raise ValueError(f"{size:,} bytes, and none of its kind has more than {most_bytes:,}")
        content = json.loads(Path(file).read_bytes())
        if not isinstance(content, dict):
            raise ValueError(f"it holds {content!r:.40}")
    except (OSError, ValueError, RecursionError) as error:
        raise BackboneError(
            f"{file} cannot be read ({str(error)[:200]}); expected a JSON object, as save_pretrained writes it"
        ) from error
    return content


def weight_files(source: str, *, cached: bool = False) -> list[str]:
    """The weight files of a folder or hub id.

    Raises:
        BackboneError: there are none, one is missing, or the index of the shards is none.
    """
    for whole in WHOLE:
        if file := stored_file(source, whole, cached=cached):
            return [file]
        if index := stored_file(source, f"{whole}.index.json", cached=cached):
            return [_shard(source, name, index, cached) for name in _shard_names(index)]
    raise BackboneError(f"{source} holds neither model.safetensors nor pytorch_model.bin; expected one of them")


def stored_tensors(files: Sequence[str]) -> list[StoredTensor]:
    """Every tensor of weight files, none of them read, by name.

    Raises:
        BackboneError: a file is damaged, or holds anything but tensors.
    """
    return sorted((tensor for file in files for tensor in _tensors(file)), key=lambda tensor: tensor.name)


def read_tensor(tensor: StoredTensor) -> torch.Tensor:
    """One tensor of a weight file; of a safetensors file nothing else is read.

    Raises:
        BackboneError: the file cannot be read.
    """
    with _readable(tensor.file):
        if tensor.offset is None:
            return _loaded(tensor.file)[tensor.name]
        with safe_open(tensor.file, framework="pt") as stored:
            return stored.get_tensor(tensor.name)


def fingerprints(files: Sequence[str], vocabulary: int) -> Fingerprints:
    """Identify the numbers in weight files; the result is cached by path, size, times and inode of each file.

    Args:
        files: from `weight_files`.
        vocabulary: words of the model.

    Raises:
        BackboneError: a file cannot be read.
    """
    return _remembered(files, [vocabulary], lambda: _fingerprints(files, vocabulary))


def file_digest(file: str) -> str:
    """The sha256 of a whole file, 16 hexadecimal digits; cached as `fingerprints` are.

    Raises:
        BackboneError: it cannot be read.
    """

    def taken() -> Fingerprints:
        with _readable(file), Path(file).open("rb") as opened:
            return Fingerprints(hashlib.file_digest(opened, "sha256").hexdigest()[:16], "")

    return _remembered([file], ["whole"], taken).current


def _fingerprints(files: Sequence[str], vocabulary: int) -> Fingerprints:
    tensors = stored_tensors(files)
    return Fingerprints(_current(tensors, vocabulary), _former(tensors, vocabulary))


def _remembered(files: Sequence[str], of: Sequence[object], take: Callable[[], Fingerprints]) -> Fingerprints:
    """What identifies files, from the user's cache or taken now.

    Args:
        files: the files.
        of: what else it depends on.
        take: takes it.
    """
    state = [_state(file) for file in files]
    key = hashlib.sha256(json.dumps([*of, *sorted(path for path, *_ in state)]).encode("utf-8", "surrogatepass"))
    with suppress(StorageError):
        kept = _kept(_records() / f"{key.hexdigest()[:32]}.json")
        if kept is not None and kept.files == state and kept.is_settled:
            return kept.fingerprints
    result = take()
    if state == [_state(file) for file in files]:
        record = _Record(os.path.realpath(os.path.dirname(os.path.abspath(files[0]))), state, time.time_ns(), result)
        with suppress(StorageError):
            write_whole(_records() / f"{key.hexdigest()[:32]}.json", json.dumps(asdict(record)).encode())
    return result


def folder_of(fingerprint: str) -> str | None:
    """The folder in which the model of a fingerprint was seen last, if its files are still as they were then.

    Args:
        fingerprint: the current or the former one.
    """
    with suppress(StorageError, OSError):
        for path in sorted(_records().glob("*.json")):
            kept = _kept(path)
            if kept is None or fingerprint not in (kept.fingerprints.current, kept.fingerprints.former):
                continue
            with suppress(BackboneError):
                if kept.files == [_state(file) for file, *_ in kept.files]:
                    return kept.folder
    return None


@dataclass(frozen=True)
class _Record:
    """What the cache keeps of a model: its folder, the state of its files, when they were read, what came of it."""

    folder: str
    files: list[list[Any]]
    taken: int  # nanoseconds
    fingerprints: Fingerprints

    @property
    def is_settled(self) -> bool:
        """Whether its files were old when they were read: one written just now may be again within a tick."""
        return self.taken - max(max(modified, changed) for *_, modified, changed in self.files) > SETTLED * 1e9


def _records() -> Path:
    """The folder of the cache's records, one a model."""
    return cache_dir() / "fingerprints"


def _kept(path: Path) -> _Record | None:
    """A record of the cache; None where there is none or it is damaged."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        content = json.loads(path.read_bytes())
        record = _Record(**{**content, "fingerprints": Fingerprints(**content["fingerprints"])})
        known = (record.folder, record.fingerprints.current, record.fingerprints.former)
        if all(isinstance(part, str) for part in known) and isinstance(record.is_settled, bool):
            return record
    return None


def _current(tensors: Sequence[StoredTensor], vocabulary: int) -> str:
    """Over the numbers of every tensor.

    Tables of the vocabulary enter without their names, each content once: a model whose head is its embedding is
    stored with one name or with two or more, as the format has it.
    """
    with _reading(tensors), ThreadPoolExecutor(_WORKERS) as pool:
        loaded = {file: _loaded(file) for file in {tensor.file for tensor in tensors if tensor.offset is None}}
        digests = list(pool.map(lambda tensor: _content(tensor, loaded), tensors))
    entries = set()
    for tensor, digest in zip(tensors, digests, strict=True):
        is_table = len(tensor.shape) == 2 and tensor.shape[0] >= vocabulary
        entries.add(f"{'' if is_table else tensor.name} {tensor.dtype} {list(tensor.shape)} {digest}\n")
    return hashlib.sha256("".join(sorted(entries)).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def _content(tensor: StoredTensor, loaded: Mapping[str, Mapping[str, torch.Tensor]]) -> str:
    """SHA-256 over the numbers of one tensor; those of files that torch wrote are loaded."""
    digest = hashlib.sha256()
    if tensor.offset is None:
        numbers = loaded[tensor.file][tensor.name].contiguous().flatten()
        digest.update(numbers.view(torch.uint8).numpy().data)
        return digest.hexdigest()
    with Path(tensor.file).open("rb") as file:
        file.seek(tensor.offset)
        left = tensor.size
        while left:
            part = file.read(min(left, 2**22))
            if not part:
                raise OSError("it ends too early")
            digest.update(part)
            left -= len(part)
    return digest.hexdigest()


def _former(tensors: Sequence[StoredTensor], vocabulary: int) -> str:
    """The fingerprint of older versions: names, shapes and the first rows of the first table of the vocabulary."""
    digest = hashlib.sha256()
    table = None
    for tensor in tensors:
        digest.update(f"{tensor.name}{tensor.shape}\n".encode("utf-8", "surrogatepass"))
        fits = len(tensor.shape) == 2 and tensor.shape[0] == vocabulary and "lm_head" not in tensor.name
        table = tensor if table is None and fits else table
    if table is None:
        return ""
    with _reading([table]):
        if table.offset is None:
            rows = _loaded(table.file)[table.name][:FORMER_ROWS]
        else:
            with safe_open(table.file, framework="pt") as stored:
                rows = stored.get_slice(table.name)[:FORMER_ROWS]
        digest.update(rows.float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _tensors(file: str) -> Iterator[StoredTensor]:
    """The tensors of one weight file."""
    with _readable(file):
        if not file.endswith(".safetensors"):
            for name, tensor in _loaded(file).items():
                dtype = str(tensor.dtype).removeprefix("torch.")
                yield StoredTensor(name, tuple(tensor.shape), dtype, tensor.numel() * tensor.itemsize, file, None)
            return
        with safe_open(file, framework="pt"):  # checks the header: places within the file, none of them twice
            pass
        with Path(file).open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            begin, end = entry["data_offsets"]
            dtype = _DTYPES.get(entry["dtype"], str(entry["dtype"]))
            yield StoredTensor(name, tuple(entry["shape"]), dtype, end - begin, file, 8 + length + begin)


def _loaded(file: str) -> dict[str, torch.Tensor]:
    """The tensors of a file that torch wrote, mapped into memory where its format allows it.

    Raises:
        TypeError: it holds something else.
    """
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    except RuntimeError as error:
        if "mmap" not in str(error):
            raise
        content = torch.load(file, map_location="cpu", weights_only=True)  # torch before 1.6 wrote no archive
    if not isinstance(content, dict):
        raise TypeError(f"it holds {type(content).__name__}")
    wrong = [name for name, part in content.items() if not (isinstance(name, str) and isinstance(part, torch.Tensor))]
    if wrong:
        raise TypeError(f"its entry {wrong[0]!r:.60} is no tensor")
    return content


def _shard_names(index: str) -> list[str]:
    """The files that the index of a sharded model names."""
    table = read_json(index).get("weight_map")
    names = sorted({str(name) for name in table.values()}) if isinstance(table, dict) else []
    foreign = [name for name in names if not name or os.path.basename(name) != name or name in (".", "..")]
    if not names or foreign:
        state = f"names {foreign[0]!r:.80}" if foreign else "has no weight_map that names a file"
        raise BackboneError(f"{index} {state}; expected files of the same folder. Download or save the model again.")
    return names


def _shard(source: str, name: str, index: str, cached: bool) -> str:
    """The path of one of several weight files."""
    file = stored_file(source, name, cached=cached)
    if file is None:
        raise BackboneError(f"{source} holds no {name}, which {index} names; is the download complete?")
    return file


def _state(file: str) -> list[Any]:
    """What changes when a file does: path, size, inode and times."""
    try:
        entry = os.stat(file)
    except OSError as error:
        raise BackboneError(f"the weight file {file} cannot be read ({error.strerror})") from error
    return [os.path.realpath(file), entry.st_size, entry.st_ino, entry.st_mtime_ns, entry.st_ctime_ns]


@contextmanager
def _readable(file: str) -> Iterator[None]:
    """One message for whatever a reader of weight files stumbles over in files of others."""
    try:
        yield
    except SpotError:
        raise
    except Exception as error:
        reason = str(error).strip().partition("\n")[0][:200] or type(error).__name__
        if isinstance(error, UnpicklingError):  # whose text recommends to run what is in the file
            reason = "it holds more than plain tensors, or is damaged"
        raise BackboneError(
            f"the weight file {file} cannot be read ({reason}); is the download complete? Expected a safetensors file "
            "or plain tensors as torch.save writes them; anything else is not looked at, because it might be code."
        ) from error


@contextmanager
def _reading(tensors: Sequence[StoredTensor]) -> Iterator[None]:
    """The same for tensors of several files."""
    with _readable(tensors[0].file if tensors else "of no tensors"):
        yield


def bytes_in(tensors: Sequence[StoredTensor]) -> int:
    """How many bytes tensors take as they are stored."""
    return sum(tensor.size for tensor in tensors)
