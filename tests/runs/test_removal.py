"""What goes from the cache, and what must not: held runs, links, what lies outside, what nothing brings back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from spot.errors import ConfigError, RunError, StorageError
from spot.runs.listing import list_cache
from spot.runs.removal import chosen_entries, read_age, remove_entries
from spot.storage.run_dir import RunDir
from tests.support.cached_runs import grow_old, write_run

HOLD = """
import sys
from spot.storage.run_dir import RunDir
with RunDir(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""


def names() -> set[str]:
    return {entry.name for entry in list_cache()}


def test_a_run_goes_with_all_its_files_and_the_others_stay(own_cache):
    gone, stays = write_run(own_cache / "runs" / "ab12"), write_run(own_cache / "runs" / "cd34")
    [entry] = remove_entries(chosen_entries(["ab"]))
    assert entry.path == gone and not gone.exists() and len(list(stays.iterdir())) == 4
    assert os.listdir(own_cache / "runs") == ["cd34"]


def test_unfinished_and_old_runs_are_chosen_together_or_alone(own_cache):
    for number, (name, finished) in enumerate({"old": True, "older": False, "new": False, "fine": True}.items()):
        path = write_run(own_cache / "runs" / name, finished=finished)
        grow_old(path, days=(40, 50, 1, 0)[number])
    (own_cache / "downloads").mkdir()
    grow_old(own_cache / "downloads", days=90)

    def chosen(**options: object) -> set[str]:
        return {entry.name for entry in chosen_entries((), **options)}

    assert chosen(unfinished=True) == {"older", "new"}
    assert chosen(older="30d") == {"old", "older"}
    assert chosen(older="7w", unfinished=True) == {"older"}
    assert chosen(older="45d") == {"older"} and chosen(older="60d") == set()
    with pytest.raises(ConfigError, match="nothing says which"):
        chosen_entries(())
    with pytest.raises(ConfigError, match="a number and h, d or w"):
        chosen(older="soon")
    assert read_age("1.5h") == 5400


def test_what_another_process_holds_stays_whole(own_cache):
    transfer = own_cache / "transfers" / "reviews-1"
    write_run(transfer / "plain-classes")
    held = write_run(transfer / "spot-0", finished=False)
    before = sorted(transfer.rglob("*"))
    command = [sys.executable, "-c", HOLD, str(held)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        assert next(entry for entry in list_cache() if entry.name == "reviews-1").state == "running"
        with pytest.raises(StorageError, match=rf"in use by another writer \(pid {process.pid}\)"):
            remove_entries(chosen_entries(["reviews"]))
        assert sorted(transfer.rglob("*")) == before
        process.communicate()
    remove_entries(chosen_entries(["reviews"]))
    assert not transfer.exists()


def test_links_go_and_what_they_lead_to_stays(own_cache, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis").write_text("years of work")
    run = write_run(own_cache / "runs" / "ab12")
    (run / "out").symlink_to(mine)
    (run / "thesis").symlink_to(mine / "thesis")
    (run / "odd.lock").symlink_to(mine / "thesis")
    remove_entries(chosen_entries(["ab"]))
    assert not run.exists() and (mine / "thesis").read_text() == "years of work"


def test_a_folder_that_became_a_link_meanwhile_is_not_followed(own_cache, tmp_path):
    write_run(own_cache / "runs" / "ab12")
    entries = chosen_entries(["ab"])
    os.rename(own_cache / "runs", tmp_path / "runs")
    (own_cache / "runs").symlink_to(tmp_path / "runs")
    with pytest.raises(StorageError, match="link"):
        remove_entries(entries)
    assert (tmp_path / "runs" / "ab12" / "result.json").exists()


def test_what_has_to_stay_is_refused_with_its_reason(own_cache, tmp_path):
    (own_cache / "experience.jsonl").write_text("{}\n")
    (own_cache / "notes.txt").write_text("mine")
    (own_cache / "runs").mkdir()
    (own_cache / "runs" / "link").symlink_to(write_run(tmp_path / "far"))
    for name, reason in {
        "experience": "nothing brings back",
        "notes.txt": "does not know it",
        "link": "is a link",
    }.items():
        with pytest.raises(RunError, match=reason):
            chosen_entries([name])
    with pytest.raises(RunError, match="not inside the cache"):
        chosen_entries([str(tmp_path / "far")])


def test_stores_and_files_go_by_name(own_cache):
    (own_cache / "probes").mkdir()
    (own_cache / "probes" / "x.json").write_text("{}")
    (own_cache / "precision.json").write_text("{}")
    remove_entries(chosen_entries(["probes", "precision"]))
    assert os.listdir(own_cache) == []


def test_a_removal_that_was_stopped_is_listed_and_taken_up(own_cache, monkeypatch):
    run = write_run(own_cache / "runs" / "ab12")

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            remove_entries(chosen_entries(["ab"]))
    assert not run.exists(), "no run is half there under its own name"
    [left] = list_cache()
    assert (left.state, left.may_go) == ("left over", True)
    with RunDir(run) as folder:  # and the run can begin anew meanwhile
        folder.create("steps = 4\n", "12ab")
    remove_entries(chosen_entries([left.name]))
    assert names() == {"ab12"}


def test_what_is_gone_already_is_no_error(own_cache):
    run = write_run(own_cache / "runs" / "ab12")
    entries = chosen_entries(["ab"])
    for _ in range(2):
        remove_entries(entries)
    assert not run.exists() and Path(own_cache).exists()
