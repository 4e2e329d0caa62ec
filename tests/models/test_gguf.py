"""The head of a GGUF file against the library that writes them, and files whose counts lie."""

import struct
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader

from spot.errors import BackboneError
from spot.models import embedded
from spot.models.gguf import gguf_in, is_gguf, read_header
from tests.support.gguf_files import write_gguf


@pytest.fixture
def file(tiny, tmp_path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", *tiny("llama"))


@pytest.mark.parametrize("blocks", [GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.Q8_0])
def test_the_head_is_what_the_library_of_the_format_reads(tiny, tmp_path, blocks):
    path = write_gguf(tmp_path / "tiny.gguf", *tiny("llama"), blocks=blocks)
    header, oracle = read_header(path), GGUFReader(path)
    assert header.architecture == "llama" and header.tokenizer == "gpt2"
    assert len(header.words) == len(oracle.fields["tokenizer.ggml.tokens"].data)
    expected = [
        (part.name, tuple(int(size) for size in reversed(part.shape)), part.tensor_type.name, part.n_bytes)
        for part in oracle.tensors
    ]
    assert [(part.name, part.shape, part.dtype, part.size) for part in header.tensors] == expected
    assert [part.offset for part in header.tensors] == [part.data_offset for part in oracle.tensors]
    assert header.bytes_whole == 4 * sum(int(np.prod(part.shape)) for part in oracle.tensors)


@pytest.mark.slow
def test_the_head_of_the_embedded_model():
    header = read_header(embedded.gguf_file())
    assert (header.architecture, len(header.words), len(header.tensors)) == ("llama", 49152, 272)


def test_every_file_that_is_cut_is_said_to_be_cut(file):
    content = file.read_bytes()
    for kept in (0, 3, 10, 23, 24, 60, 300, 5_000, len(content) // 2, len(content) - 40):
        file.write_bytes(content[:kept])
        with pytest.raises(BackboneError, match=r"tiny.gguf cannot be read: .*Download it again"):
            read_header(file)


@pytest.mark.parametrize(
    ("at", "form", "value", "words"),
    [
        (0, "4s", b"GGML", "begins with b'GGML'"),
        (4, "I", 1, "of version 1"),
        (4, "I", 0x03000000, "of version 50,331,648"),
        (8, "Q", 2**60, "claims 1,152,921,504,606,846,976 tensors"),
        (16, "Q", 10**9, "claims 1,000,000,000 fields"),
        (24, "Q", 2**62, "bytes of one text"),
        (24, "Q", 10**6, "it is cut"),
    ],
)
def test_counts_that_no_model_has_are_refused_before_anything_is_taken_for_them(file, at, form, value, words):
    content = bytearray(file.read_bytes())
    struct.pack_into(f"<{form}", content, at, value)
    file.write_bytes(content)
    with pytest.raises(BackboneError, match=words):
        read_header(file)


def made(*fields: bytes, tensors: bytes = b"", count: int = 0) -> bytes:
    """A GGUF file of these fields and tensors."""
    return b"GGUF" + struct.pack("<IQQ", 3, count, len(fields)) + b"".join(fields) + tensors


def named(key: str, kind: int, value: bytes) -> bytes:
    return struct.pack("<Q", len(key)) + key.encode() + struct.pack("<I", kind) + value


LLAMA = named("general.architecture", 8, struct.pack("<Q", 5) + b"llama")
NAME = struct.pack("<Q", 1) + b"t"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (made(), "no general.architecture"),
        (made(named("general.architecture", 4, struct.pack("<I", 7))), "no general.architecture"),
        (made(LLAMA, named("a", 77, b"")), "unknown type 77"),
        (made(LLAMA, named("a", 9, struct.pack("<IQ", 9, 1))), "lists the unknown type 9"),
        (made(LLAMA, named("a", 9, struct.pack("<IQ", 4, 2**40))), "claims 1,099,511,627,776 entries of 'a'"),
        (made(LLAMA, named("a", 9, struct.pack("<IQ", 4, 10**6))), "it is cut"),
        (made(LLAMA, named("general.alignment", 4, struct.pack("<I", 0))), "general.alignment is 0"),
        (made(LLAMA, named("split.count", 2, struct.pack("<H", 3))), "one of 3 parts of a model; join them"),
        (made(LLAMA, tensors=NAME + struct.pack("<I", 9), count=1), "claims 9 dimensions"),
        (made(LLAMA, tensors=NAME + struct.pack("<IQIQ", 1, 4, 999, 0), count=1), "unknown type 999"),
        (made(LLAMA, tensors=NAME + struct.pack("<IQIQ", 1, 2**50, 0, 0), count=1), "'t' ends at byte"),
        (made(LLAMA, tensors=NAME + struct.pack("<IQIQ", 1, 1, 0, 2**63), count=1), "'t' ends at byte"),
    ],
)
def test_fields_and_tensors_that_no_model_has_are_refused(tmp_path, content, words):
    path = tmp_path / "made.gguf"
    path.write_bytes(content)
    with pytest.raises(BackboneError, match=words):
        read_header(path)


def test_a_file_is_known_by_its_beginning_or_its_ending(file, tmp_path):
    assert is_gguf(file) and is_gguf(file.rename(tmp_path / "model.bin"))
    (tmp_path / "text").write_text("text")
    assert not is_gguf(tmp_path / "text") and not is_gguf(tmp_path) and not is_gguf(tmp_path / "nothing")


def test_a_folder_with_several_files_asks_which(file, tmp_path):
    assert gguf_in(tmp_path) == file
    (tmp_path / "other.gguf").write_bytes(b"GGUF")
    with pytest.raises(BackboneError, match=r"holds 2 GGUF files \(other.gguf, tiny.gguf\).* Give the path of one"):
        gguf_in(tmp_path)
