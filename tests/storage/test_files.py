"""Whole files, locks and the cache folder."""

import contextlib
import errno
import fcntl
import os
import select
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spot.errors import StorageError
from spot.storage.files import cache_dir, lock, remove_leftovers, write_whole


def names(folder: Path) -> list[str]:
    """Everything in a folder, hidden files included."""
    return sorted(path.name for path in folder.iterdir())


def python(code: str, *arguments: object) -> subprocess.Popen[str]:
    """Another Python process that runs `code`, with pipes on both sides."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def test_write_makes_folders_replaces_and_leaves_nothing_else(tmp_path: Path) -> None:
    """Old content is replaced, missing parents are made, no temporary file remains."""
    path = tmp_path / "a" / "b" / "file.bin"
    write_whole(path, b"old")
    write_whole(str(path), b"new and longer")
    assert path.read_bytes() == b"new and longer"
    write_whole(path, b"")
    assert path.read_bytes() == b""
    assert names(path.parent) == ["file.bin"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    """A file in a shared folder is readable for the group when the umask says so."""
    previous = os.umask(0o027)
    try:
        write_whole(tmp_path / "file", b"x")
    finally:
        os.umask(previous)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o640


def test_a_write_that_the_system_takes_in_pieces_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`os.write` may take only some of the bytes."""
    real = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: real(descriptor, bytes(data[:7])))
    content = bytes(range(256))
    write_whole(tmp_path / "file", content)
    monkeypatch.undo()
    assert (tmp_path / "file").read_bytes() == content


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_full_disk_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str) -> None:
    """Whichever call finds the disk full: old file intact, no temporary file, one clear message."""
    path = tmp_path / "prompt.safetensors"
    path.write_bytes(b"old")

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, failing, full)
    with pytest.raises(StorageError) as caught:
        write_whole(path, b"x" * 12_345)
    monkeypatch.undo()
    assert str(caught.value) == (
        f"cannot write {path} (12,345 bytes): No space left on device. What was there before is unchanged. "
        "Free some disk space or choose a folder that you may write to, and run the command again."
    )
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["prompt.safetensors"]


def test_a_real_limit_of_the_system_keeps_the_old_file(tmp_path: Path) -> None:
    """The same without any fake: the kernel takes 1,000 bytes and refuses the rest."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    code = (
        "import resource, sys\n"
        "from spot.errors import StorageError\n"
        "from spot.storage.files import write_whole\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try:\n    write_whole(sys.argv[1], b'x' * 5000)\n"
        "except StorageError as error:\n    print(error)\n"
    )
    said, _ = python(code, path).communicate(timeout=30)
    assert said.startswith(f"cannot write {path} (5,000 bytes): File too large.")
    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["folder", "file/below", "."])
def test_impossible_paths_are_refused(tmp_path: Path, name: str) -> None:
    """A folder, a path below a file: one message, nothing left behind."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(StorageError, match=r"cannot write .*unchanged"):
        write_whole(tmp_path / name, b"x")
    assert names(tmp_path) == ["file", "folder"]
    assert (tmp_path / "file").read_bytes() == b"old"


def test_killed_writers_leave_whole_files(tmp_path: Path) -> None:
    """SIGKILL at arbitrary moments: the file is one of the two contents; leftovers can be swept up."""
    path = tmp_path / "file"
    contents = [b"a" * 300_000, b"b" * 200_000]
    write_whole(path, contents[0])
    code = (
        "import sys\nfrom spot.storage.files import write_whole\nprint('ready', flush=True)\n"
        "while True:\n"
        "    write_whole(sys.argv[1], b'a' * 300_000)\n"
        "    write_whole(sys.argv[1], b'b' * 200_000)\n"
    )
    for moment in range(6):
        with python(code, path) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(0.003 * (moment + 1))
            writer.send_signal(signal.SIGKILL)
            writer.wait(timeout=30)
        assert path.read_bytes() in contents
    remove_leftovers(tmp_path)
    assert names(tmp_path) == ["file"]


def test_only_temporary_files_of_ours_are_leftovers(tmp_path: Path) -> None:
    """F3: a user's hidden `.tmp` files stay, whatever they are; so do those that somebody is writing."""
    own = [".file.1.0123abcd.tmp", ".a.b.safetensors.4194304.ffffffff.tmp"]
    others = [".mine.tmp", ".file.1.abc.tmp", ".file.x.0123abcd.tmp", "file.1.0123abcd.tmp", ".1.0123abcd.tmp"]
    for name in (*own, *others):
        (tmp_path / name).write_bytes(b"half")
    os.mkfifo(tmp_path / ".fifo.1.0123abcd.tmp")
    (tmp_path / ".folder.1.0123abcd.tmp").mkdir()
    (tmp_path / ".link.1.0123abcd.tmp").symlink_to(tmp_path / ".mine.tmp")
    kept = sorted([*others, ".fifo.1.0123abcd.tmp", ".folder.1.0123abcd.tmp", ".link.1.0123abcd.tmp"])
    with (tmp_path / own[0]).open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        remove_leftovers(tmp_path)
        assert names(tmp_path) == sorted([*kept, own[0]])
    remove_leftovers(tmp_path)
    assert names(tmp_path) == kept
    remove_leftovers(tmp_path / "none")


def test_a_write_sweeps_up_what_was_left_of_its_own_file(tmp_path: Path) -> None:
    """F16: leftovers of killed writers go with the next write, in any folder."""
    for name in (".file.1.0123abcd.tmp", ".other.1.0123abcd.tmp"):
        (tmp_path / name).write_bytes(b"half")
    write_whole(tmp_path / "file", b"x")
    assert names(tmp_path) == [".other.1.0123abcd.tmp", "file"]
    long = "x" * 255
    write_whole(tmp_path / long, b"x")
    assert names(tmp_path) == [".other.1.0123abcd.tmp", "file", long]


def test_nothing_is_deleted_or_written_behind_a_link(tmp_path: Path) -> None:
    """F3: `prompts` of a stranger's library leads to a folder of the user's."""
    home, folder = tmp_path / "home", tmp_path / "folder"
    home.mkdir()
    folder.mkdir()
    (home / ".file.1.0123abcd.tmp").write_bytes(b"precious")
    (folder / "prompts").symlink_to(home)
    with pytest.raises(StorageError, match="prompts is a link"):
        remove_leftovers(folder / "prompts", inside=folder)
    for name in ("prompts/file", "prompts/deeper/file"):
        with pytest.raises(StorageError, match="prompts is a link"):
            write_whole(folder / name, b"x", inside=folder)
        with pytest.raises(StorageError, match="prompts is a link"), lock(folder / name, inside=folder):
            raise AssertionError("locked")
    assert names(home) == [".file.1.0123abcd.tmp"]
    write_whole(folder / "new" / "file", b"x", inside=folder)
    assert (folder / "new" / "file").read_bytes() == b"x"


def test_a_written_file_takes_the_place_of_a_link(tmp_path: Path) -> None:
    (tmp_path / "precious").write_bytes(b"precious")
    (tmp_path / "file").symlink_to("precious")
    write_whole(tmp_path / "file", b"x", inside=tmp_path)
    assert (tmp_path / "file").read_bytes() == b"x" and not (tmp_path / "file").is_symlink()
    assert (tmp_path / "precious").read_bytes() == b"precious"


@pytest.mark.parametrize("inside", [True, False], ids=["inside", "named"])
def test_a_lock_is_never_taken_in_another_file(tmp_path: Path, inside: bool) -> None:
    """F2: through a link, by a hard link, in whatever is no lock file; the user's files stay as they are."""
    precious, root = tmp_path / "precious", tmp_path if inside else None
    precious.write_bytes(b"precious\n")
    (tmp_path / "linked.lock").symlink_to(precious)
    (tmp_path / "dangling.lock").symlink_to(tmp_path / "new")
    (tmp_path / "hard.lock").hardlink_to(precious)
    (tmp_path / "digits.lock").write_bytes(b"1" * 21)
    os.mkfifo(tmp_path / "fifo.lock")
    for name, message in {
        "linked": "linked.lock is a link",
        "dangling": "dangling.lock is a link",
        "hard": r"hard.lock is no lock file: .*It stays as it is",
        "digits": "digits.lock is no lock file",
        "fifo": "fifo.lock: it is a FIFO",
    }.items():
        with pytest.raises(StorageError, match=message), lock(tmp_path / name, root):
            raise AssertionError("locked")
    assert precious.read_bytes() == b"precious\n" and not (tmp_path / "new").exists()
    (tmp_path / "mine").write_bytes(b"7")
    (tmp_path / "shared.lock").hardlink_to(tmp_path / "mine")
    with lock(tmp_path / "shared", root):
        assert (tmp_path / "mine").read_bytes() == b"7"
    for content in (b"", b"4194304", b"12\n"):
        (tmp_path / "own.lock").write_bytes(content)
        with lock(tmp_path / "own", root):
            assert (tmp_path / "own.lock").read_bytes() == str(os.getpid()).encode()


def test_lock_is_exclusive_and_ends(tmp_path: Path) -> None:
    """A second writer is refused at once, even in one process; after the first one anyone may come."""
    path = tmp_path / "new" / "library"
    with lock(path):
        began = time.monotonic()
        with pytest.raises(StorageError) as caught, lock(path):
            raise AssertionError("two writers")
        assert time.monotonic() - began < 1
        assert str(caught.value) == (
            f"{path} is in use by another writer (pid {os.getpid()}): wait for it to finish, or stop it, "
            "and run the command again."
        )
        with lock(tmp_path / "another"):
            pass
    with pytest.raises(KeyError), lock(path):
        raise KeyError
    with lock(path):
        pass


def test_a_writer_of_the_same_waits_for_the_one_that_was_first(tmp_path: Path) -> None:
    """Whoever waits gets the lock when its holder lets it go, and not before."""
    code = (
        "import sys\nfrom spot.storage.files import lock\n"
        "with lock(sys.argv[1], waits=True):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    path = tmp_path / "model"
    held = contextlib.ExitStack()
    held.enter_context(lock(path))
    with python(code, path) as waiting:
        assert waiting.stdout is not None
        assert not select.select([waiting.stdout], [], [], 1)[0]
        held.close()
        assert waiting.stdout.readline() == "held\n"


def test_lock_of_another_process(tmp_path: Path) -> None:
    """The message names the process that holds the lock, and its death frees it."""
    code = (
        "import sys\nfrom spot.storage.files import lock\n"
        "with lock(sys.argv[1]):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    path = tmp_path / "library"
    with python(code, path) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        message = rf"library is in use by another writer \(pid {holder.pid}\)"
        with pytest.raises(StorageError, match=message), lock(path):
            raise AssertionError("two writers")
        holder.send_signal(signal.SIGKILL)
        holder.wait(timeout=30)
    with lock(path):
        pass


def test_lock_lets_one_of_many_threads_in(tmp_path: Path) -> None:
    """Of threads that try at the same moment exactly one gets the lock."""
    results: list[bool] = []
    barrier = threading.Barrier(8)

    def attempt() -> None:
        barrier.wait()
        try:
            with lock(tmp_path / "x"):
                results.append(True)
                time.sleep(0.2)
        except StorageError:
            results.append(False)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results.count(True) == 1 and len(results) == 8


def test_lock_that_cannot_be_made(tmp_path: Path) -> None:
    """A folder below a file."""
    (tmp_path / "file").write_bytes(b"")
    message = r"cannot make the lock file .*Choose a folder"
    with pytest.raises(StorageError, match=message), lock(tmp_path / "file" / "library"):
        raise AssertionError("no lock")


def test_cache_dir(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`$SPOT_CACHE` first, made absolute, otherwise the user's cache folder; nothing is created."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("SPOT_CACHE", raising=False)
    assert cache_dir() == tmp_path / ".cache" / "spot"
    monkeypatch.setenv("SPOT_CACHE", "")
    assert cache_dir() == tmp_path / ".cache" / "spot"
    monkeypatch.setenv("SPOT_CACHE", "~/elsewhere")
    assert cache_dir() == tmp_path / "elsewhere"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SPOT_CACHE", "here")
    assert cache_dir() == tmp_path / "here"
    assert names(tmp_path) == []


@settings(deadline=None)
@given(data=st.binary(max_size=2_000))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    """Any bytes come back."""
    path = tmp_path_factory.getbasetemp() / "any"
    write_whole(path, data)
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    ("kind", "by_link"),  # a device by its own name is left out: a fault would break the machine that tests run on
    [("a FIFO", False), ("a FIFO", True), ("a socket", False), ("a socket", True), ("a device", True)],
)
def test_nothing_but_a_file_is_replaced(tmp_path: Path, kind: str, by_link: bool) -> None:
    """Whoever may write in /dev, as root may, keeps /dev/null when a report is written there."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.chdir(tmp_path))  # a socket's path has 100 letters at most
        path = Path("there")
        if kind == "a FIFO":
            os.mkfifo(path)
        elif kind == "a socket":
            stack.enter_context(socket.socket(socket.AF_UNIX)).bind("there")
        else:
            path = Path("/dev/null")
        if by_link:
            Path("link").symlink_to(path)
        before = path.stat()
        with pytest.raises(StorageError, match="it is a FIFO, a socket or a device"):
            write_whole("link" if by_link else path, b"new")
        assert (path.stat().st_ino, path.stat().st_mode) == (before.st_ino, before.st_mode)
        assert Path("link").is_symlink() == by_link
        assert not [name for name in names(Path()) if name.endswith(".tmp")]
