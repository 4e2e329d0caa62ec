"""`spot bug`: the file, and what it says of it."""

import json
from pathlib import Path

from tests.support.commands import Spot, refused


def test_the_file_is_what_json_prints_and_the_user_is_asked_to_read_it(spot: Spot, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = spot("bug")
    assert "wrote spot-bug.json" in result.out and "Read it before you send it" in result.out
    assert json.loads(Path("spot-bug.json").read_text()) == spot("bug", "--json").json
    refused(spot("bug", "nothing"), "no run in")
