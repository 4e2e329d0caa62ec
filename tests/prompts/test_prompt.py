"""Prompt files: exact round trips, no damage unseen, clear refusals.

`data/prompt_format1.safetensors` was made once, by this, and must load with these values for ever:

    from spot.prompt import BackboneId, KeyRecipe, Parent, SoftPrompt, save
    from spot.sketch import build
    save(
        SoftPrompt(
            value=[[0.5, -1.25, 3.0, 1e-7], [0.0, 65504.0, -0.1, 2.0]],
            key=[[0.25, -1.0, 2.5, 0.0], [0.0, 1.0, 0.125, 2.0]],
            start=[[0.0, -1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 2.0]],
            backbone=BackboneId("embedded", "causal", 4, 49152, "00112233445566778899aabbccddeeff"),
            task="glue/sst2",
            step=200,
            sketch=build(
                ["it 's a charming and often affecting journey .", "unflinchingly bleak and desperate"]
            ),
            task_revision="1",
            seed=7,
            initialiser="vocabulary",
            parents=(Parent("0123456789abcdef", 0.75), Parent("fedcba9876543210", 0.25)),
            key_recipe=KeyRecipe(40, 2, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96),
            config={"steps": 200, "task": "glue/sst2", "train_rows": None, "text": "\u00e9"},
            scores={"accuracy": 84.0},
            frozen_scores={"accuracy": 51.25},
            data_digest="aaaaaaaaaaaaaaaa",
            code_version="0.1.0",
        ),
        "tests/data/prompt_format1.safetensors",
    )
"""

import errno
import json
import os
import subprocess
import sys
from dataclasses import FrozenInstanceError, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from spot.errors import PromptError, StorageError
from spot.prompts.overlap import build, contains
from spot.prompts.prompt import BackboneId, KeyRecipe, Parent, SoftPrompt, from_bytes, header, load, save, to_bytes
from spot.reading import Reading

GOLDEN = Path(__file__).parents[1] / "data" / "prompt_format1.safetensors"
BACKBONE = BackboneId(name="embedded", kind="causal", width=3, vocabulary=50, fingerprint="f" * 16)
RECIPE = KeyRecipe(40, 2, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96)


def small(**changes: Any) -> SoftPrompt:
    """A prompt of two tokens with every field set."""
    content: dict[str, Any] = {
        "value": np.arange(6).reshape(2, 3),
        "key": np.full((2, 3), 0.5),
        "start": np.zeros((2, 3)),
        "backbone": BACKBONE,
        "task": "cr",
        "step": 20,
        "sketch": build(["a text that is long enough to be sketched"]),
        "task_revision": "r1",
        "seed": 3,
        "initialiser": "vocabulary",
        "parents": (Parent("0123456789abcdef", 1.0),),
        "key_recipe": RECIPE,
        "config": {"steps": 20, "nested": {"list": [1, None, True, "é"]}},
        "scores": {"accuracy": 90.0},
        "frozen_scores": {"accuracy": 50.0},
        "data_digest": "d" * 16,
        "code_version": "0.1",
    }
    return SoftPrompt(**{**content, **changes})


def assert_same(one: SoftPrompt, other: SoftPrompt) -> None:
    """Field by field, arrays bit by bit."""
    for entry in fields(SoftPrompt):
        ours, theirs = getattr(one, entry.name), getattr(other, entry.name)
        if entry.name == "sketch" and ours is not None:
            assert ours.hashes == theirs.hashes
            ours, theirs = ours.bits, theirs.bits
        if isinstance(ours, np.ndarray):
            assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape)
            assert ours.tobytes() == theirs.tobytes()
        else:
            assert ours == theirs
    assert one.digest == other.digest


def test_the_golden_file_loads_for_ever() -> None:
    """Format 1, with every field, exactly."""
    prompt = load(GOLDEN)
    expected = np.array([[0.5, -1.25, 3.0, 1e-7], [0.0, 65504.0, -0.1, 2.0]], dtype=np.float32)
    assert prompt.value.dtype == np.float32 and np.array_equal(prompt.value, expected)
    assert prompt.key is not None and prompt.start is not None and prompt.sketch is not None
    assert prompt.key.tolist() == [[0.25, -1.0, 2.5, 0.0], [0.0, 1.0, 0.125, 2.0]]
    assert prompt.start.tolist() == [[0.0, -1.0, 2.0, 0.0], [0.0, 0.0, 0.0, 2.0]]
    assert prompt.backbone == BackboneId("embedded", "causal", 4, 49152, "00112233445566778899aabbccddeeff")
    assert (prompt.task, prompt.step, prompt.task_revision, prompt.seed) == ("glue/sst2", 200, "1", 7)
    assert contains(prompt.sketch, "It's a charming and often affecting journey.")
    assert not contains(prompt.sketch, "a sentence that was never trained on")
    assert prompt.initialiser == "vocabulary"
    assert prompt.parents == (Parent("0123456789abcdef", 0.75), Parent("fedcba9876543210", 0.25))
    assert prompt.key_recipe == KeyRecipe(40, 2, "vocabulary", 0, "adamw", 0.005, 0.0, 16, 96)
    assert prompt.config == {"steps": 200, "task": "glue/sst2", "train_rows": None, "text": "é"}
    assert (prompt.scores, prompt.frozen_scores) == ({"accuracy": 84.0}, {"accuracy": 51.25})
    assert (prompt.data_digest, prompt.code_version) == ("aaaaaaaaaaaaaaaa", "0.1.0")
    assert prompt.digest == header(GOLDEN)["digest"] == "2bf290a49d5e189c"
    assert to_bytes(prompt) == GOLDEN.read_bytes()


def test_a_file_is_plain_safetensors(tmp_path: Path) -> None:
    """Any reader of safetensors finds the arrays and our header."""
    prompt = small()
    save(prompt, tmp_path / "p.safetensors")
    with safe_open(tmp_path / "p.safetensors", "np") as file:
        assert sorted(file.keys()) == ["key", "sketch", "start", "value"]
        assert np.array_equal(file.get_tensor("value"), prompt.value)
        assert file.get_tensor("sketch").dtype == np.uint8
        content = json.loads(file.metadata()["spot"])
    assert content["format"] == 1 and content["task"] == "cr" and content["backbone"]["width"] == 3


def test_round_trip(tmp_path: Path) -> None:
    """Everything set, and nothing set but what must be."""
    bare = SoftPrompt(value=np.ones((1, 3)), backbone=BACKBONE, task="cr", step=0)
    for prompt in (small(), bare):
        save(prompt, tmp_path / "p.safetensors")
        assert_same(load(str(tmp_path / "p.safetensors")), prompt)
    assert (bare.length, bare.width) == (1, 3)
    assert (bare.key, bare.start, bare.sketch, bare.parents, bare.seed) == (None, None, None, (), None)


numbers = st.floats(width=32, allow_nan=False, allow_infinity=False)
texts = st.text(max_size=20)
percents = st.dictionaries(texts, st.floats(-100, 100) | st.integers(0, 100), max_size=3)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def prompts(draw: st.DrawFn) -> SoftPrompt:
    """Any prompt at all."""
    length, width = draw(st.integers(1, 4)), draw(st.integers(1, 5))
    array = st.lists(numbers, min_size=length * width, max_size=length * width).map(
        lambda values: np.array(values, dtype=np.float32).reshape(length, width)
    )
    recipe = st.builds(
        KeyRecipe,
        step=st.integers(1, 10_000_000),
        length=st.integers(1, 10_000),
        init=st.text(min_size=1, max_size=20),
        init_seed=st.integers(0, 2**32 - 1),
        optimiser=st.sampled_from(["adamw", "adafactor"]),
        learning_rate=st.floats(0, 3e37, exclude_min=True) | st.just(1),
        weight_decay=st.floats(0, 1, exclude_max=True) | st.just(0),
        batch_size=st.integers(1, 100_000),
        max_input_tokens=st.integers(1, 10**9),
    )
    return SoftPrompt(
        value=draw(array),
        backbone=BackboneId(
            draw(texts), draw(st.sampled_from(["causal", "seq2seq"])), width, draw(st.integers(0, 10**6)), draw(texts)
        ),
        task=draw(texts),
        step=draw(st.integers(0, 10**9)),
        key=draw(st.none() | array),
        start=draw(st.none() | array),
        sketch=draw(st.none() | st.lists(texts, max_size=3).map(build)),
        task_revision=draw(texts),
        seed=draw(st.none() | st.integers(-(2**63), 2**63 - 1)),
        initialiser=draw(texts),
        parents=tuple(draw(st.lists(st.builds(Parent, texts, st.floats(0, 1)), max_size=2))),
        key_recipe=draw(st.none() | recipe),
        config=draw(st.dictionaries(texts, json_values, max_size=3)),
        scores=draw(percents),
        frozen_scores=draw(percents),
        data_digest=draw(texts),
        code_version=draw(texts),
    )


@settings(deadline=None)
@given(prompt=prompts())
def test_any_prompt_comes_back(prompt: SoftPrompt) -> None:
    """Bit by bit, and the same bytes again; its header says the same without the arrays."""
    data = to_bytes(prompt)
    again = from_bytes(data)
    assert_same(again, prompt)
    assert to_bytes(again) == data


@settings(deadline=None)
@given(prompt=prompts(), data=st.data())
def test_no_flipped_bit_goes_unseen(prompt: SoftPrompt, data: st.DataObject) -> None:
    """Any bit of any prompt file."""
    content = bytearray(to_bytes(prompt))
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    content[bit // 8] ^= 1 << bit % 8
    with pytest.raises(PromptError):
        from_bytes(bytes(content))


def test_every_bit_and_every_length_of_one_file() -> None:
    """Exhaustively: each bit flipped, each shorter length, a byte too many."""
    good = to_bytes(small(config={}, sketch=None, key=None))
    for bit in range(8 * len(good)):
        content = bytearray(good)
        content[bit // 8] ^= 1 << bit % 8
        with pytest.raises(PromptError):
            from_bytes(bytes(content))
    for length in range(len(good)):
        with pytest.raises(PromptError):
            from_bytes(good[:length])
    with pytest.raises(PromptError):
        from_bytes(good + b"\0")


def test_equal_prompts_give_equal_bytes_in_every_process(tmp_path: Path) -> None:
    """The order of mappings and the hash seed of the interpreter make no difference."""
    one = small(config={"a": 1, "b": 2}, scores={"x": 1, "y": 2.0})
    other = small(config={"b": 2, "a": 1}, scores={"y": 2.0, "x": 1.0})
    assert to_bytes(one) == to_bytes(other)
    assert to_bytes(replace(one)) == to_bytes(one)
    save(one, tmp_path / "p.safetensors")
    code = (
        "import sys\nfrom spot.prompts.prompt import load, to_bytes\n"
        "sys.stdout.buffer.write(to_bytes(load(sys.argv[1])))"
    )
    for seed in ("1", "2"):
        command = [sys.executable, "-c", code, str(tmp_path / "p.safetensors")]
        environment = {**os.environ, "PYTHONHASHSEED": seed}
        written = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True).stdout
        assert written == to_bytes(one)


@pytest.mark.parametrize("name", [entry.name for entry in fields(SoftPrompt)])
def test_the_digest_covers_every_field(name: str) -> None:
    """Another value of any one field is another prompt."""
    other: dict[str, Any] = {
        "value": np.ones((2, 3)),
        "key": np.ones((2, 3)),
        "start": None,
        "sketch": build(["another text that is long enough"]),
        "backbone": replace(BACKBONE, vocabulary=51),
        "step": 21,
        "seed": None,
        "parents": (Parent("0123456789abcdef", 0.5),),
        "key_recipe": replace(RECIPE, learning_rate=0.01),
        "config": {"steps": 21},
        "scores": {"accuracy": 90.5},
        "frozen_scores": {},
        "reading": Reading(cue="A:"),
    }
    digest = small(**{name: other.get(name, "other")}).digest
    assert digest != small().digest == small().digest
    assert len(digest) == 16 and set(digest) <= set("0123456789abcdef")


def test_the_header_alone(tmp_path: Path) -> None:
    """Every field but the arrays, with defaults filled in; it reads no further than it must."""
    path = tmp_path / "p.safetensors"
    save(small(), path)
    found = header(path)
    data = path.read_bytes()
    path.write_bytes(data[: 8 + int.from_bytes(data[:8], "little")])
    assert header(path) == found
    assert found == {
        "format": 1,
        "digest": small().digest,
        "length": 2,
        "width": 3,
        "arrays": ["key", "sketch", "start", "value"],
        "backbone": {"name": "embedded", "kind": "causal", "width": 3, "vocabulary": 50, "fingerprint": "f" * 16},
        "task": "cr",
        "step": 20,
        "task_revision": "r1",
        "seed": 3,
        "initialiser": "vocabulary",
        "parents": [{"digest": "0123456789abcdef", "weight": 1.0}],
        "key_recipe": RECIPE.to_json(),
        "config": {"steps": 20, "nested": {"list": [1, None, True, "é"]}},
        "scores": {"accuracy": 90.0},
        "frozen_scores": {"accuracy": 50.0},
        "data_digest": "d" * 16,
        "code_version": "0.1",
        "reading": None,
    }
    save(SoftPrompt(value=np.ones((1, 3)), backbone=BACKBONE, task="cr", step=0), path)
    bare = header(path)
    assert set(bare) == set(found)
    assert (bare["parents"], bare["key_recipe"], bare["config"], bare["arrays"]) == ([], None, {}, ["value"])


def test_a_recipe_says_in_a_file_what_is_not_by_default_and_comes_back(tmp_path: Path) -> None:
    """So that prompts of recipes that came before keep their digests."""
    first = ("step", "length", "init", "init_seed", "optimiser", "learning_rate", "weight_decay", "batch_size")
    assert tuple(RECIPE.to_json()) == (*first, "max_input_tokens")
    changed = replace(RECIPE, reparameterise="residual", bottleneck=64, decay="linear", decay_steps=96)
    prompt = small(key_recipe=changed)
    save(prompt, tmp_path / "p.safetensors")
    stored = header(tmp_path / "p.safetensors")["key_recipe"]
    assert stored.keys() - RECIPE.to_json().keys() == {"reparameterise", "bottleneck", "decay", "decay_steps"}
    assert load(tmp_path / "p.safetensors").key_recipe == changed == KeyRecipe(**stored)
    assert prompt.digest != small().digest


def test_a_flipped_bit_in_the_header_is_seen_without_the_arrays(tmp_path: Path) -> None:
    """A library's index is made from headers alone."""
    path = tmp_path / "p.safetensors"
    data = to_bytes(small())
    path.write_bytes(data.replace(b"accuracy", b"accurac9"))
    with pytest.raises(PromptError, match="the header does not match its checksum"):
        header(path)


def test_prompts_are_values() -> None:
    """Arrays are copied and read-only, float32 whatever they were; fields cannot be set."""
    mine = np.ones((2, 3), dtype=np.float64)
    prompt = small(value=mine, config=(config := {"steps": 1}))
    mine[0, 0] = 5
    config["steps"] = 2
    assert prompt.value[0, 0] == 1 and prompt.value.dtype == np.float32 and prompt.config == {"steps": 1}
    with pytest.raises(ValueError, match="read-only"):
        prompt.value[0, 0] = 5
    with pytest.raises(FrozenInstanceError):
        prompt.task = "other"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"value": np.zeros(3)}, r"task 'cr' has value \[3\]; expected \[P, 3\]"),
        ({"value": np.zeros((0, 3))}, r"value \[0, 3\]; expected \[P, 3\]"),
        ({"value": np.zeros((2, 4))}, r"value \[2, 4\]; expected \[P, 3\], P tokens of the width of embedded"),
        ({"key": np.zeros((3, 3))}, r"has key \[3, 3\]; expected \[2, 3\], as value"),
        ({"start": np.zeros((2, 1))}, r"has start \[2, 1\]; expected \[2, 3\], as value"),
        ({"value": np.full((2, 3), np.nan)}, "has value with 6 of 6 numbers NaN or infinite.*lower learning rate"),
        ({"key": [[0, 0, 0], [0, np.inf, 0]]}, "has key with 1 of 6 numbers NaN or infinite"),
        ({"start": [[0, 0, 0], [0, 1e300, 0]]}, "has start with 1 of 6 numbers NaN or infinite"),
        ({"scores": {"accuracy": float("nan")}}, "scores of a prompt must hold JSON values and finite numbers"),
        ({"parents": (Parent("0123", np.inf),)}, "parents and key recipe of a prompt must hold .* finite"),
        ({"key_recipe": replace(RECIPE, learning_rate=np.nan)}, "parents and key recipe of a prompt must"),
        ({"config": {"path": Path("x")}}, "config of a prompt must hold JSON values and finite numbers"),
        ({"config": {"steps": 10**400}}, "cannot be kept: .*the integer 1000.* is out of range"),
        ({"config": {"max_input_tokens": "many"}}, "max_input_tokens of the prompt's settings is 'many'"),
        ({"scores": {"accuracy": 1e9}}, "the field 'scores.accuracy' holds 1000000000.0; it should be less than"),
        ({"task": "\ud800"}, "cannot be kept: it is not JSON"),
        ({"task": 3}, "the field 'task' holds 3; it should be a valid string"),
        ({"step": -1}, "the field 'step' holds -1; it should be greater than or equal to 0"),
        ({"step": True}, "the field 'step' holds True; it should be a valid integer"),
        ({"key_recipe": replace(RECIPE, decay="steep")}, "decay is 'steep'; it should be 'none', 'linear' or 'cosine'"),
        ({"key_recipe": replace(RECIPE, bottleneck=0)}, "bottleneck is 0; it should be greater than or equal to 1"),
        ({"key_recipe": replace(RECIPE, step=-5)}, "key_step is -5; it should be greater than or equal to 1"),
        ({"backbone": replace(BACKBONE, kind="other")}, "the field 'backbone.kind' holds 'other'"),
    ],
)
def test_impossible_prompts_are_refused(changes: dict[str, Any], message: str) -> None:
    """Shapes, NaN, infinity (also what only float64 can hold), values that no file can keep."""
    with pytest.raises(PromptError, match=message):
        small(**changes)


def test_a_full_disk_keeps_the_old_prompt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Saving goes through whole files."""
    path = tmp_path / "p.safetensors"
    save(small(), path)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match="No space left on device"):
        save(small(step=21), path)
    monkeypatch.undo()
    assert load(path).step == 20
    assert [entry.name for entry in tmp_path.iterdir()] == ["p.safetensors"]


def test_torch_stays_out() -> None:
    """The file format, its users below the engine and the configuration start without torch."""
    code = (
        "import sys, spot.prompts.prompt, spot.config, spot.storage.run_dir, spot.prompts.overlap, spot.storage\n"
        "print([name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"
