"""`spot export` and `spot import`: every bit is kept."""

from pathlib import Path

import numpy as np

from spot.prompts.prompt import load
from tests.support.commands import Spot
from tests.support.tuned_tasks import TunedTasks


def test_export_and_import_keep_every_bit(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    prompt = load(tuned_tasks.run() / "prompt.safetensors")
    peft = spot("export", tuned_tasks.run(), "--to", "peft", "--out", tmp_path / "peft", "--json").json
    assert peft == {"prompt": prompt.digest, "format": "peft", "path": str(tmp_path / "peft")}
    for out in (tmp_path / "folder", tmp_path / "mood.npy"):
        plain = spot("export", tuned_tasks.run(), "--to", "numpy", "--out", out, "--json").json
        assert np.array_equal(np.load(plain["path"]), prompt.value)
    for number, source in enumerate((peft["path"], plain["path"])):
        out = tmp_path / f"{number}.safetensors"
        found = spot("import", source, *tuned_tasks.model, "--task", "mood", "--out", out, "--json").json
        assert (found["path"], found["task"], found["length"]) == (str(out), "mood", 3)
        assert np.array_equal(load(out).value, prompt.value)
