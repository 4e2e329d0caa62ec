"""The list of the cache: every kind, damaged ones with their reason, links that are not followed, names by prefix."""

import pytest

from spot.errors import RunError
from spot.runs.listing import CacheEntry, find_entry, gang_folders, list_cache
from tests.support.cached_runs import grow_old, write_run


def by_name() -> dict[str, CacheEntry]:
    return {entry.name: entry for entry in list_cache()}


def test_an_empty_or_missing_cache_lists_nothing(own_cache, monkeypatch, tmp_path):
    assert list_cache() == ()
    monkeypatch.setenv("SPOT_CACHE", str(tmp_path / "nowhere"))
    assert list_cache() == () and not (tmp_path / "nowhere").exists()


def test_runs_come_first_and_the_latest_of_them_first(own_cache):
    grow_old(write_run(own_cache / "runs" / "aaa1"), days=9)
    write_run(own_cache / "runs" / "bbb2", finished=False)
    write_run(own_cache / "transfers" / "reviews-12" / "plain-vocabulary", score=60.0)
    write_run(own_cache / "transfers" / "reviews-12" / "spot-0-12ab", score=90.0)
    grow_old(own_cache / "transfers", days=2)
    write_run(own_cache / "demo" / "demo-editorials" / "runs" / "plain-classes")
    grow_old(own_cache / "demo", days=5)
    (own_cache / "downloads").mkdir()
    (own_cache / "downloads" / "a.tar").write_bytes(bytes(1000))
    (own_cache / "experience.jsonl").write_text("{}\n")
    (own_cache / "notes.txt").write_text("mine")
    entries = list_cache()
    runs = [(entry.name, entry.kind, entry.state, entry.selection) for entry in entries if entry.is_run]
    assert runs == [
        ("bbb2", "run", "stopped", 48.0),
        ("reviews-12", "transfer", "finished", 90.0),
        ("demo-editorials", "demo", "finished", 80.0),
        ("aaa1", "run", "finished", 80.0),
    ]
    named = by_name()
    assert (named["bbb2"].step, named["bbb2"].steps, named["bbb2"].task) == (2, 4, "reviews")
    assert named["aaa1"].backbone == "/models/tiny" and len(named["reviews-12"].gangs) == 2
    assert (named["downloads"].kind, named["downloads"].bytes, named["downloads"].may_go) == ("store", 1000, True)
    assert not named["experience.jsonl"].may_go and "nothing brings back" in named["experience.jsonl"].note
    assert (named["notes.txt"].kind, named["notes.txt"].may_go) == ("other", False)
    sizes = sum(file.stat().st_size for file in (own_cache / "runs" / "aaa1").iterdir())
    assert named["aaa1"].bytes == sizes


@pytest.mark.parametrize("name", ["config.toml", "result.json", "log.jsonl"])
@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"{}\n{}\n", b"[" * 100_000])
def test_damage_never_ends_the_list(own_cache, name, content):
    write_run(own_cache / "runs" / "fine")
    broken = write_run(own_cache / "runs" / "broken", finished=name != "log.jsonl")
    (broken / name).write_bytes(content)
    named = by_name()
    assert named["fine"].state == "finished"
    # Lines without a step are records too; an empty log is that of a run that has just begun.
    harmless = name == "log.jsonl" and content in (b"", b"{}\n{}\n", b"\xff\x00", b"[" * 100_000)
    assert named["broken"].state == ("stopped" if harmless else "damaged") and bool(named["broken"].reason) != harmless


def test_folders_without_runs_and_odd_files_are_damaged_or_nobodys(own_cache):
    (own_cache / "runs" / "empty").mkdir(parents=True)
    (own_cache / "runs" / "file").write_text("x")
    named = by_name()
    assert named["empty"].state == "damaged" and "holds no run" in named["empty"].reason
    assert (named["file"].kind, named["file"].may_go) == ("other", False)


def test_links_are_named_and_not_followed(own_cache, tmp_path):
    run = write_run(tmp_path / "far" / "away")
    (own_cache / "runs").mkdir()
    (own_cache / "runs" / "link").symlink_to(run)
    (own_cache / "transfers").symlink_to(tmp_path / "far")
    inside = write_run(own_cache / "runs" / "mixed" / "gang").parent
    (inside / "out").symlink_to(tmp_path / "far")
    named = by_name()
    assert named["link"].state == "damaged" and "is a link" in named["link"].reason and not named["link"].may_go
    assert not named["transfers"].may_go and "away" not in named
    assert gang_folders(inside) == (inside / "gang",)


def test_a_run_is_named_by_the_beginning_that_no_other_has(own_cache):
    for name in ("runs/ab12", "runs/ab34", "transfers/ab", "runs/cd56"):
        write_run(own_cache / name)
    assert find_entry("cd").name == "cd56" and find_entry("ab1").name == "ab12"
    assert find_entry("ab").kind == "transfer", "a whole name wins"
    assert find_entry("runs/ab3").name == "ab34"
    assert find_entry(str(own_cache / "runs" / "cd56")).name == "cd56"
    with pytest.raises(RunError, match=r"beginning of 2 names.*runs/ab12, runs/ab34"):
        find_entry("runs/ab")
    with pytest.raises(RunError, match=r"no run in .* is called 'cd57'; did you mean 'cd56'\?"):
        find_entry("cd57")
    for path in ("../x", "/etc/passwd", str(own_cache), "runs/../../x"):
        with pytest.raises(RunError, match="not inside the cache"):
            find_entry(path)
