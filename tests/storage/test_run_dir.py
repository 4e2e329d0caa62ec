"""Run folders: order of the files, resuming, refusals."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from spot.errors import RunError, StorageError
from spot.storage.run_dir import RunDir

ONE, TWO = "0123456789abcdef", "fedcba9876543210"


def test_a_run_from_begin_to_end(tmp_path: Path) -> None:
    """What each step writes, and what a reader without the lock sees."""
    run = RunDir(tmp_path / "runs" / ONE)
    reader = RunDir(str(run.path))
    assert (reader.digest(), reader.result(), reader.read_log(), reader.load_checkpoint()) == (None, None, [], None)
    assert not run.path.exists()
    with run:
        run.create('task = "cr"\n', ONE)
        assert (run.path / "config.toml").read_text() == f'# spot run {ONE}\ntask = "cr"\n'
        assert reader.digest() == ONE
        run.log({"step": 1, "loss": 0.5})
        run.log({"step": 2, "text": "é\n"})
        run.save_checkpoint(b"first")
        run.save_checkpoint(b"second")
        assert reader.read_log() == [{"step": 1, "loss": 0.5}, {"step": 2, "text": "é\n"}]
        assert reader.load_checkpoint() == b"second"
        assert reader.result() is None
        run.finish(b'{"runs": []}\n')
    assert reader.result() == b'{"runs": []}\n'
    assert sorted(path.name for path in run.path.iterdir()) == [
        "checkpoint",
        "config.toml",
        "log.jsonl",
        "result.json",
        "run.lock",
    ]


def test_going_on_changes_nothing(tmp_path: Path) -> None:
    """The same configuration again: everything stays as it was."""
    with RunDir(tmp_path) as run:
        run.create("steps = 1\n", ONE)
        run.log({"step": 1})
        run.save_checkpoint(b"state")
    before = {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.suffix != ".lock"}
    with RunDir(tmp_path) as run:
        run.create("steps = 1\n", ONE)
    assert {path.name: path.stat().st_mtime_ns for path in tmp_path.iterdir() if path.suffix != ".lock"} == before


def test_another_configuration_is_refused(tmp_path: Path) -> None:
    """Both digests are named and nothing is written."""
    with RunDir(tmp_path) as run:
        run.create("steps = 1\n", ONE)
        with pytest.raises(RunError) as caught:
            run.create("steps = 2\n", TWO)
    assert str(caught.value) == (
        f"{tmp_path} holds a run of another configuration or other data: its digest is {ONE}, "
        f"that of this run is {TWO}. Choose another folder, or repeat the command with the settings in "
        f"{tmp_path / 'config.toml'}."
    )
    assert (tmp_path / "config.toml").read_text() == f"# spot run {ONE}\nsteps = 1\n"


def test_foreign_folders_are_refused(tmp_path: Path) -> None:
    """A config.toml of something else; files of a run without one."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.toml").write_text("[project]\n")
    with RunDir(tmp_path / "a") as run, pytest.raises(RunError, match="does not begin with '# spot run DIGEST'"):
        run.create("", ONE)
    assert (tmp_path / "a" / "config.toml").read_text() == "[project]\n"
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "result.json").write_text("{}")
    with RunDir(tmp_path / "b") as run, pytest.raises(RunError, match=r"holds result\.json but no config\.toml"):
        run.create("", ONE)
    assert not (tmp_path / "b" / "config.toml").exists()


def test_one_writer_a_folder(tmp_path: Path) -> None:
    """A second writer is refused, readers are not, and writing needs the lock."""
    with RunDir(tmp_path) as run:
        run.create("", ONE)
        with pytest.raises(StorageError, match=f"in use by another writer \\(pid {os.getpid()}\\)"):
            RunDir(tmp_path).__enter__()
        assert RunDir(tmp_path).digest() == ONE
    with RunDir(tmp_path) as run:
        run.log({"step": 1})
    with pytest.raises(AssertionError, match="inside `with`"):
        run.log({"step": 2})


@pytest.mark.parametrize("torn", [b'{"step": 3, "lo', b'{"step": 3}', b"\n", b"\0\0\0\n", b"[1]\n", b'"\xff"\n'])
def test_a_torn_last_line_is_left_out_and_mended(tmp_path: Path, torn: bytes) -> None:
    """What a kill or a power cut leaves at the end costs that record alone, and the next one is whole."""
    with RunDir(tmp_path) as run:
        run.create("", ONE)
        run.log({"step": 1})
        run.log({"step": 2})
    with (tmp_path / "log.jsonl").open("ab") as file:
        file.write(torn)
    assert RunDir(tmp_path).read_log() == [{"step": 1}, {"step": 2}]
    with RunDir(tmp_path) as run:
        run.create("", ONE)
        run.log({"step": 3})
    assert (tmp_path / "log.jsonl").read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3}\n'


def test_damage_before_the_last_line_is_an_error(tmp_path: Path) -> None:
    """No kill does that, so it must not go unseen."""
    (tmp_path / "log.jsonl").write_text('{"step": 1}\n{"st\n{"step": 3}\n')
    with pytest.raises(RunError, match=r"log\.jsonl: line 2 of 3 is no record .*Delete the folder"):
        RunDir(tmp_path).read_log()


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"step": "x"}', "its step is 'x'; expected a number from 0"),
        ('{"step": null}', "its step is None"),
        ('{"step": true}', "its step is True"),
        ('{"step": -1}', "its step is -1"),
        ('{"step": 1.5}', "its step is 1.5"),
        ('{"step": 1' + "0" * 5000 + "}", "line 1 of 2 is no record"),
        ("[1]", "it holds [1]; expected an object"),
        ("[" * 100_000, "line 1 of 2 is no record"),
    ],
)
def test_a_line_of_the_log_that_no_run_wrote_is_named(tmp_path: Path, line: str, named: str) -> None:
    with RunDir(tmp_path) as run:
        run.create("", ONE)
        (tmp_path / "log.jsonl").write_text(f'{line}\n{{"step": 2}}\n')
        for reading in (run.read_log, lambda: run.truncate_log(1)):
            with pytest.raises(RunError) as refusal:
                reading()
            assert named in str(refusal.value) and "Delete the folder" in str(refusal.value)


def write_and_read(run: RunDir) -> None:
    """Open all files of a run."""
    with run:
        run.create("", ONE)
        run.load_checkpoint()
        run.result()


def test_no_file_that_is_a_users_too_is_changed(tmp_path: Path) -> None:
    """A log with another name is replaced and not written to; one behind a link is refused."""
    mine = tmp_path / "mine"
    mine.write_text('{"step": 1}\nnot mine to mend')
    run = RunDir(tmp_path / "run")
    with run:
        run.create("", ONE)
        (run.path / "log.jsonl").hardlink_to(mine)
    with run:
        run.create("", ONE)
        run.log({"step": 2})
        run.truncate_log(1)
    assert mine.read_text() == '{"step": 1}\nnot mine to mend' and run.read_log() == [{"step": 1}]
    for name in ("log.jsonl", "checkpoint", "result.json", "config.toml"):
        (run.path / name).unlink(missing_ok=True)
        (run.path / name).symlink_to(mine)
        with pytest.raises(RunError, match="is a link"):
            write_and_read(run)
        (run.path / name).unlink()
    assert mine.read_text() == '{"step": 1}\nnot mine to mend'


def test_truncate_log(tmp_path: Path) -> None:
    """Records after the checkpoint's step go; records without a step stay; no change, no writing."""
    with RunDir(tmp_path) as run:
        run.create("", ONE)
        records = [{"event": "begin"}, {"step": 1}, {"step": 2}, {"event": "note"}, {"step": 3}]
        for record in records:
            run.log(record)
        run.truncate_log(3)
        assert run.read_log() == records
        run.truncate_log(1)
        assert run.read_log() == [{"event": "begin"}, {"step": 1}, {"event": "note"}]
        run.log({"step": 2})
        run.truncate_log(0)
        assert run.read_log() == [{"event": "begin"}, {"event": "note"}]


def test_a_full_disk_tears_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of a record is taken back; a checkpoint that does not fit leaves the old one."""
    real = os.write

    def nearly_full(descriptor: int, data: bytes) -> int:
        if len(data) < 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, bytes(data[: len(data) - 10]))

    with RunDir(tmp_path) as run:
        run.create("", ONE)
        run.log({"step": 1})
        run.save_checkpoint(b"old")
        monkeypatch.setattr(os, "write", nearly_full)
        with pytest.raises(StorageError, match=r"cannot write .*log\.jsonl .*No space left on device"):
            run.log({"step": 2, "text": "x" * 100})
        with pytest.raises(StorageError, match=r"cannot write .*checkpoint .*No space left on device"):
            run.save_checkpoint(b"new" * 100)
        with pytest.raises(StorageError, match=r"cannot write .*result\.json"):
            run.finish(b"x" * 100)
        monkeypatch.undo()
        assert (tmp_path / "log.jsonl").read_bytes() == b'{"step": 1}\n'
        assert run.load_checkpoint() == b"old"
        assert run.result() is None
        run.log({"step": 2})
    assert RunDir(tmp_path).read_log() == [{"step": 1}, {"step": 2}]


def test_a_file_in_the_way(tmp_path: Path) -> None:
    """A path that is no folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the lock file"):
        RunDir(tmp_path / "file").__enter__()
    with pytest.raises(RunError, match=r"cannot read .*Not a directory"):
        RunDir(tmp_path / "file").result()


def test_a_killed_run_goes_on(tmp_path: Path) -> None:
    """SIGKILL while logging and saving: the lock is free, the state whole, and the log can be cut to it."""
    code = (
        "import sys\nfrom spot.storage.run_dir import RunDir\n"
        "with RunDir(sys.argv[1]) as run:\n"
        f"    run.create('', '{ONE}')\n"
        "    for step in range(10**6):\n"
        "        run.log({'step': step})\n"
        "        if step % 5 == 0:\n            run.save_checkpoint(b'%d' % step * 1000)\n"
        "        if step == 12:\n            print('on', flush=True)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "on\n"
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=30)
    (tmp_path / ".checkpoint.1.0123abcd.tmp").write_bytes(b"half")
    with RunDir(tmp_path) as run:
        run.create("", ONE)
        state = run.load_checkpoint()
        assert state is not None
        step = int(state[: len(state) // 1000])
        assert state == b"%d" % step * 1000 and step >= 10
        run.truncate_log(step)
        assert run.read_log() == [{"step": i} for i in range(step + 1)]
    assert not list(tmp_path.glob(".*"))


def test_records_are_one_line_each(tmp_path: Path) -> None:
    """Whatever a record holds, it is one line of JSON."""
    with RunDir(tmp_path) as run:
        run.create("", ONE)
        run.log({"text": "a\nb\r\u2028c"})
    (line,) = (tmp_path / "log.jsonl").read_bytes().split(b"\n")[:-1]
    assert json.loads(line) == {"text": "a\nb\r\u2028c"}
