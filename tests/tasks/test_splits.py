"""Splits never share a text, are the same every time and respect their limits."""

import random
import weakref
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spot.errors import TaskError
from spot.tasks.splits import split_rows
from spot.tasks.task import Example, Task, text_key

ROLES = ("train", "selection", "report")


def task_of(splits, groups=None):
    """A task over texts in memory: split -> texts."""

    def load(split):
        for number, text in enumerate(splits[split]):
            group = (groups or {}).get(text, "")
            yield Example(f"{split}/{number}", f"sentence: {text}", ("yes",), group, (text,))

    return Task("toy", load, tuple(splits), ("no", "yes"), ("accuracy",))


def words(count, start=0):
    return [f"row number {number} of many" for number in range(start, start + count)]


def test_validation_selects_and_test_reports():
    task = task_of({"train": words(50), "validation": words(30, 100), "test": words(20, 200)})
    found = split_rows(task, None, 10, 400, seed=0)
    assert [len(getattr(found, role)) for role in ROLES] == [50, 10, 20]
    assert {row.id.split("/")[0] for row in found.selection} == {"validation"}
    assert {row.id.split("/")[0] for row in found.report} == {"test"}


def test_validation_alone_is_halved():
    found = split_rows(task_of({"train": words(50), "validation": words(1000, 100)}), None, None, None, seed=0)
    assert len(found.selection) + len(found.report) == 1000
    assert 440 <= len(found.selection) <= 560
    assert len(found.train) == 50


def test_test_without_validation_leaves_a_fifth_of_train_to_select():
    found = split_rows(task_of({"train": words(1000), "test": words(50, 2000)}), None, None, None, seed=0)
    assert len(found.train) + len(found.selection) == 1000
    assert 160 <= len(found.selection) <= 240
    assert {row.id.split("/")[0] for row in found.report} == {"test"}


def test_train_alone_is_parted_60_20_20():
    found = split_rows(task_of({"train": words(2000)}), None, None, None, seed=0)
    assert [len(getattr(found, role)) / 2000 for role in ROLES] == pytest.approx([0.6, 0.2, 0.2], abs=0.03)


def test_the_parts_are_the_same_under_every_seed_and_for_more_rows():
    task = task_of({"train": words(300)})
    whole = split_rows(task, None, None, None, seed=0)
    for seed in range(5):
        sample = split_rows(task, 20, 20, 20, seed)
        for role in ROLES:
            assert set(getattr(sample, role)) < set(getattr(whole, role))
    assert split_rows(task, 20, 20, 20, 0) != split_rows(task, 20, 20, 20, 1)
    more = split_rows(task_of({"train": words(400)}), None, None, None, seed=0)
    for role in ROLES:
        assert {row.inputs for row in getattr(whole, role)} <= {row.inputs for row in getattr(more, role)}


def test_a_smaller_sample_is_a_part_of_a_larger_one_in_the_order_of_the_file():
    task = task_of({"train": words(300)})
    small, large = split_rows(task, 10, 5, 5, 7), split_rows(task, 40, 5, 5, 7)
    assert set(small.train) < set(large.train)
    numbers = [int(row.id.split("/")[1]) for row in large.train]
    assert numbers == sorted(set(numbers))


def test_samples_are_spread_over_the_rows():
    task = task_of({"train": words(400), "validation": words(400, 1000), "test": words(9, 5000)})
    counts = Counter(row.id for seed in range(60) for row in split_rows(task, 40, 5, 5, seed).train)
    assert len(counts) > 390  # each row is drawn 6 times on average
    assert max(counts.values()) < 20


def test_the_order_of_the_file_does_not_change_the_parts():
    found = split_rows(task_of({"train": words(200)}), None, None, None, seed=0)
    shuffled = words(200)
    random.Random(0).shuffle(shuffled)
    moved = split_rows(task_of({"train": shuffled}), None, None, None, seed=0)
    for role in ROLES:
        assert {row.inputs for row in getattr(moved, role)} == {row.inputs for row in getattr(found, role)}


TEXT = st.sampled_from(
    ["Good film!", "good  film", "Bad film", "A b c", ":-)", ":-(", "?", "ünïcode", "x1", "x2", "x3"]
)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(
    rows=st.lists(st.one_of(TEXT, st.text(min_size=1, max_size=4)), min_size=3, max_size=60),
    shape=st.sampled_from([("train",), ("train", "validation"), ("train", "test"), ("train", "validation", "test")]),
    limits=st.tuples(*[st.one_of(st.none(), st.integers(1, 20))] * 3),
    seed=st.integers(0, 5),
)
def test_roles_share_no_text_are_deterministic_and_respect_limits(rows, shape, limits, seed):
    cut = [rows[part :: len(shape)] for part in range(len(shape))]
    task = task_of(dict(zip(shape, cut, strict=True)))
    try:
        found = split_rows(task, *limits, seed)
        assert found.report
    except TaskError as error:
        assert "has no row left for" in str(error)
        return
    parts = [getattr(found, role) for role in ROLES]
    keys = [{text_key(row) for row in part} for part in parts]
    assert not keys[0] & keys[1] and not keys[0] & keys[2] and not keys[1] & keys[2]
    assert len({row.id for part in parts for row in part}) == sum(map(len, parts))
    assert found == split_rows(task, *limits, seed)
    everything = split_rows(task, None, None, None, seed)
    for role, part, limit in zip(ROLES, parts, limits, strict=True):
        whole = getattr(everything, role)
        assert len(part) == len(whole) if limit is None else len(part) == min(limit, len(whole))


def test_a_text_of_two_splits_selects_rather_than_trains_and_a_test_row_gives_way():
    task = task_of(
        {
            "train": ["shared text", "own text"],
            "validation": ["Shared TEXT.", "v"],
            "test": ["shared, text!", "v!", "own text", "t"],
        }
    )
    found = split_rows(task, None, None, None, 0)
    assert [row.texts[0] for row in found.train] == ["own text"]
    assert [row.texts[0] for row in found.selection] == ["Shared TEXT.", "v"]
    assert [row.texts[0] for row in found.report] == ["t"]
    task = task_of({"train": ["shared text", "own text"], "validation": ["Shared TEXT."], "test": ["own, text!"]})
    found = split_rows(task, None, None, None, 0)
    with pytest.raises(TaskError, match="report: found 1 for train, 1 for selection, 0 for report"):
        len(found.report)


def test_the_test_split_is_closed_until_its_rows_are_asked_for():
    rows = {"train": ["a text", "more text"], "validation": ["v"], "test": ["t"]}
    opened = []

    def load(split):
        opened.append(split)
        return task_of(rows).load(split)

    found = split_rows(replace(task_of(rows), load=load), None, None, None, 0)
    assert len(found.train) == 2 and len(found.selection) == 1 and "test" not in opened
    assert [row.texts[0] for row in found.report] == ["t"] and "test" in opened


def test_rows_of_one_group_stay_together():
    texts = words(300)
    groups = {text: f"passage {number // 10}" for number, text in enumerate(texts)}
    found = split_rows(task_of({"train": texts}, groups), None, None, None, 0)
    seen = [{row.group for row in getattr(found, role)} for role in ROLES]
    assert not seen[0] & seen[1] and not seen[0] & seen[2] and not seen[1] & seen[2]
    assert all(seen)


GROUPED = st.lists(st.integers(1, 6), min_size=1, max_size=12)  # rows of each group


def grouped_task(sizes, split):
    """A task whose rows of one split stand in groups of these sizes, in mixed order."""
    names = [f"question {number}" for number, size in enumerate(sizes) for _ in range(size)]
    random.Random(0).shuffle(names)
    texts = [f"answer {number} to it" for number in range(len(names))]
    splits = {"train": ["a train row"], "validation": ["a validation row"], split: texts}
    return task_of(splits, dict(zip(texts, names, strict=True)))


@pytest.mark.parametrize(("split", "role"), [("validation", "selection"), ("test", "report")])
@given(sizes=GROUPED, limits=st.tuples(st.integers(1, 30), st.integers(1, 30)), seed=st.integers(0, 3))
def test_what_selects_and_reports_is_sampled_by_whole_groups(split, role, sizes, limits, seed):
    task = grouped_task(sizes, split)
    if split == "validation":  # all of it selects where a test split reports
        task = replace(task, splits=("train", "validation", "test"))
    whole = Counter(row.group for row in task.load(split))
    samples = []
    for limit in sorted(limits):
        rows = getattr(split_rows(task, None, limit, limit, seed), role)
        found = Counter(row.group for row in rows)
        assert found and all(found[group] == whole[group] for group in found)
        assert len(rows) <= limit or len(found) == 1
        left = [size for group, size in whole.items() if group not in found]
        assert not left or len(rows) + max(left) > limit, "all that is left would have fitted"
        assert [int(row.id.split("/")[1]) for row in rows] == sorted(int(row.id.split("/")[1]) for row in rows)
        samples.append(set(rows))
    assert samples[0] <= samples[1]


def test_the_share_of_whole_groups_is_the_same_on_a_sample():
    """MultiRC's exact match of a predictor that errs on every tenth row, so on half of all questions of five."""
    task = grouped_task([5] * 400, "validation")
    task = replace(task, splits=("train", "validation", "test"))

    def exact_match(rows):
        wrong = {row.group for row in rows if int(row.id.split("/")[1]) % 10 == 0}
        return 1 - len(wrong) / len({row.group for row in rows})

    whole = exact_match(list(task.load("validation")))
    sample = exact_match(split_rows(task, None, 500, None, 0).selection)
    assert sample == pytest.approx(whole, abs=0.1)


def test_no_row_need_be_reported_and_a_test_split_then_stays_closed():
    for splits in (["train"], ["train", "validation"], ["train", "test"], ["train", "validation", "test"]):
        opened = []
        task = task_of({split: words(100, 200 * number) for number, split in enumerate(splits)})

        def load(split, task=task, opened=opened):
            opened.append(split)
            return task.load(split)

        found = split_rows(replace(task, load=load), 5, 5, 0, 0)
        assert (len(found.train), len(found.selection), len(found.report)) == (5, 5, 0)
        assert "test" not in opened
        assert found.selection == split_rows(task, 5, 5, 5, 0).selection


@pytest.mark.parametrize("splits", [("train",), ("train", "test")])
def test_rows_that_train_are_not_kept_before_they_are_drawn(splits):
    alive, most = weakref.WeakSet(), 0

    def load(split):
        nonlocal most
        for row in task_of({split: words(2000)}).load(split):
            alive.add(row)
            most = max(most, len(alive))
            yield row

    found = split_rows(replace(task_of(dict.fromkeys(splits, ())), load=load), 10, 10, 0, 0)
    assert len(found.train) == 10
    held = 0.4 if splits == ("train",) else 0.2  # share of the rows that select or report
    assert most < 2000 * (held + 0.1)


@pytest.mark.parametrize("limits", [(0, 5, 5), (5, 0, 5)])
def test_an_empty_role_is_refused(limits):
    role = ROLES[limits.index(0)]
    with pytest.raises(TaskError, match=rf"no row left for {role}: .* and 0 were asked for"):
        split_rows(task_of({"train": words(100)}), *limits, 0)


def test_a_task_without_train_rows_is_refused():
    with pytest.raises(TaskError, match="toy has no train split; it has 'test'"):
        split_rows(task_of({"test": words(3)}), None, 5, 5, 0)


def test_rows_that_differ_in_symbols_alone_are_all_reported():
    train = ["great :)", "I like C++", "x>y", "it is -5", "\u0939\u093f\u0902\u0926\u0940"]
    test = ["great :(", "I like C#", "x<y", "it is 5", "\u0939\u0940\u0902\u0926\u0940"]
    task = task_of({"train": train, "validation": ["v"], "test": [*test, "Great :)."]})
    found = split_rows(task, None, None, None, 0)
    assert [row.texts[0] for row in found.report] == test and len(found.train) == 5
