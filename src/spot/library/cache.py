"""Keep headers and vectors of files, which are named by the digest of their content, in one sqlite file.

Nothing is lost with it, so nothing that is wrong with it is an error: a file that is missing, damaged, locked or of
another version counts as empty, and one that cannot be written stays as it is.
"""

import contextlib
import json
import logging
import sqlite3
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

log = logging.getLogger(__name__)

_SCHEMA = 1  # raise it when anything that is kept changes its meaning, vectors included
_PATIENCE = 2.0  # seconds to wait for another process that writes the cache
_TABLES = """
CREATE TABLE IF NOT EXISTS headers (digest TEXT PRIMARY KEY, header TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS vectors
    (name TEXT, digest TEXT, vector BLOB NOT NULL, PRIMARY KEY (name, digest)) WITHOUT ROWID;
"""


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

    def headers(self) -> dict[str, dict[str, Any]]:
        """The header of each digest."""
        try:
            return {digest: dict(json.loads(text)) for digest, text in self._read("SELECT digest, header FROM headers")}
        except (TypeError, ValueError) as error:
            log.debug("%s: %s", self.path, error)
            return {}

    def vectors(self, name: str) -> dict[str, bytes]:
        """The vector of each digest that was kept under a name."""
        return dict(self._read("SELECT digest, vector FROM vectors WHERE name = ?", name))

    def update(self, gone: Iterable[str] = (), headers: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Forget digests, then keep the headers of others."""
        forget = [(digest,) for digest in gone]
        keep = [(digest, json.dumps(header)) for digest, header in (headers or {}).items()]
        self._write(
            ("DELETE FROM headers WHERE digest = ?", forget),
            ("DELETE FROM vectors WHERE digest = ?", forget),
            ("INSERT OR REPLACE INTO headers VALUES (?, ?)", keep),
        )

    def keep_vectors(self, name: str, vectors: Mapping[str, bytes]) -> None:
        """Keep a vector of each digest under a name."""
        rows = [(name, digest, vector) for digest, vector in vectors.items()]
        self._write(("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows))

    def drop(self) -> None:
        """Delete the file."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)
            self.path.with_name(f"{self.path.name}-journal").unlink(missing_ok=True)

    def _read(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        """The rows that answer a query."""
        if not self.path.is_file():
            return []
        try:
            address = f"{self.path.absolute().as_uri()}?mode=ro"
            with contextlib.closing(sqlite3.connect(address, _PATIENCE, uri=True)) as database:
                version = database.execute("PRAGMA user_version").fetchone()[0]
                return database.execute(query, values).fetchall() if version == _SCHEMA else []
        except (sqlite3.Error, UnicodeDecodeError) as error:
            log.debug("%s: %s", self.path, error)
            return []

    def _write(self, *changes: tuple[str, list[tuple[Any, ...]]]) -> None:
        """Make changes, all or none; a damaged file is replaced by one with these alone."""
        if self.read_only or not any(rows for _, rows in changes):
            return
        try:
            try:
                self._store(changes)
            except sqlite3.OperationalError:  # locked, full or not ours to write: sqlite's other errors mean damage
                raise
            except sqlite3.DatabaseError as error:
                log.debug("%s is made anew: %s", self.path, error)
                self.drop()
                self._store(changes)
        except sqlite3.Error as error:
            log.debug("%s is not written: %s", self.path, error)

    def _store(self, changes: Iterable[tuple[str, list[tuple[Any, ...]]]]) -> None:
        """Make changes in one transaction."""
        with contextlib.closing(sqlite3.connect(self.path, _PATIENCE)) as database:
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, _SCHEMA):
                raise sqlite3.DatabaseError(f"version {version}, expected {_SCHEMA}")
            database.executescript(_TABLES)
            with database:
                for statement, rows in changes:
                    database.executemany(statement, rows)
                database.execute(f"PRAGMA user_version = {_SCHEMA}")
