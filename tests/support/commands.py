"""How the tests drive the command line in process."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from spot.cli.app import main


@dataclass(frozen=True)
class Result:
    """What one command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout of a command that succeeded, which must be exactly one JSON document."""
        assert self.code == 0, self.err
        return json.loads(self.out)


Spot = Callable[..., Result]


def call(capsys: pytest.CaptureFixture[str], *words: object) -> Result:
    """Run one command; what was printed before is not its own."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    captured = capsys.readouterr()
    return Result(stop.value.code or 0, captured.out, captured.err)


def refused(result: Result, *parts: str) -> None:
    """Check for one message, no traceback, no output."""
    assert (result.code, result.out) == (2, ""), result
    assert result.err.count("error:") == 1 and "Traceback" not in result.err
    for part in parts:
        assert part in result.err, result.err
