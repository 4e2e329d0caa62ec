"""Write files that are whole or not there, lock them between processes, and find the user's cache folder.

Every artefact is written through `write_whole`, so that a crash, a kill or a full disk leaves the old file
or the new one and never half of either.
"""

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from spot.errors import StorageError

TEMPORARY_SUFFIX = ".tmp"


def write_whole(path: Path | str, data: bytes) -> None:
    """Write a file so that other processes see the old content or all of the new one, even after a crash.

    Missing parent folders are made. The new content goes to a temporary file in the same folder, is forced to
    the disk and then renamed over the old file.

    Args:
        path: the file to write.
        data: its whole content.

    Raises:
        StorageError: the disk is full, the folder cannot be written or the path is a folder. The old file is
            intact and no temporary file remains.
    """
    path = Path(path)
    temporary = path.parent / f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}{TEMPORARY_SUFFIX}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # 0o666 leaves the permissions to the user's umask; tempfile's 0o600 would hide shared libraries.
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        try:
            write_all(descriptor, data)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageError(cannot_write(path, len(data), error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes) -> None:
    """Write all bytes to an open file: one call of the system may take only a part of them.

    Raises:
        OSError: whatever the system reports, such as a full disk.
    """
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def cannot_write(path: Path, size: int, error: OSError) -> str:
    """The message for a file that could not be written: what failed, what remains, what to do."""
    reason = error.strerror or str(error)
    return (
        f"cannot write {path} ({size:,} bytes): {reason}. What was there before is unchanged. "
        "Free some disk space or choose a folder that you may write to, and run the command again."
    )


def _sync_folder(folder: Path) -> None:
    """Force a rename to the disk; file systems that cannot do this for a folder are left alone."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Delete the temporary files that killed writers left in a folder; call it only under its lock."""
    for leftover in folder.glob(f".*{TEMPORARY_SUFFIX}"):
        with contextlib.suppress(OSError):
            leftover.unlink()


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
def lock(path: Path | str) -> Iterator[None]:
    """Hold an exclusive lock, in the file `path` + `.lock`, between processes and between threads.

    The lock ends with the process that holds it, however that ends; the small lock file stays, because
    deleting it would let two processes lock two files of one name.

    Args:
        path: what is being written, for example a library folder.

    Yields:
        Nothing; the lock is held inside the `with`.

    Raises:
        StorageError: another writer holds the lock (said at once), or the lock file cannot be made.
    """
    lock_path = Path(f"{path}.lock")
    try:
        lock_path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        reason = error.strerror or str(error)
        raise StorageError(
            f"cannot make the lock file {lock_path}: {reason}. Choose a folder that you may write to."
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
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
        # The pid only serves the message above: a full disk must not stop a writer here.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)
