"""What is no prompt file, or no prompt of this backbone, is refused clearly and never unpickled."""

import hashlib
import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save as save_safetensors

from spot.errors import PromptError
from spot.prompts.overlap import build
from spot.prompts.prompt import (
    BackboneId,
    KeyRecipe,
    Parent,
    SoftPrompt,
    check_fits,
    from_bytes,
    header,
    load,
    to_bytes,
)

BACKBONE = BackboneId(name="embedded", kind="causal", width=3, vocabulary=50, fingerprint="f" * 16)


def small(**changes: Any) -> SoftPrompt:
    """A prompt of two tokens with most fields set."""
    content: dict[str, Any] = {
        "value": np.arange(6).reshape(2, 3),
        "backbone": BACKBONE,
        "task": "cr",
        "step": 20,
        "sketch": build(["a text that is long enough to be sketched"]),
        "parents": (Parent("0123456789abcdef", 1.0),),
        "key_recipe": KeyRecipe(40, 2, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96),
        "config": {"steps": 20},
        "scores": {"accuracy": 90.0},
    }
    return SoftPrompt(**{**content, **changes})


def rewritten(prompt: SoftPrompt, change: Callable[[dict[str, Any]], object]) -> bytes:
    """A prompt file whose header was changed by someone who also made its checksum right."""
    data = to_bytes(prompt)
    size = int.from_bytes(data[:8], "little")
    stored = json.loads(data[8 : 8 + size])
    content = json.loads(stored["__metadata__"]["spot"])
    change(content)
    text = json.dumps(content)
    stored["__metadata__"] = {"spot": text, "checksum": hashlib.sha256(text.encode()).hexdigest()}
    head = json.dumps(stored).encode()
    return len(head).to_bytes(8, "little") + head + data[8 + size :]


@settings(deadline=None, max_examples=300)
@given(data=st.binary(max_size=200) | st.binary(max_size=80).map(lambda b: len(b).to_bytes(8, "little") + b))
def test_arbitrary_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Never another exception, neither from the whole file nor from its header alone."""
    path = tmp_path_factory.getbasetemp() / "arbitrary"
    path.write_bytes(data)
    for read in (load, header):
        with pytest.raises(PromptError):
            read(path)


class Trap:
    """What a hostile pickle would run."""

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        """Make a file that the test looks for."""
        return Path.touch, (Path("trapped"),)  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_pickles_are_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, protocol: int) -> None:
    """The old format of torch is a pickle, its new one a zip of pickles; neither is ever unpickled."""
    monkeypatch.chdir(tmp_path)
    Path("bare.pt").write_bytes(pickle.dumps(Trap(), protocol=protocol))
    Path("zip.bin").write_bytes(b"PK\x03\x04" + b"\0" * 30)
    for name in ("bare.pt", "zip.bin"):
        for read in (load, header):
            with pytest.raises(PromptError) as caught:
                read(name)
            assert str(caught.value) == (
                f"{name}: this is a pickle (a torch .pt or .bin file); reading one can run code, so "
                "spot never does. Save the prompt as .safetensors or .npy and bring it in with `spot import`."
            )
    assert not Path("trapped").exists()


def test_a_length_that_begins_like_a_pickle_is_no_pickle() -> None:
    """A header of 640 bytes makes a file that begins with the two bytes of a pickle."""
    for size in range(700):
        data = to_bytes(small(config={"text": "x" * size}))
        if data[:2] == b"\x80\x04":
            assert from_bytes(data).task == "cr"
            broken = data[:8] + b"[" + data[9:]
            with pytest.raises(PromptError, match="damaged"):
                from_bytes(broken)
            return
    raise AssertionError("no header of 1,152 bytes")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the file is empty; expected a prompt file"),
        (b"task,label\n1,2\n", "cut short, damaged or something else .*expected a .safetensors file"),
        (b"\x93NUMPY\x01\x00v\x00", "this is a numpy file, not a prompt file; bring it in with `spot import`"),
        (
            save_safetensors({"prompt_embeddings": np.zeros((2, 3), np.float32)}),
            r"not written by spot \(no `spot` entry in its metadata\); bring .* in with `spot import`",
        ),
        (to_bytes(small())[:-1], "cut short, damaged or something else .*Restore it from a copy"),
        (to_bytes(small())[:100], "a header of [0-9,]+ bytes is announced, the file holds 92"),
        (b"\x0a\0\0\0\0\0\0\0[[[[[[[[[[", "cut short, damaged or something else"),
        (b"\xa0\x86\1\0\0\0\0\0" + b"[" * 100_000, "cut short, damaged or something else .*recursion"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, data: bytes, message: str) -> None:
    """Each with what it is and what to do, named by its path."""
    path = tmp_path / "file.safetensors"
    path.write_bytes(data)
    with pytest.raises(PromptError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_missing_files_and_folders_are_named(tmp_path: Path) -> None:
    """The system's reason, with the path."""
    missing = tmp_path / "missing.safetensors"
    for read in (load, header):
        with pytest.raises(PromptError) as caught:
            read(missing)
        assert str(caught.value) == (
            f"cannot read the prompt file {missing}: No such file or directory. Check the path."
        )
        with pytest.raises(PromptError, match="Is a directory"):
            read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(format=3), "has format 3, and this version of spot reads formats 1 and 2: upgrade spot"),
        (lambda h: h.update(format=True), "has format True"),
        (lambda h: h.update(format=2), r"damaged or something else \('reading'\)"),
        (lambda h: h.update(reading={}), "a file of format 1 has no reading settings"),
        (lambda h: h.update(format=2, reading=[]), "reading settings: found"),
        (lambda h: h.update(format=2, reading={"cue": 3}), "reading settings: the field 'cue' holds 3"),
        (lambda h: h.update(format=2, reading={"colour": "red"}), "there is a field 'colour', which is not known here"),
        (lambda h: h.update(format=2, reading={"template": "a {b"}), "reading settings: .* has a lone '{'"),
        (lambda h: h.update(format=2, reading={"template": "no field"}), "reading settings: .* names no field"),
        (lambda h: h.update(format=2, reading={"labels": [["a"]]}), "reading settings: the field 'labels"),
        (lambda h: h.update(format=2, reading={"labels": [["a", "b"], ["a", "c"]]}), "is named more than once"),
        (lambda h: h.update(format=2, reading={"truncate": "up"}), "the field 'truncate' holds 'up'"),
        (lambda h: h.update(format=2, reading={"max_input_tokens": 0}), "max_input_tokens is 0"),
        (lambda h: h.update(format=2, reading={"max_input_tokens": True}), "the field 'max_input_tokens' holds True"),
        (lambda h: h.update(format=2, reading={"form": "x", "template": "{a}"}), "both a form"),
        (lambda h: h.update(format=2, reading={"cue": "\ud800"}), "reading settings"),
        (lambda h: h.pop("format"), r"damaged or something else \('format'\)"),
        (lambda h: h.pop("task"), "task"),
        (lambda h: h.pop("backbone"), "backbone"),
        (lambda h: h.update(step="many"), "step is 'many', expected"),
        (lambda h: h.update(step=True), "step is True, expected"),
        (lambda h: h.update(seed=1.5), "seed is 1.5, expected"),
        (lambda h: h.update(surprise=1), "surprise"),
        (lambda h: h.update(scores=[1]), "damaged or something else"),
        (lambda h: h.update(scores={"accuracy": "high"}), "damaged or something else"),
        (lambda h: h.update(config=3), "damaged or something else"),
        (lambda h: h.update(sketch=None), "damaged or something else"),
        (lambda h: h.pop("sketch"), "sketch"),
        (lambda h: h["sketch"].update(hashes=99), "1 to 16 hashes, found 99"),
        (lambda h: h["backbone"].pop("width"), "width"),
        (lambda h: h["backbone"].update(width=4), r"value \[2, 3\]"),
        (lambda h: h["key_recipe"].update(learning_rate="fast"), "learning_rate is 'fast'"),
        (lambda h: h.update(parents=["0123"]), "damaged or something else"),
        (lambda h: h.update(arrays="0" * 64), "the arrays do not match their checksum"),
    ],
)
def test_headers_with_a_right_checksum_and_wrong_content(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    """Files of a newer version or of another writer: a clear refusal, never another exception."""
    with pytest.raises(PromptError, match=message) as caught:
        from_bytes(rewritten(small(), change), origin="name.safetensors")
    assert str(caught.value).startswith("name.safetensors: ")


def test_prompts_of_other_backbones_are_refused() -> None:
    """Both sides are named; the same model under another name is the same model."""
    prompt = small()
    check_fits(prompt, BACKBONE)
    check_fits(prompt, replace(BACKBONE, name="HuggingFaceTB/SmolLM2-135M-Instruct"))
    for change in ({"kind": "seq2seq"}, {"width": 4}, {"vocabulary": 51}, {"fingerprint": "0"}):
        with pytest.raises(PromptError, match="belongs to the backbone embedded"):
            check_fits(prompt, replace(BACKBONE, **change))
    with pytest.raises(PromptError) as caught:
        check_fits(prompt, BackboneId("google/t5-base-lm-adapt", "seq2seq", 768, 32128, "abc"))
    assert str(caught.value) == (
        "the prompt of task 'cr' belongs to the backbone embedded (causal, width 3, vocabulary 50, "
        "fingerprint ffffffffffffffff), but the backbone at hand is google/t5-base-lm-adapt (seq2seq, "
        "width 768, "
        "vocabulary 32128, fingerprint abc). Load embedded, or tune a prompt for google/t5-base-lm-adapt."
    )
