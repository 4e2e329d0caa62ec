"""Transfers, correlations, rankings and the map of tasks, against scipy, numpy and the paper's own table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from scipy.cluster.hierarchy import cophenet

from spot.errors import StudyError, TaskError
from spot.retrieval import predictor
from spot.study.analysis.groups import group_records
from spot.study.analysis.pairs import (
    correlation,
    correlations,
    pair_table,
    ranker_qualities,
    table_summaries,
    task_map,
    transfers_of,
)
from spot.study.analysis.table import read_table, summarise
from spot.study.records import Record
from tests.support.study_records import curve, embedding, paper_like, record, study

TABLE6 = Path(__file__).parents[2] / "data" / "spot_table6.csv"  # Vu et al. 2022, Table 6


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return paper_like(6, 5, 2)


def test_a_transfer_by_hand():
    plain = {"t": (50.0, 54.0)}
    found = transfers_of(group_records(study(plain, {("a", "t"): (60.0, 53.0)}, {("a", "t"): 0.4})))[0]
    assert (found.source, found.target, found.seeds) == ("a", "t", 2)
    assert (found.mean, found.baseline, found.gain) == (56.5, 52.0, 4.5)
    assert found.deviation == pytest.approx(np.std([60, 53], ddof=1))
    assert found.rer == pytest.approx(100 * 4.5 / 48)
    assert (found.worse, found.as_is, found.similarity["mean"]) == (1, 55.5, 0.4)


def test_a_transfer_is_compared_within_the_seeds_that_it_has():
    records = study(
        {"t": (50.0, 60.0)}, {("a", "t"): (55.0, 65.0), ("b", "t"): (55.0, 65.0)}, {("a", "t"): 0.4, ("b", "t"): 0.4}
    )
    lame = [replace(one, score=float("nan")) if one.sources == ("b",) and one.seed == 1 else one for one in records]
    a, b = transfers_of(group_records(lame))
    assert (a.seeds, a.mean, a.gain) == (2, 60.0, 5.0)
    assert (b.seeds, b.mean, b.baseline, b.gain, b.deviation) == (1, 55.0, 50.0, 5.0, None)
    # In the table both stand on plain tuning over all seeds.
    assert pair_table((a, b)).means.tolist() == [[60.0], [60.0]]


def test_gains_on_selection_rows_are_kept_apart():
    records = study({"t": (50.0,)}, {("a", "t"): (60.0,)}, {("a", "t"): 0.4}, curve=curve(53.0))
    found = transfers_of(group_records(records))[0]
    assert (found.gain, found.selection_gain) == (10.0, 3.0)


@pytest.fixture(scope="module")
def paper() -> list[Record]:
    """Table 6 as the records of a study of one seed."""
    found = read_table(TABLE6)
    cells = {
        (s, t): found.means[row, column]
        for row, s in enumerate(found.sources)
        for column, t in enumerate(found.targets)
    }
    plain = {t: (score,) for t, score in zip(found.targets, found.baseline.tolist(), strict=True)}
    return study(plain, {cell: (float(score),) for cell, score in cells.items()}, dict.fromkeys(cells, 0.0))


def test_records_of_the_papers_table_replay_to_the_papers_figures(paper: list[Record]):
    made, original = pair_table(transfers_of(group_records(paper))), read_table(TABLE6)
    assert (made.sources, made.targets) == (original.sources, original.targets)
    assert made.baseline == pytest.approx(original.baseline) and made.means == pytest.approx(original.means)
    said = summarise(made)
    assert (said.cells, said.improved, said.worsened, said.tied) == (160, 93, 60, 7)
    assert len(said.above_10) == 30
    first = said.above_10[0]
    assert (first.source, first.target, round(first.rer, 1)) == ("MNLI", "CB", 58.9)
    assert said.always_best == "MNLI" and round(said.source_rer["MNLI"], 1) == 17.9


def test_counting_target_by_target_counts_the_same(paper: list[Record]):
    parts = table_summaries(transfers_of(group_records(paper)))
    counted = [sum(getattr(one, name) for one in parts) for name in ("cells", "improved", "worsened", "tied")]
    assert counted == [160, 93, 60, 7]
    assert sum(len(one.above_10) for one in parts) == 30
    whole = summarise(read_table(TABLE6))
    assert [one.best_sources[0].sources for one in parts] == [one.sources for one in whole.best_sources]


def test_a_task_that_is_source_and_target_has_a_summary_and_no_table():
    pairs = {("a", "t"): (60.0,), ("b", "t"): (40.0,), ("b", "a"): (55.0,)}
    found = transfers_of(group_records(study({"t": (50.0,), "a": (50.0,)}, pairs, dict.fromkeys(pairs, 0.1))))
    assert [(one.improved, one.worsened) for one in table_summaries(found)] == [(1, 0), (1, 1)]
    with pytest.raises(TaskError, match=r"lacks 1 of 4 cells \(source > target\): 'a > a'"):
        pair_table(found)


def test_a_perfect_baseline_has_no_reduction_and_no_summary():
    pairs = {("a", "t"): (90.0,), ("a", "u"): (60.0,)}
    found = transfers_of(group_records(study({"t": (100.0,), "u": (50.0,)}, pairs, dict.fromkeys(pairs, 0.1))))
    assert [one.rer for one in found] == [None, pytest.approx(20.0)]
    assert [one.best_sources[0].target for one in table_summaries(found)] == ["u"]


def test_correlations_are_those_of_scipy(records: list[Record]):
    found = transfers_of(group_records(records))
    for one in correlations(found, "mean"):
        own = [(t.similarity["mean"], t.gain) for t in found if t.target == one.target]
        similar, gains = zip(*own, strict=True)
        assert (one.pearson, one.p) == pytest.approx(tuple(stats.pearsonr(similar, gains)))
        assert one.spearman == pytest.approx(stats.spearmanr(similar, gains).statistic)
        assert one.sources == 6


@pytest.mark.parametrize(
    ("similar", "gains", "why"),
    [
        ([0.1, 0.2], [1.0, 2.0], "fewer than 3 sources"),
        ([0.3, 0.3, 0.3], [1.0, 2.0, 3.0], "all similarities are equal"),
        ([0.1, 0.2, 0.3], [2.0, 2.0, 2.0 + 1e-13], "all gains are equal"),
        ([], [], "fewer than 3 sources"),
    ],
)
def test_what_has_no_correlation_says_why_and_warns_of_nothing(similar, gains, why):
    found = correlation("t", similar, gains)
    assert (found.pearson, found.p, found.spearman, found.why) == (None, None, None, why)


def test_rankings_are_means_over_targets(records: list[Record]):
    found = transfers_of(group_records(records))
    ranked = {one.metric: one for one in ranker_qualities(found, None)}
    assert set(ranked) == {"mean", "token", "max", "record", "10 steps from every source", "selection rows"}
    each, hits, lost = [], [], []
    for target in {one.target for one in found}:
        own = sorted((one for one in found if one.target == target), key=lambda one: -one.similarity["mean"])
        each.append(stats.spearmanr([one.similarity["mean"] for one in own], [one.gain for one in own]).statistic)
        hits.append(max(own, key=lambda one: one.gain) in own[:3])
        lost.append(max(one.gain for one in own) - own[0].gain)
    assert ranked["mean"].spearman == pytest.approx(np.mean(each))
    assert ranked["mean"].top3 == pytest.approx(np.mean(hits)) and ranked["mean"].regret == pytest.approx(np.mean(lost))
    assert ranked["mean"].interval[0] <= ranked["mean"].spearman <= ranked["mean"].interval[1]


def test_a_yardstick_ranks_by_the_selection_rows_of_the_tuned_runs():
    tuned = {"a": (50.0, 90.0), "b": (60.0, 70.0), "c": (70.0, 80.0), "d": (80.0, 60.0)}  # report, selection rows
    pairs = {(source, "t"): (report,) for source, (report, _) in tuned.items()}
    similar = {(source, "t"): 0.1 for source in tuned}
    records = [
        replace(one, curve=curve(tuned[one.sources[0]][1])) if one.kind == "pair" else one
        for one in study({"t": (50.0,)}, pairs, similar)
    ]
    early, found = ranker_qualities(transfers_of(group_records(records)), None)  # equal similarities rank nothing
    assert (early.metric, found.metric) == ("10 steps from every source", "selection rows")
    assert found.spearman == pytest.approx(stats.spearmanr((90, 70, 80, 60), (50, 60, 70, 80)).statistic)
    assert found.top3 == 0 and found.regret == 30, "d is the best and comes last"


def test_a_quarter_of_every_run_ranks_by_the_best_score_so_far():
    early = {"a": 3.0, "b": 1.0, "c": 2.0}  # after 10 of 40 steps; the ends say the opposite
    reports = {"a": 80.0, "b": 60.0, "c": 70.0}
    pairs = {(source, "t"): (report,) for source, report in reports.items()}
    records = [
        replace(one, curve=curve(100 - one.score, (early[one.sources[0]], 0.5, 0.5))) if one.kind == "pair" else one
        for one in study({"t": (50.0,)}, pairs, dict.fromkeys(pairs, 0.1))
    ]
    transfers = transfers_of(group_records(records))
    assert {one.source: (one.early, one.early_step) for one in transfers} == {s: (x, 10) for s, x in early.items()}
    ranked = {one.metric: one for one in ranker_qualities(transfers, None)}
    assert ranked["10 steps from every source"].spearman == 1 and ranked["selection rows"].spearman == -1


def test_the_record_alone_is_the_mean_gain_on_the_other_targets(records: list[Record]):
    records = paper_like(12, 6, 1)
    found = transfers_of(group_records(records))
    each, lost = [], []
    for target in {one.target for one in found}:
        own = [one for one in found if one.target == target]
        past = [
            np.mean([o.selection_gain for o in found if o.source == one.source and o.target != target]) for one in own
        ]
        each.append(stats.spearmanr(past, [one.gain for one in own]).statistic)
        lost.append(max(one.gain for one in own) - own[int(np.argmax(past))].gain)
    made = {one.metric: one for one in ranker_qualities(found, None)}["record"]
    assert made.spearman == pytest.approx(np.mean(each)) and made.regret == pytest.approx(np.mean(lost))
    assert made.falls_back == 0


def test_equal_sources_lose_their_mean():
    pairs = {("a", "t"): (60.0,), ("b", "t"): (70.0,), ("c", "t"): (80.0,)}
    similar = {("a", "t"): 0.9, ("b", "t"): 0.9, ("c", "t"): 0.1}
    found = ranker_qualities(transfers_of(group_records(study({"t": (50.0,)}, pairs, similar))), None)
    assert {one.metric: one.regret for one in found}["mean"] == 15


def test_few_sources_have_no_share_of_top_three():
    pairs = {(s, t): (50.0 + n,) for n, s in enumerate("abc") for t in "tu"}
    similar = {(s, t): 0.1 * n for n, (s, t) in enumerate(pairs)}
    found = ranker_qualities(transfers_of(group_records(study({"t": (50.0,), "u": (50.0,)}, pairs, similar))), None)
    assert [(one.spearman, one.top3) for one in found] == [(1.0, None)] * 6


def test_equal_gains_are_left_out_of_the_rankings_and_counted(records: list[Record]):
    flat = [replace(one, score=70.0) if one.kind == "pair" and one.task == "target/00" else one for one in records]
    for one in ranker_qualities(transfers_of(group_records(flat)), task_map(flat)):
        # A flat target is flat only where plain tuning is: seeds differ, so the mean gains are equal still.
        assert (one.targets, one.left_out) == (4, 1)


def with_gain(records: list[Record], target: str, factor: float) -> list[Record]:
    """The same study, in which the selection scores of one target's pairs are others."""
    return [
        replace(one, curve=curve(factor * one.score)) if one.kind == "pair" and one.task == target else one
        for one in records
    ]


def test_learned_is_the_prediction_from_the_other_targets():
    records = paper_like(12, 6, 1)
    found, tasks = transfers_of(group_records(records)), task_map(records)
    made = {one.metric: one for one in ranker_qualities(found, tasks)}["learned"]
    targets, sources = sorted({one.target for one in found}), sorted({one.source for one in found})
    gain = np.array(
        [[next(o.selection_gain for o in found if (o.source, o.target) == (s, t)) for s in sources] for t in targets]
    )
    report = np.array(
        [[next(o.gain for o in found if (o.source, o.target) == (s, t)) for s in sources] for t in targets]
    )
    similar = np.array(
        [
            [next(o.similarity["mean"] for o in found if (o.source, o.target) == (s, t)) for s in sources]
            for t in targets
        ]
    )
    rows = np.stack(
        [
            next(one.embedding["mean"] for one in records if one.kind == "plain" and one.task == t and one.embedding)
            for t in targets
        ]
    ).astype(float)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    each = []
    for at in range(len(targets)):
        others = [n for n in range(len(targets)) if n != at]
        scores = predictor.predict(predictor.fit(gain[others]), similar[at], rows[others] @ rows[at])
        each.append(stats.spearmanr(scores, report[at]).statistic)
    assert made.spearman == pytest.approx(np.mean(each))
    assert (made.targets, made.falls_back) == (6, 0)


def test_learned_does_not_see_the_gains_of_its_own_target():
    records = paper_like(12, 5, 1)
    tasks = task_map(records)
    alone = [
        {one.metric: one for one in ranker_qualities(transfers_of(group_records(some)), tasks)}["learned"].spearman
        for some in (records, with_gain(records, "target/02", -3.0))
    ]
    assert alone[0] != alone[1]  # the others see it
    only = [
        [one for one in transfers_of(group_records(some)) if one.target in ("target/02", "target/03")]
        for some in (records, with_gain(records, "target/02", -3.0))
    ]
    # Two targets know 12 results of each other, which is too little: both rank by similarity alone.
    fallen = [{one.metric: one for one in ranker_qualities(some, tasks)}["learned"] for some in only]
    assert fallen[0] == fallen[1] and fallen[0].falls_back == 2


def test_a_study_of_one_target_has_all_rankings():
    records = paper_like(5, 1, 1)
    found = {one.metric: one for one in ranker_qualities(transfers_of(group_records(records)), task_map(records))}
    assert found["learned"].spearman == found["mean"].spearman and found["learned"].falls_back == 1


def test_the_map_is_the_mean_cosine_over_seeds():
    order = [("source", "a"), ("source", "b"), ("plain", "a"), ("plain", "t")]
    rows = {(*one, seed): embedding(100 * seed + n)["mean"] for n, one in enumerate(order) for seed in (0, 1)}
    records = [record(kind, task, seed, 50.0, embedding={"mean": row}) for (kind, task, seed), row in rows.items()]
    made = task_map(records)
    assert made.names == ("a", "b", "a (target)", "t") and made.targets == (False, False, True, True)
    per_seed = []
    for seed in (0, 1):
        stacked = np.stack([rows[kind, task, seed] for kind, task in order]).astype(float)
        lengths = np.linalg.norm(stacked, axis=1)
        per_seed.append(stacked @ stacked.T / np.outer(lengths, lengths))
    assert made.cosines == pytest.approx(np.mean(per_seed, axis=0), abs=1e-6)
    # The tree merges by average linkage: two leaves first meet at their own distance where they are nearest.
    first, second = (int(leaf) for leaf in made.tree[0, :2])
    distances = 1 - made.cosines + 2 * np.eye(4)
    assert distances[first, second] == pytest.approx(distances.min()) == pytest.approx(made.tree[0, 2])
    assert sorted(made.order) == [0, 1, 2, 3] and cophenet(made.tree).size == 6


def test_a_prompt_that_was_there_before_serves_all_seeds():
    records = [record("source", "a", 0, 50.0, embedding=embedding(1), steps=0)]
    records += [record("plain", "t", seed, 50.0, embedding=embedding(2 + seed)) for seed in (1, 2)]
    one = embedding(1)["mean"].astype(float)
    expected = [
        one @ row / np.linalg.norm(one) / np.linalg.norm(row)
        for row in (embedding(3)["mean"].astype(float), embedding(4)["mean"].astype(float))
    ]
    assert task_map(records).cosines[0, 1] == pytest.approx(np.mean(expected), abs=1e-6)


def test_tasks_without_a_shared_seed_are_left_out_of_the_map():
    records = [record("source", name, 0, 50.0, embedding=embedding(n)) for n, name in enumerate("abc")]
    records.append(record("source", "d", 1, 50.0, embedding=embedding(9)))
    made = task_map(records)
    assert (made.names, made.left_out) == (("a", "b", "c"), ("d",))
    assert task_map(records[:1]) is None and task_map([]) is None


def test_embeddings_without_a_direction_are_left_out_and_other_widths_refused():
    zero = record("source", "z", 0, 50.0, embedding={"mean": np.zeros(8, "<f4")})
    records = [record("source", name, 0, 50.0, embedding=embedding(n)) for n, name in enumerate("ab")]
    assert task_map([*records, zero]).names == ("a", "b")
    with pytest.raises(StudyError, match=r"embeddings of 3 and 8 numbers can't be compared"):
        task_map([*records, record("source", "w", 0, 50.0, embedding={"mean": np.ones(3, "<f4")})])


def test_equal_embeddings_are_at_distance_zero():
    records = [record("source", name, 0, 50.0, embedding=embedding(1)) for name in "abc"]
    made = task_map(records)
    assert made.cosines == pytest.approx(np.ones((3, 3))) and made.cosines.max() <= 1
    assert made.tree[:, 2] == pytest.approx([0, 0], abs=1e-9)
