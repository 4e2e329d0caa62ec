"""Numpy files, in and out."""

import errno
import os
import pickle
import re
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spot.errors import PromptError, StorageError
from spot.interchange import export_npy, import_npy
from spot.prompts.prompt import BackboneId, SoftPrompt

BACKBONE = BackboneId("google/t5-tiny-lm-adapt", "seq2seq", 6, 64, "f" * 32)


def vectors(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape or (4, 6)).astype(np.float32)


def prompt() -> SoftPrompt:
    return SoftPrompt(value=vectors(), backbone=BACKBONE, task="glue/sst2", step=200)


def test_a_round_trip_is_exact(tmp_path: Path):
    path = export_npy(prompt(), tmp_path / "deep" / "one.npy")
    assert path == tmp_path / "deep" / "one.npy"
    plain = np.load(path, allow_pickle=False)
    assert plain.dtype == np.float32 and plain.tobytes() == prompt().value.tobytes()
    back = import_npy(path, BACKBONE, "mine")
    assert back.value.tobytes() == prompt().value.tobytes()
    assert (back.task, back.backbone, back.step, back.initialiser) == ("mine", BACKBONE, 0, "imported from numpy")
    assert (back.key, back.start, back.parents, back.config) == (None, None, (), {"imported": {"dtype": "float32"}})


def test_googles_released_prompts(shared: Path):
    backbone = BackboneId("google/t5-base-lm-adapt", "seq2seq", 768, 32128, "f" * 32)
    for task, begin in [("sst2", "74a421fd"), ("mrpc", "b8ef8439")]:
        path = shared / "fixtures" / "official_prompts" / f"{task}.npy"
        assert sha256(path.read_bytes()).hexdigest().startswith(begin)
        back = import_npy(path, backbone, task)
        assert (back.length, back.width) == (100, 768)
        assert back.value.tobytes() == np.load(path).tobytes()


@pytest.mark.parametrize("name", ["encoder.prompt.prompt.prompt", "plain"])
def test_the_suffix_may_be_missing(tmp_path: Path, name: str):
    (tmp_path / name).write_bytes(export_npy(prompt(), tmp_path / "x.npy").read_bytes())
    assert import_npy(tmp_path / name, BACKBONE, "t").value.tobytes() == prompt().value.tobytes()
    assert import_npy(str(tmp_path / "x"), BACKBONE, "t").value.tobytes() == prompt().value.tobytes()


@pytest.mark.parametrize("dtype", ["<f8", ">f4", "<f2", "<f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_other_layouts_of_floats(tmp_path: Path, dtype: str, order: str):
    stored = np.asarray(vectors(), dtype=dtype, order=order)
    np.save(tmp_path / "a.npy", stored)
    back = import_npy(tmp_path / "a.npy", BACKBONE, "t").value
    assert back.dtype == np.float32 and back.flags.c_contiguous
    assert np.array_equal(back, stored.astype(np.float32))


@pytest.mark.parametrize("shape", [(6,), (4, 5), (2, 2, 6), (0, 6), ()])
def test_the_shape_must_fit(tmp_path: Path, shape: tuple[int, ...]):
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    message = f"a.npy: the prompt of task 't' has value {list(shape)}; expected [P, 6], P tokens of the width of google"
    with pytest.raises(PromptError, match=re.escape(message)):
        import_npy(tmp_path / "a.npy", BACKBONE, "t")


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_numbers_must_be_finite_in_float32(tmp_path: Path, bad: float):
    stored = vectors().astype(np.float64)
    stored[1, 2] = bad
    np.save(tmp_path / "a.npy", stored)
    with pytest.raises(PromptError, match=r"a.npy: .* value with 1 of 24 numbers NaN or infinite; expected finite"):
        import_npy(tmp_path / "a.npy", BACKBONE, "t")


@pytest.mark.parametrize("dtype", ["int64", "bool", "complex64", "U3", "M8[s]", [("a", "f4")]])
def test_only_floats_are_vectors(tmp_path: Path, dtype: object):
    np.save(tmp_path / "a.npy", np.zeros((4, 6), dtype))
    with pytest.raises(PromptError, match=r"a.npy: the array is of .*; expected floating-point numbers"):
        import_npy(tmp_path / "a.npy", BACKBONE, "t")


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_no_code_in_a_numpy_file_is_run(tmp_path: Path):
    trap = Trap(tmp_path / "sprung")
    np.save(tmp_path / "objects.npy", np.array([[trap]], dtype=object), allow_pickle=True)
    (tmp_path / "pickle.npy").write_bytes(pickle.dumps(trap))
    for name in ("objects", "pickle"):
        with pytest.raises(PromptError, match=rf"{name}.npy: this is no numpy file of one plain array \("):
            import_npy(tmp_path / f"{name}.npy", BACKBONE, "t")
    assert not (tmp_path / "sprung").exists()


def test_what_is_no_numpy_file_is_named(tmp_path: Path):
    np.savez(tmp_path / "several.npz", a=vectors(), b=vectors())
    huge = export_npy(prompt(), tmp_path / "x.npy").read_bytes().replace(b"(4, 6)", b"(4000000000000, 6)")
    whole = (tmp_path / "x.npy").read_bytes()
    contents = {
        "several.npz": (tmp_path / "several.npz").read_bytes(),
        "cut.npz": (tmp_path / "several.npz").read_bytes()[:100],
        "text.npy": b"hello",
        "empty.npy": b"",
        "huge.npy": huge,
        "cut.npy": whole[:-1],
        "head.npy": whole[:40],
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(
            PromptError, match=rf"{name}: this is no numpy file of one plain array \(.*expected float32"
        ):
            import_npy(tmp_path / name, BACKBONE, "t")
    with pytest.raises(PromptError, match=r"cannot read the numpy file .*none.npy: .*. Check the path"):
        import_npy(tmp_path / "none.npy", BACKBONE, "t")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damage_is_refused_or_read_as_floats(tmp_path: Path, data: st.DataObject):
    content = bytearray(export_npy(prompt(), tmp_path / "x.npy").read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, 127))] = data.draw(st.integers(0, 255))
    (tmp_path / "damaged.npy").write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert import_npy(tmp_path / "damaged.npy", BACKBONE, "t").width == 6
    except PromptError as error:
        assert "damaged.npy" in str(error)


def test_only_numpy_files_are_replaced(tmp_path: Path):
    (tmp_path / "rows.csv").write_text("mine")
    with pytest.raises(StorageError, match=r"rows.csv is there and is no numpy file; it stays as it is. Name another"):
        export_npy(prompt(), tmp_path / "rows.csv")
    assert (tmp_path / "rows.csv").read_text() == "mine"
    np.save(tmp_path / "old.npy", np.zeros(3))
    assert import_npy(export_npy(prompt(), tmp_path / "old.npy"), BACKBONE, "t").length == 4
    os.mkfifo(tmp_path / "fifo")
    for path, named in ((tmp_path, "it is a folder"), (tmp_path / "fifo", "it is a FIFO")):
        with pytest.raises(StorageError, match=named):
            export_npy(prompt(), path)
        with pytest.raises(PromptError, match=named):
            import_npy(path, BACKBONE, "t")


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    np.save(tmp_path / "old.npy", np.zeros(3))

    def full(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(StorageError, match=r"cannot write .*old.npy .*No space left on device"):
        export_npy(prompt(), tmp_path / "old.npy")
    monkeypatch.undo()
    assert np.array_equal(np.load(tmp_path / "old.npy"), np.zeros(3))
    assert len(list(tmp_path.iterdir())) == 1
