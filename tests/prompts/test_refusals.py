"""What is no prompt file, or no prompt of this backbone, is refused clearly and never unpickled."""

import contextlib
import hashlib
import json
import os
import pickle
import time
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
    reading_of,
    to_bytes,
)
from spot.reading import Reading

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


@settings(deadline=None)
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
        (b"\xa0\x86\1\0\0\0\0\0" + b"[" * 100_000, "cut short, damaged or something else .*nested too deeply"),
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
        with pytest.raises(
            PromptError, match=r"it is a folder, expected a regular file\. .* It was to be a prompt file"
        ):
            read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.update(format=3), "has format 3, and this version of spot reads formats 1 and 2: upgrade spot"),
        (lambda h: h.update(format=True), "has format True"),
        (lambda h: h.update(format=1.0), "has format 1.0"),
        (lambda h: h.update(format=[1]), r"has format \[1\]"),
        (lambda h: h.update(format=2), "a file of format 1 has no reading settings, and one of format 2 has some"),
        (lambda h: h.update(reading={}), "a file of format 1 has no reading settings"),
        (lambda h: h.update(format=2, reading=[]), "the field 'reading' holds"),
        (lambda h: h.update(format=2, reading={"cue": 3}), "the field 'reading.cue' holds 3"),
        (lambda h: h.update(format=2, reading={"colour": "red"}), "a field 'reading.colour', which is not known here"),
        (lambda h: h.update(format=2, reading={"template": "a {b"}), "its header: .* has a lone '{'"),
        (lambda h: h.update(format=2, reading={"template": "no field"}), "its header: .* names no field"),
        (lambda h: h.update(format=2, reading={"labels": [["a"]]}), "the field 'reading.labels"),
        (lambda h: h.update(format=2, reading={"labels": [["a", "b"], ["a", "c"]]}), "is named more than once"),
        (lambda h: h.update(format=2, reading={"truncate": "up"}), "the field 'reading.truncate' holds 'up'"),
        (lambda h: h.update(format=2, reading={"max_input_tokens": 0}), "max_input_tokens is 0"),
        (lambda h: h.update(format=2, reading={"max_input_tokens": True}), "'reading.max_input_tokens' holds True"),
        (lambda h: h.update(format=2, reading={"form": "x", "template": "{a}"}), "both a form"),
        (lambda h: h.update(format=2, reading={"cue": "\ud800"}), "half of a surrogate pair"),
        (lambda h: h.pop("format"), "the field 'format' is missing"),
        (lambda h: h.pop("task"), "the field 'task' is missing"),
        (lambda h: h.update(task="\ud800"), "half of a surrogate pair"),
        (lambda h: h.update(task=None), "the field 'task' holds None"),
        (lambda h: h.pop("backbone"), "the field 'backbone' is missing"),
        (lambda h: h.update(step="many"), "the field 'step' holds 'many'"),
        (lambda h: h.update(step=True), "the field 'step' holds True"),
        (lambda h: h.update(step=-1), "the field 'step' holds -1"),
        (lambda h: h.update(step=10**400), "the integer 1000.* is out of range"),
        (lambda h: h.update(seed=1.5), "the field 'seed' holds 1.5"),
        (lambda h: h.update(surprise=1), "a field 'surprise', which is not known here"),
        (lambda h: h.update(scores=[1]), "the field 'scores' holds"),
        (lambda h: h.update(scores={"accuracy": "high"}), "the field 'scores.accuracy' holds 'high'"),
        (lambda h: h.update(scores={"accuracy": True}), "the field 'scores.accuracy' holds True"),
        (lambda h: h.update(scores={"accuracy": 10**400}), "the integer 1000.* is out of range|scores.accuracy"),
        (lambda h: h.update(scores={"accuracy": 1e300}), "the field 'scores.accuracy' holds 1e.300"),
        (lambda h: h.update(frozen_scores={"accuracy": float("inf")}), "Infinity is no number of JSON"),
        (lambda h: h.update(scores={"accuracy": None}), "the field 'scores.accuracy' holds None"),
        (lambda h: h.update(config=3), "the field 'config' holds 3"),
        (lambda h: h.update(config={"steps": float("nan")}), "NaN is no number of JSON"),
        (
            lambda h: h.update(config={"max_input_tokens": "many"}),
            "max_input_tokens of the prompt's settings is 'many'",
        ),
        (lambda h: h.update(config={"max_input_tokens": None}), "max_input_tokens of the prompt's settings is None"),
        (lambda h: h.update(config={"max_target_tokens": [1]}), r"max_target_tokens of the prompt's settings is \[1\]"),
        (lambda h: h.update(config={"max_input_tokens": 0}), "max_input_tokens is 0"),
        (lambda h: h.update(config={"truncate": ["left"]}), r"truncate is \['left'\]"),
        (lambda h: h.update(config={"labels": "ab"}), "the labels of the prompt's settings are 'ab'"),
        (lambda h: h.update(config=json.loads("[" * 500 + "]" * 500)), "nested|holds"),
        (lambda h: h.update(config={"a": json.loads("[" * 100 + "]" * 100)}), "nested more than 64 deep"),
        (lambda h: h.update(sketch=None), "damaged or something else"),
        (lambda h: h.pop("sketch"), "sketch"),
        (lambda h: h["sketch"].update(hashes=99), "the field 'sketch.hashes' holds 99"),
        (lambda h: h["sketch"].update(hashes=7.5), "the field 'sketch.hashes' holds 7.5"),
        (lambda h: h["sketch"].update(hashes=True), "the field 'sketch.hashes' holds True"),
        (lambda h: h["sketch"].update(hashes="7"), "the field 'sketch.hashes' holds '7'"),
        (lambda h: h["sketch"].update(bits=7), "a field 'sketch.bits', which is not known here"),
        (lambda h: h["backbone"].pop("width"), "the field 'backbone.width' is missing"),
        (lambda h: h["backbone"].update(width=4), r"value \[2, 3\]"),
        (lambda h: h["backbone"].update(width=3.0), "the field 'backbone.width' holds 3.0"),
        (lambda h: h["backbone"].update(kind="encoder"), "the field 'backbone.kind' holds 'encoder'"),
        (lambda h: h["backbone"].update(name=["a"]), "the field 'backbone.name' holds"),
        (lambda h: h["backbone"].update(vocabulary=-1), "the field 'backbone.vocabulary' holds -1"),
        (lambda h: h["key_recipe"].update(learning_rate="fast"), "the field 'key_recipe.learning_rate' holds 'fast'"),
        (lambda h: h["key_recipe"].update(step=-5), "key_step is -5"),
        (lambda h: h["key_recipe"].update(step=0), "key_step is 0"),
        (lambda h: h["key_recipe"].update(length=0), "length is 0"),
        (lambda h: h["key_recipe"].update(learning_rate=0), "learning_rate is 0"),
        (lambda h: h["key_recipe"].update(learning_rate=1e38), "learning_rate is 1e.38"),
        (lambda h: h["key_recipe"].update(batch_size=0), "batch_size is 0"),
        (lambda h: h["key_recipe"].update(weight_decay=1), "weight_decay is 1"),
        (lambda h: h["key_recipe"].update(init_seed=-1), "init_seed is -1"),
        (lambda h: h["key_recipe"].update(optimiser="sgd"), "optimiser is 'sgd'"),
        (lambda h: h["key_recipe"].update(init=""), "init is empty"),
        (lambda h: h["key_recipe"].update(max_input_tokens=0), "max_input_tokens is 0"),
        (lambda h: h.update(parents=["0123"]), "the field 'parents.0' holds '0123'"),
        (lambda h: h["parents"][0].update(weight=True), "the field 'parents.0.weight' holds True"),
        (lambda h: h["parents"][0].update(weight=1e300), "the field 'parents.0.weight' holds 1e.300"),
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


def leaves(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """The way to every value inside a JSON value."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(way for key, part in parts for way in leaves(part, (*path, key)))]


ODD = (
    None,
    True,
    "",
    "x",
    "\ud800",
    -1,
    0,
    2,
    10**9,
    10**400,
    0.5,
    -1e300,
    float("nan"),
    float("inf"),
    [],
    {},
    [[1]],
    {"a": 1},
)


@pytest.mark.parametrize("new", ODD, ids=[f"{value!r:.12}" for value in ODD])
def test_any_value_of_a_header_may_be_wrong(tmp_path: Path, new: object) -> None:
    """F9: what is taken can be kept again and has the right types, by `load` as by `header`; the rest is refused."""
    good = to_bytes(replace(small(), reading=Reading(cue="A:", labels=(("0", "bad"), ("1", "good")))))
    text = json.loads(json.loads(good[8 : 8 + int.from_bytes(good[:8], "little")])["__metadata__"]["spot"])
    for way in leaves(text)[1:]:

        def change(content: dict[str, Any], way: tuple[Any, ...] = way) -> None:
            for key in way[:-1]:
                content = content[key]
            content[way[-1]] = new

        data = rewritten(from_bytes(good), change)
        (tmp_path / "file").write_bytes(data)
        try:
            prompt = from_bytes(data)
        except PromptError:
            prompt = None
        try:
            described = header(tmp_path / "file")
        except PromptError:
            assert prompt is None or way[0] in ("arrays", "sketch"), way
            continue
        assert type(described["step"]) is int and isinstance(described["task"], str), way
        if prompt is not None:
            assert from_bytes(to_bytes(prompt)).digest == prompt.digest, way
            with contextlib.suppress(PromptError):
                reading_of(prompt)


def test_a_file_of_another_kind_or_size_is_refused_at_once(tmp_path: Path) -> None:
    """F8: a FIFO is not waited for, 60 GB are not read, a long header is not read."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "sparse").write_bytes(to_bytes(small()))
    os.truncate(tmp_path / "sparse", 60_000_000_000)
    (tmp_path / "longer").write_bytes(to_bytes(small()))
    os.truncate(tmp_path / "longer", 1_000_000_000)
    (tmp_path / "long").write_bytes((900_000_000).to_bytes(8, "little") + b"{")
    os.truncate(tmp_path / "long", 900_000_008)
    for name, message in {
        "fifo": "it is a FIFO, expected a regular file",
        "sparse": "holds 60,000,000,000 bytes or more; expected at most 1,000,000,000",
        "long": "a header of 900,000,000 bytes is announced",
    }.items():
        for read in (load, header):
            began = time.monotonic()
            with pytest.raises(PromptError, match=message):
                read(tmp_path / name)
            assert time.monotonic() - began < 1
    with pytest.raises(PromptError, match="cut short, damaged or something else"):
        load(tmp_path / "longer")


def test_a_link_below_a_strangers_folder_is_not_followed(tmp_path: Path) -> None:
    """F3: a file that its user names may be a link; a file of a library may not."""
    (tmp_path / "file").write_bytes(to_bytes(small()))
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "link").symlink_to(tmp_path / "file")
    for read in (load, header):
        read(tmp_path / "library" / "link")
        with pytest.raises(PromptError, match="link is a link"):
            read(tmp_path / "library" / "link", inside=tmp_path / "library")


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
