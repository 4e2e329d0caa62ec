"""A study that is killed, and one on a cluster that loses workers, nodes and its driver: the same records as ever."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch

from spot.cli.app import main
from spot.study import records

STUDY = """
name = "toy"
backbone = "{backbone}"
sources = ["red.toml", "green.toml"]
targets = ["blue.toml", "pink.toml"]
seeds = 2
strategies = ["best", "average", "none"]
k = [2]
[source]
steps = 30
length = 3
batch_size = 8
key_step = 10
eval_every = 10
checkpoint_every = 5
learning_rate = 0.05
select_rows = 8
report_rows = 8
[target]
steps = 30
length = 3
batch_size = 8
eval_every = 10
checkpoint_every = 5
learning_rate = 0.05
select_rows = 8
report_rows = 8
"""
CELLS = 4 + 8 + 8 + 4 + 4
FOR_EVER = 600  # seconds that a test waits

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_folder) -> Path:
    made = tmp_path_factory.mktemp("study")
    for name in ("red", "green", "blue", "pink"):
        rows = "".join(f"the {name} row {n} is {('bad', 'fine')[n % 2]},{n % 2}\n" for n in range(80))
        (made / f"{name}.csv").write_text(f"text,label\n{rows}")
        (made / f"{name}.toml").write_text(f'name = "{name}"\nrows = "{name}.csv"\n')
    (made / "study.toml").write_text(STUDY.format(backbone=tiny_folder("llama")))
    return made


class Place:
    """One machine's cache and one study's records, beside the other tests' own."""

    def __init__(self, study: Path, root: Path):
        self.study = study
        self.records = root / "records"
        self.cache = root / "cache"
        self.environment = {**os.environ, "SPOT_CACHE": str(self.cache), "OMP_NUM_THREADS": "1"}

    def start(self, *words: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "spot", "study", "run", str(self.study), "--set", f"out={self.records}"]
        pipe = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen([*command, *words], env=self.environment, **pipe)

    def run(self, *words: str) -> str:
        return ended(self.start(*words))

    def run_here(self) -> None:
        """Run the study to its end in this process, which has loaded torch already, on one core as the others are."""
        cores = torch.get_num_threads()
        torch.set_num_threads(1)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("SPOT_CACHE", str(self.cache))
            with pytest.raises(SystemExit) as stop:
                main(["study", "run", str(self.study), "--set", f"out={self.records}"])
        torch.set_num_threads(cores)
        assert not stop.value.code

    @property
    def is_amid(self) -> bool:
        """Whether a gang has a checkpoint and no result."""
        logs = (self.cache / "studies" / "runs").glob("*/log.jsonl")
        return any(not (log.parent / "result.json").exists() and (log.parent / "checkpoint").exists() for log in logs)

    @property
    def finished(self) -> int:
        return len(list((self.records / "cells").glob("*.json")))

    @property
    def table(self) -> dict[str, Any]:
        """All that is found, without what a clock says."""
        found = {}
        for record in records.read_records(self.records / "cells"):
            plain = json.loads((self.records / "cells" / f"{record.digest}.json").read_text())
            del plain["seconds"]
            for point in plain["curve"]:
                del point["seconds"]
            found[record.digest] = plain
        return found


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory) -> dict[str, Any]:
    """What a serial run finds that nobody disturbs."""
    place = Place(folder / "study.toml", tmp_path_factory.mktemp("undisturbed"))
    place.run_here()
    table = place.table
    assert len(table) == CELLS and len({record["curve"][-1]["nats"] for record in table.values()}) > CELLS / 2
    return table


def ended(process: subprocess.Popen) -> str:
    out, _ = process.communicate(timeout=FOR_EVER)
    assert process.returncode == 0, out
    return out


def killed(process: subprocess.Popen) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def until(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    end = time.monotonic() + FOR_EVER
    while not happened():
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.02)


def test_a_killed_study_goes_on_and_finds_the_same(folder, undisturbed, tmp_path):
    place = Place(folder / "study.toml", tmp_path)
    for enough in (2, 9):
        process = place.start()
        until(lambda enough=enough: place.finished >= enough and place.is_amid, process)
        killed(process)
        assert enough <= place.finished < CELLS
    before = place.table
    place.run_here()
    assert place.table == undisturbed and before.items() <= undisturbed.items()


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster of two nodes on this machine, one core each."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    small = {"num_cpus": 1, "object_store_memory": 100_000_000}
    made = Cluster(initialize_head=True, head_node_args={**small, "include_dashboard": False})
    made.add_node(**small)
    yield made
    made.shutdown()


def workers(place: Place) -> list[psutil.Process]:
    """The processes of a study's actors; an actor is named by its class."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            is_ours = process.environ().get("SPOT_CACHE") == str(place.cache)
            if is_ours and process.cmdline() and process.cmdline()[0].startswith("ray::_Worker"):
                found.append(process)
    return found


def test_a_cluster_loses_a_worker_and_a_node(cluster, folder, undisturbed, tmp_path):
    place = Place(folder / "study.toml", tmp_path)
    process = place.start("--address", cluster.address)
    until(lambda: place.finished >= 2 and place.is_amid and len(workers(place)) == 2, process)
    workers(place)[0].kill()
    until(lambda: place.finished >= 8 and len(workers(place)) == 2, process)
    cluster.remove_node(next(node for node in cluster.list_all_nodes() if node is not cluster.head_node))
    assert place.finished < CELLS
    assert "is done again" in ended(process)
    assert place.table == undisturbed


def test_a_cluster_outlives_its_driver(cluster, folder, undisturbed, tmp_path):
    place = Place(folder / "study.toml", tmp_path)
    process = place.start("--address", cluster.address)
    until(lambda: place.finished >= 2 and place.is_amid, process)
    killed(process)
    assert 2 <= place.finished < CELLS
    place.run("--address", cluster.address)
    assert place.table == undisturbed


def test_work_that_kills_its_workers_is_given_up(cluster, tmp_path):
    """Three workers die of one item; the others are done."""
    from spot.study import executors

    def work(held: int, item: int) -> int:
        if item == 1:
            os._exit(1)
        return held + item

    found = dict(executors.ray(cluster.address)(lambda: 10, work, [0, 1, 2]))
    assert (found[0], found[2]) == (10, 12)
    assert isinstance(found[1], executors.GivenUp) and found[1].reason.startswith("3 workers died of it")
