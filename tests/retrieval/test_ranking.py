"""What past transfers showed: where it is kept, that it is kept once, and that it ranks as the predictor says."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from spot.errors import ConfigError, LibraryError, StorageError
from spot.library import history
from spot.library.history import TransferRecord, decode_summary
from spot.library.library import Library
from spot.prompts.prompt import SoftPrompt
from spot.retrieval import predictor, ranking
from spot.retrieval.ranking import Ranking, by_experience, rank, read, remember, summaries
from spot.retrieval.search import retrieve, summary, task_embedding
from spot.storage.files import lock
from tests.support.prompts import BACKBONE, library_prompt

SOURCES = ("red", "green", "blue", "pink", "grey", "teal")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library.create(tmp_path / "library")
    for seed, task in enumerate(SOURCES):
        made.add(library_prompt(task, seed))
    return made


def target(name: str = "new", seed: int = 50) -> SoftPrompt:
    return library_prompt(name, seed)


def lesson(library: Library, source: str, prompt: SoftPrompt, gain: float, **changes: Any) -> TransferRecord:
    digest = library.get(source).digest
    record = TransferRecord(
        id=f"{digest}-{prompt.task}",
        source=digest,
        source_task=source,
        target=prompt.task,
        gain=gain,
        steps=36,
        rows=100,
        seeds=3,
        embedding=summaries(prompt),
    )
    return replace(record, **changes)


def taught(library: Library, targets: int = 8, seed: int = 0) -> tuple[list[SoftPrompt], np.ndarray]:
    """Past targets and their gains from each source, recorded in the library."""
    past = [target(f"past{number}", 100 + number) for number in range(targets)]
    gains = np.random.default_rng(seed).normal(0, 5, size=(targets, len(SOURCES)))
    records = [
        lesson(library, source, prompt, float(gain))
        for prompt, row in zip(past, gains, strict=True)
        for source, gain in zip(SOURCES, row, strict=True)
    ]
    (library.path / "transfers.jsonl").write_bytes(b"".join(map(history.line_of, records)))  # one by one takes seconds
    return past, gains


def direction(prompt: SoftPrompt) -> np.ndarray:
    return summary(task_embedding(prompt.key, prompt.start), "mean")[0]


def test_past_transfers_rank_as_the_predictor_says(library):
    past, gains = taught(library)
    found = rank(target(), library, "learned", len(SOURCES))
    ours = direction(target())
    near = np.array([ours @ direction(library.get(source)) for source in SOURCES])
    to_targets = np.array([ours @ direction(prompt) for prompt in past])
    wanted = predictor.predict(predictor.fit(gains), near, to_targets)
    order = np.argsort(-wanted)
    assert [one.task for one in found.sources] == [SOURCES[number] for number in order]
    assert found.expected == pytest.approx(wanted[order], abs=1e-5)  # similarities of float32 summaries
    assert [one.similarity for one in found.sources] == pytest.approx(near[order], abs=1e-6)
    assert found.metric == "learned" and [one.task for one in found.sources] != [
        one.task for one in retrieve(target(), library, k=len(SOURCES))
    ]
    assert rank(target(), library, "learned", 2).sources == found.sources[:2]


def test_one_record_of_a_target_holds_its_embedding_for_all(library):
    taught(library)
    whole = rank(target(), library, "learned", 6)
    seen: set[str] = set()
    lean = []
    for record in library.transfers():
        lean.append(replace(record, embedding=None) if record.target in seen else record)
        seen.add(record.target)
    (library.path / "transfers.jsonl").write_bytes(b"".join(map(history.line_of, lean)))
    assert sum(record.embedding is not None for record in library.transfers()) == 8
    assert rank(target(), library, "learned", 6) == whole


def test_the_targets_own_past_never_counts(library):
    past, _ = taught(library)
    before = rank(target(), library, "learned", 6)
    remember(library, [lesson(library, source, target(), 90.0 * number) for number, source in enumerate(SOURCES)])
    assert rank(target(), library, "learned", 6) == before
    assert by_experience(target("fresh"), library, 6)[1] == 9 * len(SOURCES)
    assert by_experience(past[0], library, 6)[1] == by_experience(target(), library, 6)[1] == 8 * len(SOURCES)
    assert by_experience(target(), library, 6, {past[0].task})[1] == 7 * len(SOURCES)


def test_sources_without_are_neither_ranked_nor_learned_from(library):
    taught(library, targets=10)
    found = rank(target("red"), library, "learned", 5, {"red"})
    assert {one.task for one in found.sources} == set(SOURCES[1:])
    with pytest.raises(ConfigError, match=r"k is 6, but .* holds 5 candidates"):
        rank(target("red"), library, "learned", 6, {"red"})


def test_too_small_a_record_ranks_by_similarity_and_says_so(library, caplog):
    taught(library, targets=6)
    found = rank(target(), library, "learned", 4)
    assert found == Ranking(tuple(retrieve(target(), library, "mean", 4)), "mean")
    assert "36 results of past transfers from these sources are known, and `learned` takes 40" in caplog.text
    assert "ranked by `mean`" in caplog.text
    assert by_experience(target(), library, 4) == (None, 36)


@pytest.mark.parametrize("metric", ["mean", "token", "max"])
def test_similarities_rank_as_before(library, metric):
    assert rank(target(), library, metric, 3) == Ranking(tuple(retrieve(target(), library, metric, 3)), metric)


def test_an_unknown_metric_is_refused(library):
    with pytest.raises(ConfigError, match=r"unknown metric 'lerned': did you mean 'learned'"):
        rank(target(), library, "lerned", 3)


def test_records_that_cannot_be_placed_are_passed_over(library):
    taught(library)
    wanted = rank(target(), library, "learned", 6)
    other = library_prompt(
        "wide",
        7,
        value=np.ones((3, 6)),
        key=np.eye(3, 6) + 1,
        start=np.ones((3, 6)),
        backbone=replace(BACKBONE, width=6),
    )
    odd: list[dict[str, Any]] = [
        {"embedding": {}},
        {"embedding": {"token": summaries(target())["token"]}},
        {"embedding": None},
        {"source": "somewhere else", "embedding": summaries(other)},
        {"source": "somewhere else"},
    ]
    remember(
        library,
        [
            replace(lesson(library, source, target(f"odd{number}"), 50.0, id=f"{number}{source}"), **part)
            for number, part in enumerate(odd)
            for source in SOURCES
        ],
    )
    assert rank(target(), library, "learned", 6) == wanted
    assert len(read(library)) == 13 * len(SOURCES)


def test_a_records_summaries_are_those_of_its_target():
    encoded = summaries(target())
    assert set(encoded) == {"mean", "token"}
    for metric, text in encoded.items():
        wanted = summary(task_embedding(target().key, target().start), metric)[0].astype("<f4")
        assert np.array_equal(decode_summary(text), wanted)


def test_the_same_lesson_is_kept_once(library):
    for _ in range(2):
        remember(library, [lesson(library, source, target(), 1.0) for source in SOURCES])
    assert len(library.transfers()) == len(SOURCES)
    nameless = TransferRecord("a", "b", 1.0)
    for _ in range(2):
        library.record_transfers([nameless])
    assert library.transfers()[-2:] == [nameless, nameless]


def test_what_a_library_cannot_keep_is_kept_in_the_cache_and_read_beside_it(library, own_cache):
    taught(library, targets=2)
    shipped = Library(library.path, read_only=True)
    records = [lesson(library, source, target("beside"), 1.0) for source in SOURCES]
    for _ in range(2):
        remember(shipped, records)
    assert history.read(own_cache / "experience.jsonl") == records
    assert len(library.transfers()) == 2 * len(SOURCES)
    assert read(shipped) == read(library) == [*library.transfers(), *records]
    remember(library, records)  # once the library can be written, it has them too, and they count once
    assert len(read(library)) == 3 * len(SOURCES)


def test_a_library_in_use_is_no_reason_to_forget(library, own_cache, caplog):
    records = [lesson(library, "red", target(), 1.0)]
    with lock(library.path / "prompts"):
        remember(library, records)
    assert "in use by another writer" in caplog.text and str(own_cache / "experience.jsonl") in caplog.text
    assert read(library) == records and library.transfers() == []


def test_a_full_disk_everywhere_is_said_and_no_error(library, monkeypatch, caplog):
    def full(path: Path, line: bytes) -> None:
        raise StorageError(f"cannot write {path}: No space left on device.")

    monkeypatch.setattr(history, "append", full)
    remember(library, [lesson(library, "red", target(), 1.0)])
    assert "what this transfer showed is not kept for later ones: cannot write" in caplog.text


@pytest.mark.parametrize("line", ["{}", "no record", '{"source": "a", "target": "b", "gain": NaN}'])
@pytest.mark.parametrize("place", ["transfers.jsonl", "experience.jsonl"])
def test_a_damaged_record_ends_a_ranking_by_the_record(library, own_cache, place, line):
    taught(library)
    path = library.path / place if place == "transfers.jsonl" else own_cache / place
    with path.open("a") as file:
        number = path.read_text().count("\n") + 1
        file.write(f"{line}\n")
    with pytest.raises(LibraryError, match=rf"{place}: line {number} is no record of a transfer"):
        rank(target(), library, "learned", 2)
    assert rank(target(), library, "mean", 2).sources
    assert ranking.METRICS == ("mean", "token", "max", "learned")


@pytest.mark.parametrize("metric", ["learned", "mean"])
def test_a_ranking_that_is_kept_outlives_what_is_learned_later(library, tmp_path, metric):
    taught(library)
    prompts = [library.get(source).digest for source in SOURCES]
    path = tmp_path / "ranking.json"

    def made() -> Ranking:
        return rank(target(), library, metric, 6)

    def later() -> Ranking:
        raise AssertionError("it is not made twice")

    first = ranking.kept(path, prompts, made)
    again = ranking.kept(path, prompts, later)
    assert again.to_json() == first.to_json() == made().to_json() and again.metric == metric
    fewer = Ranking(first.sources[:2], metric, first.expected[:2])
    assert ranking.kept(path, [*prompts, "another"], lambda: fewer) == fewer
    path.write_text("[]")
    assert ranking.kept(path, prompts, made) == made()


def test_plain_values_have_expected_results_only_where_these_rank(library):
    taught(library)
    by_past = rank(target(), library, "learned", 2).to_json()
    assert [list(one) for one in by_past] == [["prompt", "task", "similarity", "expected"]] * 2
    assert [list(one) for one in rank(target(), library, "mean", 2).to_json()] == [["prompt", "task", "similarity"]] * 2
