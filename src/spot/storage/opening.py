"""Open files that a stranger may have put there: regular ones alone, of bounded size, and through no link.

A file that its user names is opened as any program opens it, links followed. A file that belongs to a folder which may
come from a stranger (a library, a run, a study) is opened with `inside`: the way to the folder is the user's own and
may hold links, but from there on no part of the path may be one.
"""

import contextlib
import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

from spot.errors import StorageError

_PART = 2**24  # bytes
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISLNK, "a link"),
    (stat.S_ISFIFO, "a FIFO"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)
# A FIFO that is opened without O_NONBLOCK waits for its other end, for ever.
_CAREFULLY = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


def read_bounded(path: Path | str, most_bytes: int, inside: Path | str | None = None) -> bytes | None:
    """The content of a regular file that is no larger than expected.

    Args:
        path: the file.
        most_bytes: a larger file is refused before it is read.
        inside: the folder, maybe a stranger's, that the file belongs to: from there on no link is followed.

    Returns:
        Its content; None where there is no file of that name.

    Raises:
        StorageError: it is too large, a link, a folder, a FIFO, a socket or a device, or it cannot be read.
    """
    try:
        with open_regular(path, inside) as file:
            check_size(path, file, most_bytes)
            # Asked for the bound itself, Python would take memory for all of it.
            content = file.read(min(most_bytes, os.fstat(file.fileno()).st_size) + 1)
            while len(content) <= most_bytes and (
                more := file.read(min(_PART, most_bytes + 1 - len(content)))
            ):  # it grows, or claims no size
                content += more
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StorageError(cannot_read(path, error)) from error
    if len(content) > most_bytes:
        raise StorageError(_too_large(path, len(content), most_bytes))
    return content


def open_regular(path: Path | str, inside: Path | str | None = None) -> BinaryIO:
    """A regular file, open for reading.

    Args:
        path: the file.
        inside: as for `read_bounded`.

    Raises:
        StorageError: it is a folder, a FIFO, a socket, a device, or lies behind a link below `inside`.
        OSError, ValueError: whatever the system reports, such as that there is no such file.
    """
    return os.fdopen(open_descriptor(path, os.O_RDONLY, inside), "rb")


def open_descriptor(path: Path | str, flags: int, inside: Path | str | None = None) -> int:
    """The descriptor of a regular file, opened with the flags of `os.open`.

    Args and errors are those of `open_regular`; with `os.O_CREAT` a missing file is made.
    """
    path = Path(path)
    if inside is None:
        return _regular(path, path, flags, None)
    folder = open_folder(path.parent, inside)
    try:
        return _regular(path, path.name, flags | os.O_NOFOLLOW, folder)
    finally:
        os.close(folder)


def open_folder(path: Path | str, inside: Path | str | None = None, make: bool = False) -> int:
    """The descriptor of a folder.

    Args:
        path: the folder.
        inside: the folder, maybe a stranger's, that it belongs to or is: from there on no link is followed.
        make: make it, and those above it, where they are missing.

    Raises:
        StorageError: there is a link below `inside`.
        OSError, ValueError: whatever the system reports.
    """
    path, root = Path(path), Path(path if inside is None else inside)
    assert path.is_relative_to(root) and ".." not in path.relative_to(root).parts, (path, root)
    parts = path.relative_to(root).parts
    if make:
        root.mkdir(parents=True, exist_ok=True)
    folder = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    for depth, part in enumerate(parts, start=1):
        above = folder
        try:
            folder = _step_down(above, part, make)
        except OSError as error:
            here = root.joinpath(*parts[:depth])
            refuse_link(here, part, above, error)
            raise OSError(error.errno, error.strerror, str(here)) from error
        finally:
            os.close(above)
    return folder


def refuse_link(path: Path, name: str | Path, folder: int | None, error: OSError | None = None) -> None:
    """Say that a link stood in the way, if that is so.

    Args:
        path: what was to be opened, for the message.
        name: its name in `folder`, an open descriptor.
        folder: None where `name` is a whole path.
        error: what opening it came to.

    Raises:
        StorageError: it is a link.
    """
    try:
        is_link = stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return
    if is_link:
        raise StorageError(
            f"{path} is a link, and links in a folder that may come from others are not followed: they may lead "
            "anywhere. Put the file or folder itself there, or delete the link."
        ) from error


def check_size(path: Path | str, file: BinaryIO, most_bytes: int) -> None:
    """Refuse an open file that is larger than expected.

    Raises:
        StorageError: naming both sizes.
    """
    size = os.fstat(file.fileno()).st_size
    if size > most_bytes:
        raise StorageError(_too_large(path, size, most_bytes))


def exists(path: Path | str) -> bool:
    """Whether a path leads to something; a link that leads nowhere does not.

    Raises:
        StorageError: the system cannot say: a name is too long or holds a zero byte, or the folder may not be read.
    """
    try:
        os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise StorageError(cannot_read(path, error)) from error
    return True


def is_folder(path: Path | str, inside: Path | str | None = None) -> bool:
    """Whether there is a folder of this name.

    Args:
        path: the folder.
        inside: the folder, maybe a stranger's, that it belongs to: no link below it is followed.

    Raises:
        StorageError: it is behind a link below `inside`, or as `exists`.
    """
    try:
        os.close(open_folder(path, inside))
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError) as error:
        raise StorageError(cannot_read(path, error)) from error
    return True


def user_path(name: str) -> Path:
    """A path as its user wrote it, `~` resolved.

    Raises:
        StorageError: it begins with `~` and there is no such home folder.
    """
    try:
        return Path(name).expanduser()
    except RuntimeError as error:
        raise StorageError(f"no path {name}: {error} Write the path in full.") from error


def cannot_read(path: Path | str, error: OSError | ValueError) -> str:
    """The message for a file that could not be opened or read: what failed and what to do."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    name = str(path) if len(str(path)) <= 300 else f"{str(path)[:300]}... ({len(str(path)):,} letters)"
    return f"cannot read {name}: {reason}. Choose a file that you may read, or move this one away."


def _regular(path: Path, name: Path | str, flags: int, folder: int | None) -> int:
    """The descriptor of a regular file; `name` stands in the open `folder`."""
    try:
        descriptor = os.open(name, flags | _CAREFULLY, 0o666, dir_fd=folder)
    except OSError as error:
        if flags & os.O_NOFOLLOW and error.errno in (errno.ELOOP, errno.EMLINK):
            refuse_link(path, name, folder, error)
        if error.errno in (errno.ENXIO, errno.EISDIR):  # a socket, a FIFO without a reader, a folder to write to
            _refuse_kind(path, os.stat(name, dir_fd=folder).st_mode)
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        _refuse_kind(path, mode)
    return descriptor


def _refuse_kind(path: Path, mode: int) -> None:
    """Say what stands where a regular file was expected.

    Raises:
        StorageError: it is no regular file.
    """
    kind = next((name for is_kind, name in _KINDS if is_kind(mode)), None)
    if kind is not None:
        raise StorageError(
            f"cannot read {path}: it is {kind}, expected a regular file. Choose a file, or move this one away."
        )


def _step_down(folder: int, name: str, make: bool) -> int:
    """The descriptor of a folder in an open one, which may be made and may not be a link."""
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, dir_fd=folder)
    except FileNotFoundError:
        if not make:
            raise
    with contextlib.suppress(FileExistsError):  # another process was quicker, or it is a link that leads nowhere
        os.mkdir(name, dir_fd=folder)
    return os.open(name, flags, dir_fd=folder)


def _too_large(path: Path | str, size: int, most_bytes: int) -> str:
    """The message for a file of more bytes than any file of its kind."""
    return f"{path} holds {size:,} bytes or more; expected at most {most_bytes:,}. It is damaged or something else."
