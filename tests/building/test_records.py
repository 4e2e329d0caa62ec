"""What is kept of a build: read back as it was written, refused in one message where it is damaged."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from spot.building.door import build_library, plan_library
from spot.building.plan import BuildPlan
from spot.building.records import find_done, jobs_folder, keep_done
from spot.errors import LibraryError, RunError
from tests.support.made_up_builds import worker


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "build.json"),
        (b"{", "build.json"),
        (b"[1]", "build.json"),
        (b'{"recipe": {}}', "'backbone' is missing"),
        (b"\xff\xfe", "build.json"),
    ],
)
def test_a_damaged_record_is_one_message(recipe, backbone, planned, tmp_path: Path, content: bytes, words: str):
    place = tmp_path / "library"
    build_library(planned, place, executor=worker(planned))
    (place / "build.json").write_bytes(content)
    with pytest.raises(LibraryError, match=words):
        plan_library(recipe, backbone, place)


def test_a_recipe_in_a_record_is_checked_like_any_other(recipe, backbone, planned, tmp_path: Path):
    place = tmp_path / "library"
    build_library(planned, place, executor=worker(planned))
    content = json.loads((place / "build.json").read_bytes())
    content["recipe"]["key_step"] = -3
    (place / "build.json").write_text(json.dumps(content))
    with pytest.raises(LibraryError, match="recipe's key_step is -3"):
        plan_library(recipe, backbone, place)


def test_what_came_of_a_job_is_read_back(planned: BuildPlan):
    hand = worker(planned)
    [race] = planned.races
    source = planned.source(planned.sources[0], planned.settings[0])
    for job in (race, source):
        assert find_done(job) is None
        done = hand.made_up(job)
        keep_done(job, done)
        assert find_done(job) == done


def test_a_job_whose_prompt_is_gone_is_done_again(planned: BuildPlan):
    job = planned.source(planned.sources[0], planned.settings[0])
    keep_done(job, worker(planned).made_up(job))
    next(jobs_folder().glob("*.safetensors")).unlink()
    assert find_done(job) is None


def test_a_damaged_job_says_which_file_to_delete(planned: BuildPlan):
    job = planned.source(planned.sources[0], planned.settings[0])
    keep_done(job, worker(planned).made_up(job))
    [path] = jobs_folder().glob("*.json")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=f"{path.name}.*Delete it"):
        find_done(job)


def test_jobs_differ_by_model_rows_and_settings_and_not_by_the_folder_of_the_model(planned: BuildPlan):
    task, setting = planned.sources[0], planned.settings[0]
    job = planned.source(task, setting)
    moved = replace(planned, backbone="elsewhere").source(task, setting)
    others = [
        planned.source(task, planned.settings[1]),
        planned.source(task, setting, again=True),
        planned.source(replace(task, revision="another"), setting),
        replace(planned, identity=replace(planned.identity, fingerprint="another")).source(task, setting),
    ]
    assert moved.digest == job.digest
    assert len({job.digest, *(other.digest for other in others)}) == 5
