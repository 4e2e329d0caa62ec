"""The main job: its target's rows, and the whole of it at reduced size."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from spot import demo
from spot.config import TransferConfig
from spot.errors import TaskError
from spot.library.library import open_library
from spot.models.backbone import Backbone
from spot.strategies.report import TransferReport
from spot.training.tuning import tune_prompt
from tests.support.toy_runs import library_of, named, source_config, word_splits


def candidate(rows: list[tuple[str, str]]) -> demo.Candidate:
    return demo.Candidate("demo/toy", "a toy", lambda: rows)


def rows_of(positive: int, negative: int) -> list[tuple[str, str]]:
    return [(f"row {n} is fine", "positive") for n in range(positive)] + [
        (f"row {n} is bad", "negative") for n in range(negative)
    ]


def archive(files: dict[str, str]) -> bytes:
    """A .tar.gz of text files."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
    return out.getvalue()


def test_a_candidate_becomes_a_task_file_with_disjoint_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(demo.CANDIDATES, "demo/toy", candidate(rows_of(200, 180)))
    task, rows = demo.build("demo/toy", tmp_path)
    assert (task.name, task.labels) == ("demo/toy", ("negative", "positive"))
    assert [len(part) for part in (rows.train, rows.selection, rows.report)] == [100, 60, 200]
    texts = [row.inputs for part in (rows.train, rows.selection, rows.report) for row in part]
    assert len(set(texts)) == 360 and all(text.startswith("sentence: row ") for text in texts)
    with pytest.raises(TaskError, match="no demo target 'demo/editorial'; did you mean 'demo/editorials'"):
        demo.build("demo/editorial", tmp_path)


def test_the_order_of_the_rows_is_nobodys_choice():
    rows = rows_of(200, 200)
    assert demo.parts(candidate(rows)) == demo.parts(candidate(rows[::-1] + rows[:3]))


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ((200, 200), ""),
        ((150, 150), "140 rows to report, fewer than 200"),
        ((300, 60), "83 % of the rows in one class"),
    ],
)
def test_the_rule_refuses_too_few_rows_and_a_large_class(counts: tuple[int, int], reason: str):
    assert demo.ineligible(candidate(rows_of(*counts))) == reason


def test_rated_sentences_are_short_and_clear(own_cache: Path):
    inner = archive(
        {
            "hutto_ICWSM_2014/toy_GroundTruth.txt": "1\t2.5\t a good one \n2\t-3\ta bad one\n3\t0.4\tso so\n"
            f"4\t3\t{'long ' * 20}\nbroken line\n"
        }
    )
    outer = io.BytesIO()
    with tarfile.open(fileobj=outer, mode="w:gz") as tar:
        member = tarfile.TarInfo(demo.RATINGS)
        member.size = len(inner)
        tar.addfile(member, io.BytesIO(inner))
    path = own_cache / "downloads" / demo.ARCHIVE
    path.parent.mkdir(parents=True)
    path.write_bytes(outer.getvalue())
    assert demo.rated("toy") == [("a good one", "positive"), ("a bad one", "negative")]
    with pytest.raises(TaskError, match=r"cannot be read from .*; expected the source archive of vaderSentiment"):
        demo.rated("other")


def test_ratings_that_are_not_here_have_the_line_that_fetches_them():
    with pytest.raises(TaskError, match=r"run: pip download .* vaderSentiment==3.3.2 -d "):
        demo.rated("toy")


def test_every_candidate_has_a_measured_row():
    names = [row[0] for row in json.loads((Path(demo.__file__).parent / demo.RECORD).read_text()).items()]
    assert sorted(names) == sorted(demo.CANDIDATES) and demo.TARGET in demo.CANDIDATES


def check_job(report: TransferReport, page: Path) -> None:
    """What holds of every run of the main job."""
    arms = "constant tfidf probe probe_behind frozen plain:vocabulary source spot"
    assert " ".join(arm.arm for arm in report.arms) == arms
    assert all(low <= arm.score <= high for arm in report.arms for low, high in [arm.interval])
    html = page.read_text()
    assert report.verdict in html and 'class="forest"' in html and 'class="chart"' in html and "https://" not in html
    assert "Rows it gets most wrong" in html and "Rows and their answers" in html
    json.dumps(report.to_json(), allow_nan=False)


@pytest.mark.slow  # it reads the ratings that `make data` has fetched
def test_the_main_job_on_a_tiny_model(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PARTS", {"train": 60, "validation": 40, "test": 40})
    model = tiny_folder("llama")
    backbone = Backbone.load(str(model))
    words = ("red", "green", "blue")
    sources = [
        tune_prompt(source_config(word, model), named(word), backbone, word_splits(word), out=tmp_path / word)
        for word in words
    ]
    library = library_of(sources, tmp_path / "library")
    config = TransferConfig(strategy="auto", budget="2x", steps=8, seeds=1, eval_every=2)
    report, page = demo.run(backbone, library, config=config, out=tmp_path)
    check_job(report, page)
    assert report.reason and {ranked.task for ranked in report.ranking} == set(words)
    steps = []
    again, _ = demo.run(backbone, library, config=config, out=tmp_path, progress=lambda *at: steps.append(at))
    assert again.to_json() == report.to_json() and steps == []


@pytest.mark.campaign
def test_the_main_job_at_reduced_size(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "PARTS", {"train": 60, "validation": 24, "test": 40})
    library, backbone = open_library("packaged"), Backbone.load("embedded")
    config = TransferConfig(strategy="auto", budget="2x", steps=library.key_recipe.step, seeds=1, eval_every=12)
    report, page = demo.run(backbone, library, config=config, out=tmp_path)
    check_job(report, page)
    assert len(report.ranking) == len(report.expected) == len(library.entries())
    assert report.reason and report.rank_by == "learned", "the library ships with its record of transfers"
    steps = []
    again, _ = demo.run(backbone, library, config=config, out=tmp_path, progress=lambda *at: steps.append(at))
    assert again.to_json() == report.to_json() and steps == []
