"""Write files that are whole or not there, lock them between processes, and find the user's cache folder.

Every artefact is written through `write_whole`, so that a crash, a kill or a full disk leaves the old file
or the new one and never half of either.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from spot.errors import StorageError
from spot.storage.opening import open_descriptor, open_folder

TEMPORARY_SUFFIX = ".tmp"
_TEMPORARY = re.compile(r"\..+\.[0-9]+\.[0-9a-f]{8}\.tmp", re.DOTALL)  # the names that `write_whole` gives, no others
_LONGEST_NAME = 200  # bytes of a file's name that its temporary one repeats; a system allows 255 in all
_SWEPT = 256_000  # bytes of a folder, some 5,000 names, that are read in milliseconds; larger ones their owner sweeps
_LOCK_CONTENT = re.compile(rb"[0-9]{0,20}")  # of a lock file: nothing, or the number of a process


def write_whole(path: Path | str, data: bytes, inside: Path | str | None = None) -> None:
    """Write a file so that other processes see the old content or all of the new one, even after a crash.

    Missing parent folders are made. The new content goes to a temporary file in the same folder, is forced to
    the disk and then renamed over the old file; a link of that name is replaced, never followed. Temporary files of
    this name that killed writers left are deleted.

    Args:
        path: the file to write.
        data: its whole content.
        inside: the folder, maybe a stranger's, that the file belongs to: no link below it is followed.

    Raises:
        StorageError: the disk is full, the folder cannot be written or the path is a folder, a FIFO, a socket, a device
            or behind a link. The old file is intact and no temporary file remains.
    """
    path = Path(path)
    try:
        folder = open_folder(path.parent, inside or path.parent, make=True)
        try:
            _check_replaceable(folder, path.name)
            _replace(folder, path.name, data)
            with contextlib.suppress(OSError):  # file systems that cannot do this for a folder are left alone
                os.fsync(folder)
        finally:
            os.close(folder)
    except (OSError, ValueError) as error:
        raise StorageError(cannot_write(path, len(data), error)) from error


def _check_replaceable(folder: int, name: str) -> None:
    """Refuse to put a file in the place of what is none: to replace /dev/null would break the machine.

    Raises:
        OSError: it is a FIFO, a socket or a device, or a link to one, as /dev/stdout is.
    """
    for follow in (False, True):
        try:
            mode = os.stat(name, dir_fd=folder, follow_symlinks=follow).st_mode
        except OSError:  # nothing is there, or a link leads nowhere
            return
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode)):
            raise OSError(errno.EEXIST, "it is a FIFO, a socket or a device, expected a regular file or none")


def _replace(folder: int, name: str, data: bytes) -> None:
    """Write a file in an open folder by way of a temporary one.

    The temporary file is locked while it is written, so that who finds one without a lock knows that its writer is
    gone.
    """
    stem = _stem(name)
    temporary, descriptor = _new_temporary(folder, stem)
    try:
        write_all(descriptor, data)
        os.fsync(descriptor)
        os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
    if os.fstat(folder).st_size <= _SWEPT:
        _sweep(folder, stem)


def _new_temporary(folder: int, stem: str) -> tuple[str, int]:
    """The name and descriptor of an empty file in an open folder, locked."""
    # 0o666 leaves the permissions to the user's umask; tempfile's 0o600 would hide shared libraries.
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    while True:
        name = f"{stem}{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
        descriptor = os.open(name, flags, 0o666, dir_fd=folder)
        with contextlib.suppress(OSError):  # a file system without locks keeps what killed writers leave
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.fstat(descriptor).st_nlink:  # else another process swept it up before it was locked
            return name, descriptor
        os.close(descriptor)


def _stem(name: str) -> str:
    """What the names of the temporary files of a file begin with."""
    return f".{os.fsdecode(os.fsencode(name)[:_LONGEST_NAME])}."


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes to an open file: one call of the system may take only a part of them.

    Raises:
        OSError: whatever the system reports, such as a full disk.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def cannot_write(path: Path, size: int, error: OSError | ValueError) -> str:
    """The message for a file that could not be written: what failed, what remains, what to do."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    return (
        f"cannot write {path} ({size:,} bytes): {reason}. What was there before is unchanged. "
        "Free some disk space or choose a folder that you may write to, and run the command again."
    )


def remove_leftovers(folder: Path | str, inside: Path | str | None = None) -> None:
    """Delete the temporary files that killed writers left in a folder; those of living writers stay.

    Args:
        folder: where to look; it need not exist. Only regular files with the very names that `write_whole` gives are
            deleted.
        inside: the folder, maybe a stranger's, that it belongs to: behind a link below that, nothing is deleted.

    Raises:
        StorageError: the folder is, or is behind, such a link.
    """
    try:
        descriptor = open_folder(folder, inside)
    except (OSError, ValueError):
        return
    try:
        _sweep(descriptor)
    finally:
        os.close(descriptor)


def _sweep(folder: int, stem: str = "") -> None:
    """Delete the temporary files of dead writers in an open folder, those whose names begin so."""
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):
            if name.startswith(stem or ".") and _TEMPORARY.fullmatch(name):
                _remove_unlocked(folder, name)


def _remove_unlocked(folder: int, name: str) -> None:
    """Delete a regular file that nobody holds a lock on."""
    with contextlib.suppress(OSError, StorageError):
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        descriptor = os.open(name, flags, dir_fd=folder)
        try:
            if stat.S_ISREG(os.fstat(descriptor).st_mode):
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                os.unlink(name, dir_fd=folder)
        finally:
            os.close(descriptor)


def cache_dir() -> Path:
    """The folder for what can be rebuilt: `$SPOT_CACHE`, or `~/.cache/spot`. It need not exist yet.

    Raises:
        StorageError: `$SPOT_CACHE` is not set and the user has no home folder.
    """
    try:
        chosen = os.environ.get("SPOT_CACHE")
        return Path(chosen).expanduser().absolute() if chosen else Path.home() / ".cache" / "spot"
    except RuntimeError as error:
        message = f"no folder for the cache: {error}. Set the environment variable SPOT_CACHE to a folder."
        raise StorageError(message) from error


@contextlib.contextmanager
def lock(path: Path | str, inside: Path | str | None = None, *, waits: bool = False) -> Iterator[None]:
    """Hold an exclusive lock, in the file `path` + `.lock`, between processes and between threads.

    The lock ends with the process that holds it, however that ends; the small lock file stays, because
    deleting it would let two processes lock two files of one name.

    Args:
        path: what is being written, for example a library folder.
        inside: the folder, maybe a stranger's, that the lock file belongs to: no link below it is followed.
        waits: for the writer that holds it, where all writers write the same.

    Yields:
        Nothing; the lock is held inside the `with`.

    Raises:
        StorageError: another writer holds the lock, which is said at once but where this one waits; or the lock file
            cannot be made, is a link, or holds what no lock file holds, and so stays as it is.
    """
    lock_path = Path(f"{path}.lock")
    try:
        os.close(open_folder(lock_path.parent, inside or lock_path.parent, make=True))
        descriptor = open_descriptor(lock_path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, inside)
    except (OSError, ValueError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StorageError(
            f"cannot make the lock file {lock_path}: {reason}. Choose a folder that you may write to."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX if waits else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip() or "unknown"
            raise StorageError(
                f"{path} is in use by another writer (pid {holder}): wait for it to finish, or stop it, "
                "and run the command again."
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise StorageError(
                f"cannot lock {lock_path}: {reason}. Choose a folder on a file system with locks."
            ) from error
        if not _LOCK_CONTENT.fullmatch(os.pread(descriptor, 21, 0).strip()):
            raise StorageError(
                f"{lock_path} is no lock file: it holds something else than the number of a process. It stays as it "
                "is. Move it away and run the command again."
            )
        # The pid only serves the message above: a full disk must not stop a writer here, and a file that has another
        # name, which may be a user's, is not written.
        with contextlib.suppress(OSError):
            if os.fstat(descriptor).st_nlink == 1:
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
