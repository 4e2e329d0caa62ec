"""The campaign that kills commands sees what they leave otherwise than undisturbed ones."""

from tests.campaigns import kills


def test_the_campaign_sees_what_a_killed_command_leaves_otherwise():
    whole = {"run/result.json": {"score": 1}, "run/prompt.safetensors": b"a"}
    assert kills.differences(whole, dict(whole)) == []
    assert kills.differences(whole, {"run/result.json": {"score": 2}, "run/.part": b""}) == [
        "run/prompt.safetensors is missing",
        "run/.part is left",
        "run/.part stayed behind",
        "run/result.json differs",
    ]


def test_what_a_clock_says_is_no_difference(tmp_path):
    for name, seconds in (("one", 1), ("two", 2)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "log.jsonl").write_text(f'{{"step": 1, "seconds": {seconds}}}\n')
    assert kills.left_in(tmp_path / "one") == kills.left_in(tmp_path / "two") == {"log.jsonl": [{"step": 1}]}
