"""Keep how long a run was foretold to take, so that a plan that rests on it does not change with the next measurement.

probe.json      {"seconds": 12.5}
"""

from dataclasses import dataclass
from pathlib import Path

from pydantic import with_config

from spot.errors import RunError
from spot.storage.files import write_whole
from spot.storage.values import STRICT, read_value, to_json


@with_config(STRICT)
@dataclass(frozen=True)
class _Probe:
    """The content of the file: seconds of a whole run."""

    seconds: float


def write_probe(path: Path, seconds: float) -> None:
    """Keep a measurement.

    Raises:
        StorageError: it cannot be written.
    """
    write_whole(path, to_json(_Probe(seconds)).encode())


def read_probe(path: Path) -> float | None:
    """The measurement that a file keeps, in seconds; None where there is none.

    Raises:
        RunError: the file cannot be read, or is damaged.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunError(
            f"cannot read {path}: {error.strerror or error}. Delete it to have the time measured."
        ) from error
    try:
        return read_value(_Probe, content, str(path), RunError).seconds
    except RunError as error:
        raise RunError(f"{error} Delete it to have the time measured again.") from error
