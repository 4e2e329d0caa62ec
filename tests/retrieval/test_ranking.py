"""What past transfers showed: where it is kept, that it is kept once, and that it ranks as the predictor says."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import spot
from spot.errors import ConfigError, LibraryError, PromptError, StorageError
from spot.library import history
from spot.library import library as library_module
from spot.library.history import TransferRecord
from spot.library.library import Library
from spot.prompts.prompt import SoftPrompt
from spot.retrieval import predictor
from spot.retrieval.embeddings import encoded_summaries, summary, task_embedding
from spot.retrieval.ranking import (
    RANK_BY,
    Ranking,
    history_of,
    rank_by_history,
    read_ranking,
    remember,
    retrieve,
    write_ranking,
)
from spot.retrieval.search import Ranked, nearest
from spot.storage.files import lock
from tests.support.prompts import BACKBONE, RECIPE, library_prompt

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
        embedding=encoded_summaries(prompt),
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
    found = retrieve(target(), library, k=len(SOURCES), rank_by="learned")
    ours = direction(target())
    near = np.array([ours @ direction(library.get(source)) for source in SOURCES])
    to_targets = np.array([ours @ direction(prompt) for prompt in past])
    wanted = predictor.predict(predictor.fit(gains), near, to_targets)
    order = np.argsort(-wanted)
    assert [one.task for one in found.sources] == [SOURCES[number] for number in order]
    assert found.expected == pytest.approx(wanted[order], abs=1e-5)  # similarities of float32 summaries
    assert [one.similarity for one in found.sources] == pytest.approx(near[order], abs=1e-6)
    assert found.rank_by == "learned" and [one.task for one in found.sources] != [
        one.task for one in nearest(target(), library, k=len(SOURCES))
    ]
    assert retrieve(target(), library, k=2, rank_by="learned").sources == found.sources[:2]


def test_one_record_of_a_target_holds_its_embedding_for_all(library):
    taught(library)
    whole = retrieve(target(), library, k=6, rank_by="learned")
    seen: set[str] = set()
    lean = []
    for record in library.transfers():
        lean.append(replace(record, embedding=None) if record.target in seen else record)
        seen.add(record.target)
    (library.path / "transfers.jsonl").write_bytes(b"".join(map(history.line_of, lean)))
    assert sum(record.embedding is not None for record in library.transfers()) == 8
    assert retrieve(target(), library, k=6, rank_by="learned") == whole


def test_the_targets_own_past_never_counts(library):
    past, _ = taught(library)
    before = retrieve(target(), library, k=6, rank_by="learned")
    remember(library, [lesson(library, source, target(), 90.0 * number) for number, source in enumerate(SOURCES)])
    assert retrieve(target(), library, k=6, rank_by="learned") == before
    assert rank_by_history(target("fresh"), library, k=6).results == 9 * len(SOURCES)
    assert (
        rank_by_history(past[0], library, k=6).results
        == rank_by_history(target(), library, k=6).results
        == 8 * len(SOURCES)
    )
    assert rank_by_history(target(), library, k=6, without={past[0].task}).results == 7 * len(SOURCES)


def test_sources_without_are_neither_ranked_nor_learned_from(library):
    taught(library, targets=10)
    found = retrieve(target("red"), library, k=5, rank_by="learned", without={"red"})
    assert {one.task for one in found.sources} == set(SOURCES[1:])
    with pytest.raises(ConfigError, match=r"k is 6, but .* holds 5 candidates"):
        retrieve(target("red"), library, k=6, rank_by="learned", without={"red"})


def test_too_small_a_record_ranks_by_similarity_and_says_so(library, caplog):
    taught(library, targets=6)
    found = retrieve(target(), library, k=4, rank_by="learned")
    assert found == Ranking(tuple(nearest(target(), library, "mean", 4)), "mean")
    assert "36 results of past transfers from these sources are known, and `learned` takes 40" in caplog.text
    assert "ranked by `mean`" in caplog.text
    assert found.results == 36 and rank_by_history(target(), library, k=4) == found


@pytest.mark.parametrize("rank_by", ["mean", "token", "max"])
def test_similarities_rank_as_the_search_says(library, rank_by):
    assert retrieve(target(), library, k=3, rank_by=rank_by) == Ranking(
        tuple(nearest(target(), library, rank_by, 3)), rank_by
    )


def test_an_unknown_ranking_is_refused(library):
    with pytest.raises(ConfigError, match=r"cannot rank by 'lerned': did you mean 'learned'"):
        retrieve(target(), library, k=3, rank_by="lerned")


def test_records_that_cannot_be_placed_are_passed_over(library):
    taught(library)
    wanted = retrieve(target(), library, k=6, rank_by="learned")
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
        {"embedding": {"token": encoded_summaries(target())["token"]}},
        {"embedding": None},
        {"source": "somewhere else", "embedding": encoded_summaries(other)},
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
    assert retrieve(target(), library, k=6, rank_by="learned") == wanted
    assert len(history_of(library)) == 13 * len(SOURCES)


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
    assert history_of(shipped) == history_of(library) == [*library.transfers(), *records]
    remember(library, records)  # once the library can be written, it has them too, and they count once
    assert len(history_of(library)) == 3 * len(SOURCES)


def test_a_library_in_use_is_no_reason_to_forget(library, own_cache, caplog):
    records = [lesson(library, "red", target(), 1.0)]
    with lock(library.path / "prompts"):
        remember(library, records)
    assert "in use by another writer" in caplog.text and str(own_cache / "experience.jsonl") in caplog.text
    assert history_of(library) == records and library.transfers() == []


def test_a_full_disk_everywhere_is_said_and_no_error(library, monkeypatch, caplog):
    def full(path: Path, line: bytes, inside: Path | None = None) -> None:
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
        retrieve(target(), library, k=2, rank_by="learned")
    assert retrieve(target(), library, k=2, rank_by="mean").sources
    assert RANK_BY == ("mean", "token", "max", "learned", "record")


@pytest.mark.parametrize("rank_by", ["learned", "record", "mean"])
def test_a_ranking_that_is_kept_outlives_what_is_learned_later(library, tmp_path, rank_by):
    taught(library)
    prompts = [library.get(source).digest for source in SOURCES]
    path = tmp_path / "ranking.json"
    assert read_ranking(path, prompts) is None
    first = retrieve(target(), library, k=6, rank_by=rank_by)
    write_ranking(path, first)
    again = read_ranking(path, prompts)
    assert again is not None and again.to_json() == first.to_json() and again.rank_by == rank_by
    assert json.loads(path.read_text()) == {"metric": rank_by, "sources": first.to_json()}
    assert read_ranking(path, [*prompts, "another"]) is None
    assert read_ranking(path, prompts[1:]) is None


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"metric": "mean"}', '{"metric": "mean", "sources": [{"prompt": "a", "task": 1}]}']
)
def test_a_damaged_ranking_is_made_anew(tmp_path, text):
    (tmp_path / "ranking.json").write_text(text)
    assert read_ranking(tmp_path / "ranking.json", []) is None


STORED = {"prompt": "a", "task": "b", "similarity": 0.5}


@pytest.mark.parametrize(
    ("sources", "rank_by"),
    [
        ([{**STORED, "similarity": 1e300}], "mean"),
        ([{**STORED, "similarity": True}], "mean"),
        ([STORED, STORED], "mean"),
        ([{**STORED, "expected": 1e300}], "learned"),
        ([{**STORED, "expected": 0.5}, {**STORED, "prompt": "c"}], "learned"),
        ([STORED], "zzz"),
    ],
)
def test_a_ranking_that_nobody_wrote_is_made_anew(tmp_path, sources, rank_by):
    path = tmp_path / "ranking.json"
    path.write_text(json.dumps({"metric": rank_by, "sources": sources}))
    assert read_ranking(path, sorted({source["prompt"] for source in sources})) is None
    path.write_text(json.dumps({"metric": "mean", "sources": [STORED]}))
    assert read_ranking(path, ["a"]) is not None


def test_a_ranking_is_no_link_and_leaves_nothing_beside_it(library, tmp_path):
    """F3, F8, F16."""
    ranking = retrieve(target(), library, k=6)
    prompts = [source.prompt for source in ranking.sources]
    path, other = tmp_path / "out" / "ranking-01234567.json", tmp_path / "other.json"
    write_ranking(other, ranking)
    path.parent.mkdir()
    (path.parent / ".ranking-89abcdef.json.1.0123abcd.tmp").write_bytes(b"half")
    path.symlink_to(other)
    assert read_ranking(path, prompts) is None
    write_ranking(path, ranking)
    assert read_ranking(path, prompts) is not None and not path.is_symlink()
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    path.unlink()
    os.mkfifo(path)
    assert read_ranking(path, prompts) is None


def test_plain_values_have_expected_results_only_where_these_rank(library):
    taught(library)
    by_past = retrieve(target(), library, k=2, rank_by="learned").to_json()
    assert [list(one) for one in by_past] == [["prompt", "task", "similarity", "expected"]] * 2
    assert [list(one) for one in retrieve(target(), library, k=2, rank_by="mean").to_json()] == [
        ["prompt", "task", "similarity"]
    ] * 2


# The front door.


def test_a_prompt_and_a_library_may_be_named(library, tmp_path, monkeypatch):
    monkeypatch.setattr(library_module, "packaged", lambda: library.path)
    wanted = retrieve(target(), library, k=3)
    assert [type(source) for source in wanted.sources] == [Ranked] * 3 and wanted.rank_by == "mean"
    path = target().save(tmp_path / "prompt.safetensors")
    for prompt in (target(), path, str(path), tmp_path):
        for place in (library, library.path, str(library.path), "packaged"):
            assert retrieve(prompt, place, k=3) == wanted
    assert spot.retrieve(target(), k=3) == wanted, "of the library that ships"
    assert retrieve("packaged:red", k=1).sources[0].task == "red"
    assert retrieve("packaged:red", k=1, without=["red"]).sources[0].task != "red"
    assert len(retrieve(target(), library.path).sources) == 5


def test_what_the_front_door_refuses(library, tmp_path):
    with pytest.raises(LibraryError, match=r"there is no prompt library at .*none"):
        retrieve(target(), tmp_path / "none")
    with pytest.raises(PromptError, match=r"cannot read the prompt file .*nowhere"):
        retrieve(tmp_path / "nowhere", library)
    with pytest.raises(LibraryError, match="is called 'nothing'"):
        retrieve("packaged:nothing", library)
    with pytest.raises(PromptError, match="has no key, which a task embedding is read from"):
        retrieve(library_prompt("new", key=None), library)
    for rank_by in RANK_BY:
        with pytest.raises(ConfigError, match=r"k is 7, but .*library holds 6 candidates. Choose k from 1 to 6"):
            retrieve(target(), library, k=7, rank_by=rank_by)
        with pytest.raises(LibraryError, match="the key of 'new' cannot be compared"):
            retrieve(library_prompt("new", key_recipe=replace(RECIPE, step=60)), library, k=1, rank_by=rank_by)


def test_the_record_alone_ranks_by_past_gains_whatever_the_task(library):
    _, gains = taught(library)
    found = retrieve(target(), library, k=len(SOURCES), rank_by="record")
    wanted = (gains - gains.mean(axis=1, keepdims=True)).sum(axis=0) / (1 + len(gains))
    order = np.argsort(-wanted)
    assert [one.task for one in found.sources] == [SOURCES[number] for number in order]
    assert found.expected == pytest.approx(wanted[order]) and found.rank_by == "record"
    assert retrieve(target("another", 7), library, k=2, rank_by="record").sources[0].task == found.sources[0].task


def test_a_small_record_alone_ranks_by_similarity_and_says_so(library, caplog):
    taught(library, targets=2)
    found = retrieve(target(), library, k=3, rank_by="record")
    assert found.rank_by == "mean" and found.sources == tuple(nearest(target(), library, k=3))
    assert "`record` takes 40" in caplog.text


def test_the_history_says_which_ranking_has_proven_best(library, tmp_path):
    taught(library)
    found = rank_by_history(target(), library, k=6)
    assert found.rank_by in ("mean", "learned", "record") and "over 8 past targets" in found.why
    write_ranking(tmp_path / "ranking.json", found)
    again = read_ranking(tmp_path / "ranking.json", [source.prompt for source in found.sources])
    assert again is not None and again.why == found.why
    taught(library, targets=3)
    assert "too few" in rank_by_history(target(), library, k=6).why
