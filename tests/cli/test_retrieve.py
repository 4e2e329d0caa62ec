"""`spot retrieve`: sources in their order, never the target itself."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np

from tests.support.commands import Spot, refused
from tests.support.tuned_tasks import TunedTasks


def test_retrieve(spot: Spot, tuned_tasks: TunedTasks):
    words = ["retrieve", tuned_tasks.task(), "--library", tuned_tasks.library, *tuned_tasks.model, "-k", 2]
    for metric in ("mean", "token", "max"):
        found = spot(*words, "--rank-by", metric, "--json").json
        assert (found["target"], found["rank_by"]) == ("mood", metric)
        assert {source["task"] for source in found["sources"]} == {"answer", "animal"}
        assert all(list(source) == ["prompt", "task", "similarity"] for source in found["sources"])
        similarities = [source["similarity"] for source in found["sources"]]
        assert similarities == sorted(similarities, reverse=True) and max(similarities) <= 1
    assert found["sources"][0]["prompt"] in spot(*words, "--rank-by", "max").out


def test_retrieve_never_names_the_target_itself(spot: Spot, tuned_tasks: TunedTasks):
    words = [tuned_tasks.task("animal"), "--library", tuned_tasks.library, *tuned_tasks.model, "-k", 1, "--json"]
    assert [source["task"] for source in spot("retrieve", *words).json["sources"]] == ["answer"]


def test_as_many_as_there_are_where_nobody_says_how_many(spot: Spot, tuned_tasks: TunedTasks):
    words = ["retrieve", tuned_tasks.task(), "--library", tuned_tasks.library, *tuned_tasks.model]
    assert len(spot(*words, "--json").json["sources"]) == 2
    refused(spot(*words, "-k", 3), "k is 3, but", "holds 2 candidates")


def test_a_torn_index_changes_nothing(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    """F5: NaN gave an empty ranking with exit 0, zeros 0.000 for all, a changed header another task."""
    library = tmp_path / "library"
    shutil.copytree(tuned_tasks.library, library)
    words = ["retrieve", tuned_tasks.task(), "--library", library, *tuned_tasks.model, "--json"]
    expected = spot(*words).json["sources"]
    listed = spot("library", "list", "--library", library, "--json").json
    for value in (np.nan, 0.0):
        with closing(sqlite3.connect(library / "index.sqlite")) as database, database:
            size = len(database.execute("SELECT vector FROM vectors").fetchone()[0])
            database.execute("UPDATE vectors SET vector = ?", (np.full(size // 4, value, "<f4").tobytes(),))
            database.execute("UPDATE headers SET header = replace(header, 'answer', 'PWNED')")
        assert "index.sqlite" in spot("library", "verify", "--library", library).out
        assert spot(*words).json["sources"] == expected
        assert spot("library", "list", "--library", library, "--json").json == listed


def test_a_wrong_line_of_the_history_is_named(spot: Spot, tuned_tasks: TunedTasks, tmp_path: Path):
    """F6, F14: `retrieve --rank-by learned` and `library verify` name the file and the line."""
    library = tmp_path / "library"
    shutil.copytree(tuned_tasks.library, library)
    words = ["retrieve", tuned_tasks.task(), "--library", library, *tuned_tasks.model, "--rank-by", "learned"]
    for line in ("{}", "[" * 100_000, '{"source": "a", "target": [], "gain": 1}', '{"gain": 1' + "0" * 400 + "}"):
        (library / "transfers.jsonl").write_text(f"{line}\n")
        refused(spot(*words), "transfers.jsonl: line 1 is no record of a transfer")
        result = spot("library", "verify", "--library", library)
        assert result.code == 2 and "transfers.jsonl: line 1 is no record of a transfer" in result.out
