"""Write and resume the folder of a run: `config.toml` comes first, `result.json` last.

config.toml     the resolved configuration under a line with its digest
log.jsonl       one JSON record a line, appended while the run goes on
checkpoint      the state to resume from
result.json     says that the run is finished
"""

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from spot.errors import RunError, StorageError
from spot.storage.files import lock, remove_leftovers, write_whole
from spot.storage.jsonl import append_lines
from spot.storage.opening import read_bounded
from spot.storage.strict_json import read_object

MOST_BYTES = 64_000_000  # of a configuration or a result: the curve of 100 runs of 100,000 steps
MOST_LOG_BYTES = 1_000_000_000
MOST_CHECKPOINT_BYTES = 10**12  # where nobody knows better: the largest models have some 10^11 parameters

_DIGEST_LINE = "# spot run {digest}\n"
_DIGEST_PATTERN = re.compile(r"# spot run ([0-9a-f]+)\n")


class RunDir:
    """One run's folder. Reading needs no more than the path; writing happens inside `with`, under a lock.

    Args:
        path: the folder; `with` makes it.
    """

    def __init__(self, path: Path | str) -> None:
        """Name the folder; nothing is read or written yet."""
        self.path = Path(path)
        self._held: contextlib.ExitStack | None = None

    def __enter__(self) -> Self:
        """Take the folder for writing and sweep up what a killed writer left.

        Raises:
            StorageError: another process writes this run, or the folder cannot be made.
        """
        with contextlib.ExitStack() as stack:
            stack.enter_context(lock(self.path / "run", self.path))
            remove_leftovers(self.path, self.path)
            self._held = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder back."""
        held, self._held = self._held, None
        if held is not None:
            held.close()

    def create(self, config_toml: str, digest: str) -> None:
        """Begin a run, or go on with one of the same configuration.

        Args:
            config_toml: the resolved configuration.
            digest: hex digits over it and over all else that decides the outcome.

        Raises:
            RunError: the folder holds a run of another configuration, or files of a run without one.
            StorageError: the folder cannot be written.
        """
        self._assert_held()
        present = self.digest()
        if present is None:
            strays = [name for name in ("log.jsonl", "checkpoint", "result.json") if os.path.lexists(self.path / name)]
            if strays:
                raise RunError(
                    f"{self.path} holds {', '.join(strays)} but no config.toml that says of which run. "
                    "Choose an empty folder."
                )
            text = _DIGEST_LINE.format(digest=digest) + config_toml
            write_whole(self.path / "config.toml", text.encode(), self.path)
        elif present != digest:
            raise RunError(
                f"{self.path} holds a run of another configuration or other data: its digest is {present}, "
                f"that of this run is {digest}. Choose another folder, or repeat the command with the "
                f"settings in {self.path / 'config.toml'}."
            )
        self._mend_log()

    def digest(self) -> str | None:
        """The digest of the run that the folder holds, or None where it holds none.

        Raises:
            RunError: `config.toml` was not written by a run.
        """
        data = self._read("config.toml", MOST_BYTES)
        if data is None:
            return None
        match = _DIGEST_PATTERN.match(data.decode("utf-8", "replace"))
        if match is None:
            raise RunError(
                f"{self.path / 'config.toml'} does not begin with '# spot run DIGEST', so no run wrote it. "
                "Choose another folder."
            )
        return match[1]

    def log(self, record: Mapping[str, Any]) -> None:
        """Append one record, which is on the disk when this returns.

        Raises:
            StorageError: the log cannot be written; it ends with the record before.
        """
        self._assert_held()
        append_lines(self.path / "log.jsonl", [f"{json.dumps(dict(record))}\n".encode()], self.path)

    def read_log(self) -> list[dict[str, Any]]:
        """All records; a last line that a kill tore is left out.

        Raises:
            RunError: a line before the last is no record.
        """
        return self._parse_log()[0]

    def truncate_log(self, step: int) -> None:
        """Drop the records of later steps: a run that resumes at `step` writes them again.

        Args:
            step: the last step to keep; records without a step stay.

        Raises:
            RunError: the log is damaged before its last line.
            StorageError: the log cannot be written; the old one is intact.
        """
        self._assert_held()
        records = self.read_log()
        earlier = [record for record in records if record.get("step", step) <= step]
        if len(earlier) < len(records):
            content = "".join(json.dumps(record) + "\n" for record in earlier).encode()
            write_whole(self.path / "log.jsonl", content, self.path)

    def save_checkpoint(self, data: bytes) -> None:
        """Replace the state to resume from.

        Raises:
            StorageError: it cannot be written; the old one is intact.
        """
        self._assert_held()
        write_whole(self.path / "checkpoint", data, self.path)

    def load_checkpoint(self, most_bytes: int = MOST_CHECKPOINT_BYTES) -> bytes | None:
        """The state to resume from, or None.

        Args:
            most_bytes: a larger file is refused before it is read.

        Raises:
            RunError: it is there and cannot be read.
        """
        return self._read("checkpoint", most_bytes)

    def finish(self, result: bytes) -> None:
        """Write the result, which says that the run is finished.

        Raises:
            StorageError: it cannot be written.
        """
        self._assert_held()
        write_whole(self.path / "result.json", result, self.path)

    def result(self) -> bytes | None:
        """The result of a finished run, as it was written, or None.

        Raises:
            RunError: it is there and cannot be read.
        """
        return self._read("result.json", MOST_BYTES)

    def _assert_held(self) -> None:
        """Writing without the lock is our own mistake."""
        assert self._held is not None, "write to a RunDir inside `with`"

    def _parse_log(self) -> tuple[list[dict[str, Any]], int]:
        """The records, and the bytes up to the end of the last whole one."""
        path = self.path / "log.jsonl"
        lines = (self._read(path.name, MOST_LOG_BYTES) or b"").splitlines(keepends=True)
        records: list[dict[str, Any]] = []
        whole = 0
        for number, line in enumerate(lines, start=1):
            try:
                if not line.endswith(b"\n"):
                    raise ValueError("no end of line")
                record = read_object(line, "line", RunError)
                if type(step := record.get("step", 0)) is not int or step < 0:
                    raise ValueError(f"its step is {step!r:.40}; expected a number from 0")
            except (ValueError, RunError) as error:
                if number == len(lines):
                    break
                reason = str(error).removeprefix("line: ").rstrip(".")
                raise RunError(
                    f"{path}: line {number} of {len(lines)} is no record ({reason}). Delete the folder {self.path} and "
                    "run the command again."
                ) from error
            records.append(record)
            whole += len(line)
        return records, whole

    def _mend_log(self) -> None:
        """Cut a torn last line off, so that the next record begins on a line of its own."""
        content = self._read("log.jsonl", MOST_LOG_BYTES)
        _, whole = self._parse_log()
        if content is not None and len(content) > whole:
            # A new file, not this one shortened: another name of it may be a user's own file.
            write_whole(self.path / "log.jsonl", content[:whole], self.path)

    def _read(self, name: str, most_bytes: int) -> bytes | None:
        """The content of one of the folder's own files, or None where it has no such file.

        Raises:
            RunError: it is too large, no regular file, a link, or cannot be read.
        """
        try:
            return read_bounded(self.path / name, most_bytes, self.path)
        except StorageError as error:
            raise RunError(str(error)) from error
