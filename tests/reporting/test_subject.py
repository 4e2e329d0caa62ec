"""What a report is about: a prompt, its file, the folder of a run, of a transfer or of a tuned model."""

import shutil
from pathlib import Path

import pytest

from spot.errors import PromptError, RunError
from spot.reporting.subject import read_subject
from tests.support.pages import write_run
from tests.support.prompts import library_prompt


def test_a_prompt_in_memory_and_its_file(tmp_path: Path):
    prompt = library_prompt()
    memory = read_subject(prompt)
    assert (memory.kind, memory.task, memory.place, memory.gangs) == ("prompt", prompt.task, "", ())
    path = prompt.save(tmp_path / "mine.safetensors")
    named = read_subject(str(path))
    assert named.prompt.digest == prompt.digest and named.prompt_file == str(path)
    assert named.settings == {"steps": 200}


def test_a_run_has_its_curves_from_its_folder_and_from_its_prompt(tuned_run: Path):
    run, file = read_subject(tuned_run), read_subject(tuned_run / "prompt.safetensors")
    assert (run.kind, file.kind) == ("run", "prompt")
    assert run.prompt.digest == file.prompt.digest and run.gangs == file.gangs
    [gang] = run.gangs
    assert gang.name == "Plain prompt tuning from words of the vocabulary"
    assert [step for step, _ in gang.curves[0]] == [0, 2, 4] and gang.selection == gang.results[0].best_score


def test_a_run_that_goes_on_has_the_curve_of_its_log(tuned_run: Path, tmp_path: Path):
    folder = Path(shutil.copytree(tuned_run, tmp_path / "copy"))
    whole = read_subject(folder)
    (folder / "result.json").unlink()
    assert read_subject(folder).gangs[0].curves == whole.gangs[0].curves
    assert read_subject(folder).gangs[0].results == ()
    (folder / "prompt.safetensors").unlink()
    with pytest.raises(RunError, match="has left no prompt so far"):
        read_subject(folder)


def test_a_transfer_is_its_runs_the_best_by_selection_first(tuned_run: Path, tmp_path: Path):
    write_run(tmp_path / "transfer" / "race", [[(0, 1.0), (2, 2.0)]])
    shutil.copytree(tuned_run, tmp_path / "transfer" / "plain-vocabulary")
    read = read_subject(tmp_path / "transfer")
    assert read.kind == "transfer" and [gang.folder.name for gang in read.gangs] == ["plain-vocabulary", "race"]
    assert read.prompt_file == str(tmp_path / "transfer" / "plain-vocabulary" / "prompt.safetensors")


def test_what_is_no_run_is_refused(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(RunError, match="holds nothing to report on: expected a prompt's file, or the folder"):
        read_subject(tmp_path / "empty")
    with pytest.raises(PromptError):
        read_subject(tmp_path / "nothing")
