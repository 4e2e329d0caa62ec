"""`spot demo`: what it hands to the main job, and what it prints of it."""

from pathlib import Path

import pytest

from spot import demo
from spot.models.backbone import Backbone
from tests.support.commands import Spot, refused


def test_the_command_runs_the_main_job_on_the_packaged_library(
    spot: Spot, tiny_folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    calls, load = [], Backbone.load

    def run(model, library, **options):
        calls.append((library.backbone.name, options["target"], options["out"]))
        return demo.build(options["target"], tmp_path)

    monkeypatch.setattr(Backbone, "load", classmethod(lambda cls, name, quantise: load(str(tiny_folder("llama")))))
    monkeypatch.setattr(demo, "run", run)
    result = spot("demo", "--target", "demo/nothing", "--out", tmp_path)
    refused(result, "no demo target 'demo/nothing'")
    assert calls == [("embedded", "demo/nothing", tmp_path)]
