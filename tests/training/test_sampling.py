"""The rows of every step: whole epochs, shares to within one row, and the same draws as in every version."""

import json
from collections import Counter
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spot.config import TuneConfig
from spot.errors import TaskError
from spot.training.sampling import (
    POOL,
    pool_batches,
    sample_batches,
    sample_draws,
    sample_mixture_batches,
    sample_token_batches,
)

GLUE_SIZES = (392_702, 363_849, 104_743, 67_349, 8_551, 5_749, 3_668, 2_490)


def equal(*counts: int) -> list[list[int]]:
    """Lengths of members whose rows are all of one length."""
    return [[5] * count for count in counts]


# The same draws in every version: a run that is resumed, or repeated from its record, must see the same rows.

ONE = [3 + 7 * (n % 9) + n % 5 for n in range(137)]
THREE = [[5 + n % 40 for n in range(100)], [2 + 3 * (n % 11) for n in range(30)], [9] * 17]


def digest(draws: list) -> str:
    return sha256(json.dumps(draws).encode()).hexdigest()[:16]


@pytest.mark.parametrize(
    ("batch", "steps", "seed", "wanted"),
    [
        (8, 100, 0, "4cc4fd019e57d5e4"),
        (16, 7, 3, "9114297659ab1330"),
        (200, 9, 1, "03dbd5d3bfeaa1a9"),
        (1, 300, 2, "e8c9f18d99902924"),
    ],
)
def test_batches_are_those_of_every_version(batch, steps, seed, wanted):
    assert digest(sample_batches(ONE, batch, steps, seed)) == wanted


@pytest.mark.parametrize(
    ("tokens", "steps", "seed", "wanted"),
    [(120, 100, 0, "2251f268b19a215a"), (500, 40, 3, "1df6be63e85ac26a"), (5, 30, 1, "117f2e9eb3ca5503")],
)
def test_token_batches_are_those_of_every_version(tokens, steps, seed, wanted):
    assert digest(sample_token_batches(ONE, tokens, steps, seed)) == wanted


@pytest.mark.parametrize(
    ("rates", "batch", "steps", "seed", "wanted"),
    [
        ([1, 1, 1], 8, 100, 0, "dc8bb615c9a8c22b"),
        ([0.7, 0.2, 0.1], 16, 40, 3, "4d990e2fcf3fa66d"),
        ([199, 1, 3], 4, 60, 1, "e2554322e6eb06c6"),
    ],
)
def test_batches_of_a_mixture_are_those_of_every_version(rates, batch, steps, seed, wanted):
    assert digest(sample_mixture_batches(THREE, rates, batch, steps, seed)) == wanted


def test_a_run_samples_as_its_settings_say():
    config = TuneConfig(task="cr", batch_size=8, steps=20, seed=4)
    assert [[row for _, row in batch] for batch in sample_draws(config, [ONE], [1.0])] == sample_batches(ONE, 8, 20, 4)
    by_tokens = config.model_copy(update={"batch_tokens": 120})
    rows = [[row for _, row in batch] for batch in sample_draws(by_tokens, [ONE], [1.0])]
    assert rows == sample_token_batches(ONE, 120, 20, 4)
    assert sample_draws(config, THREE, [3, 2, 1]) == sample_mixture_batches(THREE, [3, 2, 1], 8, 20, 4)


# One task.


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(1, 9), st.integers(0, 40), st.integers(0, 2**32)
)
def test_samples_are_deterministic_full_and_extend_each_other(lengths, size, steps, seed):
    batches = sample_batches(lengths, size, steps, seed)
    assert len(batches) == steps and all(len(batch) == size for batch in batches)
    assert batches == sample_batches(lengths, size, steps + 7, seed)[:steps]
    assert all(0 <= number < len(lengths) for batch in batches for number in batch)


def test_an_epoch_takes_every_row_once():
    lengths = list(range(1, 129))
    batches = sample_batches(lengths, 8, 16, seed=0)
    assert sorted(number for batch in batches for number in batch) == list(range(128))
    assert max(max(batch) - min(batch) for batch in batches) == 7  # rows of similar length stand together


@pytest.mark.parametrize(("rows", "batch"), [(100, 16), (250, 32), (32, 16), (20, 16)])
def test_a_step_on_few_rows_has_few_copies(rows, batch):
    lengths = [5 + row % 40 for row in range(rows)]
    distinct = [len(set(picked)) for picked in sample_batches(lengths, batch, 200, 0)]
    assert np.mean(distinct) >= 0.8 * batch
    by_tokens = sample_token_batches(lengths, batch * 20, 200, 0)
    assert np.mean([len(set(picked)) / len(picked) for picked in by_tokens]) >= 0.8


def test_token_budgets_hold_and_every_row_is_drawn():
    lengths = [3 + 7 * (n % 9) for n in range(50)]
    batches = sample_token_batches(lengths, 120, 400, 0)
    assert len(batches) == 400 and batches == sample_token_batches(lengths, 120, 400, 0)
    assert all(max(lengths[row] for row in batch) * len(batch) <= 120 for batch in batches)
    assert {row for batch in batches for row in batch} == set(range(50))
    assert all(len(batch) == 1 for batch in sample_token_batches([90, 100], 50, 6, 0))


# Mixtures.


@st.composite
def mixtures(draw) -> dict:
    """Arguments of a mixture's sample, without its steps."""
    members = draw(st.integers(1, 4))
    counts = draw(st.lists(st.integers(1, 30), min_size=members, max_size=members))
    return {
        "rates": draw(st.lists(st.floats(0.01, 10), min_size=members, max_size=members)),
        "lengths": [draw(st.lists(st.integers(1, 9), min_size=n, max_size=n)) for n in counts],
        "batch_size": draw(st.integers(1, 5)),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


@given(mixtures(), st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_a_longer_sample_begins_with_the_shorter_one(arguments, steps, more):
    short = sample_mixture_batches(**arguments, steps=steps)
    assert short == sample_mixture_batches(**arguments, steps=steps + more)[:steps]
    assert [len(batch) for batch in short] == [arguments["batch_size"]] * steps
    assert all(0 <= row < len(arguments["lengths"][member]) for batch in short for member, row in batch)


@given(mixtures(), st.integers(1, 5))
@settings(deadline=None)
def test_every_pool_has_its_shares_and_epochs_hold(arguments, pools):
    shares = np.array(arguments["rates"]) / sum(arguments["rates"])
    counts = [len(rows) for rows in arguments["lengths"]]
    size = pool_batches(shares, counts, arguments["batch_size"])
    batches = sample_mixture_batches(**arguments, steps=pools * size)
    wanted = size * arguments["batch_size"] * shares
    seen: Counter[tuple[int, int]] = Counter()
    for number in range(pools):
        pool = [draw for batch in batches[number * size : (number + 1) * size] for draw in batch]
        drawn = Counter(member for member, _ in pool)
        for member, count in enumerate(counts):
            assert abs(drawn[member] - wanted[member]) < 1 + 1e-6
            seen.update(draw for draw in pool if draw[0] == member)
            times = [seen[member, row] for row in range(count)]
            assert max(times) - min(times) <= 1


def test_each_epoch_and_each_seed_has_an_order_of_its_own():
    batches = sample_mixture_batches(equal(50, 50), [1, 1], 10, 40, 0)
    rows, other = ([row for batch in batches for member, row in batch if member == which] for which in (0, 1))
    assert sorted(rows[:50]) == sorted(rows[50:100]) == list(range(50))
    assert len({tuple(rows[:50]), tuple(rows[50:100]), tuple(range(50))}) == 3
    assert rows[:50] != other[:50]
    assert batches != sample_mixture_batches(equal(50, 50), [1, 1], 10, 40, 1)


def test_a_rare_members_share_is_right_from_the_first_step_on():
    # 0.5 % of 16 * 4 rows is a third of a row a pool: only chance can be right, and it must be on average.
    lengths = [[3] * 10, list(range(1, 11))]
    first = [draw for seed in range(3000) for draw in sample_mixture_batches(lengths, [199, 1], 4, 1, seed)[0]]
    share = sum(member for member, _ in first) / len(first)
    assert share == pytest.approx(0.005, abs=4 * (0.005 / len(first)) ** 0.5)


def test_the_shares_of_glue_come_out():
    rates = [size / sum(GLUE_SIZES) for size in GLUE_SIZES]
    batches = sample_mixture_batches(equal(*GLUE_SIZES), rates, 32, 5_120, 0)
    drawn = Counter(member for batch in batches for member, _ in batch)
    shares = [drawn[member] / (32 * 5_120) for member in range(len(GLUE_SIZES))]
    np.testing.assert_allclose(shares, rates, atol=1 / (POOL * 32))
    assert f"{100 * shares[0]:.1f}" == "41.4", "as the paper has it"


def test_lengths_only_sort_the_rows_of_a_pool():
    random = np.random.default_rng(0)
    lengths = [random.integers(5, 100, 300).tolist(), random.integers(50, 400, 200).tolist()]
    unsorted = sample_mixture_batches(equal(300, 200), [3, 1], 8, POOL, 5)
    batches = sample_mixture_batches(lengths, [3, 1], 8, POOL, 5)
    assert Counter(draw for batch in unsorted for draw in batch) == Counter(draw for batch in batches for draw in batch)
    spans = [[lengths[member][row] for member, row in batch] for batch in batches]
    ordered = sorted(spans, key=min)
    assert all(max(shorter) <= min(longer) for shorter, longer in pairwise(ordered))
    assert spans != ordered
    waste = [
        sum(max(lengths[m][r] for m, r in batch) * 8 - sum(lengths[m][r] for m, r in batch) for batch in sample)
        for sample in (unsorted, batches)
    ]
    assert waste[1] < waste[0] / 5


def test_every_member_needs_rows():
    with pytest.raises(TaskError, match=r"have \[3, 0\] train rows; expected at least one row each"):
        sample_mixture_batches(equal(3, 0), [1, 1], 2, 1, 0)
