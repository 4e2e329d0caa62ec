"""Keep what the files of a library say, headers and vectors, in one sqlite file that is never believed against them.

Nothing is lost with it, so nothing that is wrong with it is an error: a file that is missing, damaged, locked or of
another version counts as empty, and one that cannot be written stays as it is.

A row is believed where its checksum is right and where it bears the stamp of the very file that it was read from: size,
time of change, and the time when the system last touched the file's entry. No archive carries the last of these along,
so that an index that came with a stranger's library is read from the files anew.
"""

import contextlib
import logging
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from spot.errors import StorageError
from spot.storage.opening import open_regular

log = logging.getLogger(__name__)

_SCHEMA = 2  # raise it when anything that is kept changes its meaning, vectors included
_MARK = 0x73706F74  # sqlite's `application_id` of our files: "spot"
_MAGIC = b"SQLite format 3\0"
_HEAD = 100  # bytes, sqlite's own header
_PATIENCE = 2.0  # seconds to wait for another process that writes the cache
_LONGEST = 16_000_000  # bytes of a row
_SPARE = 1_000  # rows beyond those of the files, of files that are gone
_COMPANIONS = ("-journal", "-wal", "-shm")  # ours has none of them, and sqlite obeys what stands in them
_TABLES = (
    "CREATE TABLE headers (digest TEXT PRIMARY KEY, stamp TEXT NOT NULL, header TEXT NOT NULL, checksum BLOB NOT NULL)"
    " WITHOUT ROWID",
    "CREATE TABLE vectors (name TEXT, digest TEXT, stamp TEXT NOT NULL, vector BLOB NOT NULL, checksum BLOB NOT NULL,"
    " PRIMARY KEY (name, digest)) WITHOUT ROWID",
)

_Row = tuple[object, ...]


@dataclass(frozen=True)
class Kept:
    """What a cache holds under one name, or of headers.

    Attributes:
        values: digest -> what is kept; only what may be believed.
        damaged: digests whose rows are not as they were written.
    """

    values: Mapping[str, bytes]
    damaged: tuple[str, ...] = ()


def stamp_of(status: os.stat_result) -> str:
    """What tells one state of a file from every other."""
    return f"{status.st_size}.{status.st_mtime_ns}.{status.st_ctime_ns}"


class Cache:
    """Owns the file.

    Args:
        path: the file; it need not exist.
        read_only: never write it.
    """

    def __init__(self, path: Path, read_only: bool = False) -> None:
        """Name the file; nothing is read or written yet."""
        self.path = path
        self.read_only = read_only

    def headers(self, stamps: Mapping[str, str]) -> Kept:
        """The header of each digest, as the text that was kept.

        Args:
            stamps: of the files as they are now, by digest.
        """
        rows = self._read("SELECT digest, stamp, CAST(header AS BLOB), checksum FROM headers", (), len(stamps))
        return _believed(rows, "", stamps)

    def vectors(self, name: str, stamps: Mapping[str, str]) -> Kept:
        """The vector of each digest that was kept under a name; `stamps` as for `headers`."""
        query = "SELECT digest, stamp, vector, checksum FROM vectors WHERE name = ?"
        return _believed(self._read(query, (name,), len(stamps)), name, stamps)

    def problem(self) -> str | None:
        """Why the file that is there cannot be used, if it cannot; one of an older version is no problem."""
        try:
            with self._opened() as database:
                if database is not None:
                    database.execute("SELECT count(*) FROM headers").fetchone()
        except (sqlite3.Error, UnicodeDecodeError, OSError, StorageError) as error:
            return f"{self.path} is not used: {error}. `spot library reindex` makes it anew."
        return None

    def update(
        self, stamps: Mapping[str, str], gone: Iterable[str] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        """Forget digests, then keep the headers of others, of files with these stamps."""
        forget = [(digest,) for digest in gone]
        keep = [
            (digest, stamps[digest], text, _checksum("", digest, stamps[digest], text.encode()))
            for digest, text in (headers or {}).items()
        ]
        self._write(
            ("DELETE FROM headers WHERE digest = ?", forget),
            ("DELETE FROM vectors WHERE digest = ?", forget),
            ("INSERT OR REPLACE INTO headers VALUES (?, ?, ?, ?)", keep),
        )

    def keep_vectors(self, name: str, stamps: Mapping[str, str], vectors: Mapping[str, bytes]) -> None:
        """Keep a vector of each digest under a name."""
        rows = [
            (name, digest, stamps[digest], vector, _checksum(name, digest, stamps[digest], vector))
            for digest, vector in vectors.items()
        ]
        self._write(("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)", rows))

    def drop(self) -> None:
        """Delete the file; a link of its name is deleted and not followed."""
        for suffix in ("", *_COMPANIONS):
            with contextlib.suppress(OSError):
                self.path.with_name(f"{self.path.name}{suffix}").unlink(missing_ok=True)

    def _read(self, query: str, values: Sequence[str], files: int) -> list[_Row]:
        """The rows that answer a query; none where there are far more than files."""
        try:
            with self._opened() as database:
                if database is None:
                    return []
                most = 2 * files + _SPARE
                rows = database.execute(query, values).fetchmany(most + 1)
                if len(rows) > most:
                    raise sqlite3.DatabaseError(f"more than {most} rows for {files} files")
                return rows
        except (sqlite3.Error, UnicodeDecodeError, OSError, StorageError) as error:
            log.debug("%s: %s", self.path, error)
            return []

    @contextlib.contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection | None]:
        """The file, for reading; None where there is none of this version.

        Raises:
            StorageError, sqlite3.Error: it is a link, no regular file, or no index.
        """
        if self._version() != _SCHEMA:
            yield None
            return
        address = f"{self.path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, _PATIENCE, uri=True)) as database:
            _guard(database)
            if _tables(database) != set(_TABLES):
                raise sqlite3.DatabaseError("it has other tables than an index has")
            yield database

    def _version(self) -> int | None:
        """The version of the index, 0 of an empty file; None where there is no file.

        Raises:
            StorageError, sqlite3.Error: it is a link, no regular file, another program's, or no index.
        """
        try:
            with open_regular(self.path, self.path.parent) as file:
                head = file.read(_HEAD)
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise StorageError(f"{self.path}: {error}") from error
        for suffix in _COMPANIONS:
            if os.path.lexists(f"{self.path}{suffix}"):
                raise sqlite3.DatabaseError(f"there is a file {self.path.name}{suffix} beside it")
        if not head:
            return 0
        if len(head) < _HEAD or not head.startswith(_MAGIC) or head[18:20] != b"\1\1":
            raise sqlite3.DatabaseError("it is no index")
        version, mark = (int.from_bytes(head[place : place + 4], "big") for place in (60, 68))
        if mark != _MARK and not 1 <= version < _SCHEMA:  # the first versions had no mark
            raise _Foreign(f"it is a database of another program (version {version}, mark {mark:#x})")
        return version

    def _write(self, *changes: tuple[str, Sequence[_Row]]) -> None:
        """Make changes, all or none; a damaged file is replaced by one with these alone."""
        if self.read_only or not any(rows for _, rows in changes):
            return
        try:
            try:
                if self._version() not in (None, 0, _SCHEMA):
                    self.drop()
                self._store(changes)
            except (sqlite3.OperationalError, _Foreign):
                raise  # locked, full or not ours to write: sqlite's other errors mean damage
            except sqlite3.DatabaseError as error:
                log.debug("%s is made anew: %s", self.path, error)
                self.drop()
                self._store(changes)
        except (sqlite3.Error, OSError, StorageError) as error:
            log.debug("%s is not written: %s", self.path, error)

    def _store(self, changes: Iterable[tuple[str, Sequence[_Row]]]) -> None:
        """Make changes in one transaction."""
        with contextlib.closing(sqlite3.connect(self.path, _PATIENCE)) as database:
            _guard(database)
            with database:
                database.execute("BEGIN IMMEDIATE")
                tables = _tables(database)
                if not tables:
                    for statement in _TABLES:
                        database.execute(statement)
                elif tables != set(_TABLES):
                    raise sqlite3.DatabaseError("it has other tables than an index has")
                for statement, rows in changes:
                    database.executemany(statement, rows)
                database.execute(f"PRAGMA user_version = {_SCHEMA}")
                database.execute(f"PRAGMA application_id = {_MARK}")


class _Foreign(sqlite3.DatabaseError):
    """A whole database of another program, which stays as it is."""


def _guard(database: sqlite3.Connection) -> None:
    """Let nothing that stands in the file run, and no other file be written."""
    database.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
    database.execute("PRAGMA trusted_schema = OFF")
    database.execute("PRAGMA cell_size_check = ON")
    # A journal on the disk names files that sqlite deletes. Without one a kill may tear the file, which shows.
    database.execute("PRAGMA journal_mode = MEMORY")


def _tables(database: sqlite3.Connection) -> set[object]:
    """The statements that made all that is in a database; a table could be a view or have triggers."""
    return {sql for (sql,) in database.execute("SELECT sql FROM sqlite_master LIMIT 100")}


def _believed(rows: Iterable[_Row], name: str, stamps: Mapping[str, str]) -> Kept:
    """Of rows (digest, stamp, value, checksum) those of the files as they are now, and which are damaged."""
    values, damaged = {}, []
    for digest, stamp, value, checksum in rows:
        if not (isinstance(digest, str) and isinstance(stamp, str) and isinstance(value, bytes)):
            damaged.append(str(digest))
        elif checksum != _checksum(name, digest, stamp, value):
            damaged.append(digest)
        elif stamps.get(digest) == stamp:
            values[digest] = value
    return Kept(values, tuple(damaged))


def _checksum(name: str, digest: str, stamp: str, value: bytes) -> bytes:
    """What shows a row that is no longer as it was written."""
    total = blake2b(f"{name}\0{digest}\0{stamp}\0".encode("utf-8", "surrogatepass"), digest_size=16)
    total.update(value)
    return total.digest()
