"""How well each metric ranks sources on published matrices of transfer, without any training.

    python bench/retrieval.py t5_base.npz roberta_base.npz --json > docs/bench/retrieval.json

A file holds `tasks` [N] (labels of the output, never read for a decision), `prompts` [N, P, D] and `scores` [N, N]
(row: target, column: source). A target's candidates are the other tasks. `learned` sees neither the target's row nor
its column of scores.
"""

import argparse
import hashlib
import json
import zipfile
from collections.abc import Iterable, Mapping
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import spearmanr

from spot.errors import ConfigError, PromptError, SpotError
from spot.metrics.scores import bootstrap_interval
from spot.retrieval.predictor import BASIS, Gain, expected
from spot.retrieval.search import METRICS, similarity

FEWEST_TASKS = 4  # a target and three sources
TOP = 3
DECIMALS = 9  # what agrees so far is a tie


def load(path: Path) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Read a matrix of transfer.

    Returns:
        N names, prompts float64 [N, P, D], scores float64 [target, source].

    Raises:
        ConfigError: an array is missing, of a wrong shape, or holds NaN or infinity; or there are too few tasks.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as held:
            missing = [name for name in ("tasks", "prompts", "scores") if name not in held]
            if missing:
                raise ConfigError(f"no array {', '.join(missing)} (found: {', '.join(held)}); see --help")
            tasks = [str(task) for task in held["tasks"].ravel()]
            prompts, scores = (held[name].astype(np.float64) for name in ("prompts", "scores"))
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise ConfigError(f"no .npz file of arrays ({error})") from error
    count = len(tasks)
    if prompts.ndim != 3 or len(prompts) != count or scores.shape != (count, count):
        raise ConfigError(
            f"{count} tasks, prompts {list(prompts.shape)} and scores {list(scores.shape)} do not fit; "
            f"expected prompts [{count}, P, D] and scores [{count}, {count}]"
        )
    if count < FEWEST_TASKS:
        raise ConfigError(f"{count} tasks leave a target fewer than {FEWEST_TASKS - 1} sources to rank")
    if len(set(tasks)) < count:
        raise ConfigError("two tasks have one name, so the rankings could not be told apart")
    for name, array in (("prompts", prompts), ("scores", scores)):
        if not np.isfinite(array).all():
            raise ConfigError(f"{np.count_nonzero(~np.isfinite(array))} of the {name} are NaN or infinite")
    return tasks, prompts, scores


def predictions(prompts: np.ndarray, scores: np.ndarray) -> dict[str, np.ndarray]:
    """What each metric expects of each source on each target.

    Args:
        prompts: [N, P, D].
        scores: [target, source].

    Returns:
        For each metric [target, source], more is better, NaN on the diagonal.
    """
    count = len(prompts)
    found = {
        metric: np.array([[similarity(target, source, metric) for source in prompts] for target in prompts])
        for metric in METRICS
    }
    found["learned"] = np.full((count, count), np.nan)
    gains = [Gain(str(source), str(target), scores[target, source]) for target, source in permutations(range(count), 2)]
    for target in range(count):
        alike = {str(other): found[BASIS][target, other] for other in range(count) if other != target}
        for source, score in expected(gains, alike, alike).scores.items():  # the target's row and column are not seen
            found["learned"][target, int(source)] = score
    for table in found.values():
        np.fill_diagonal(table, np.nan)
    return {metric: np.round(table, DECIMALS) for metric, table in found.items()}


def judge(tasks: list[str], prompts: np.ndarray, scores: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """Compare what a metric expected with what happened.

    Args:
        tasks: N names.
        prompts: [N, P, D]; equal expectations are ranked by the hash of the prompt, whatever it is called.
        scores: [target, source].
        expected: [target, source].

    Returns:
        `spearman` (mean over targets, average ranks for ties), `top3` (share of targets whose best source is in the
        top 3), `left_out` (targets with equal scores or expectations, which have no correlation; they count in
        neither figure), `by_target` (each correlation, None where left out) and `ranking` (each target's sources,
        best first).

    Raises:
        ConfigError: no target has a correlation.
    """
    hashes = np.array([hashlib.sha256(prompt.tobytes()).hexdigest() for prompt in prompts])
    by_target, ranking, hits = {}, {}, []
    for target, name in enumerate(tasks):
        others = np.flatnonzero(np.arange(len(tasks)) != target)
        ours, theirs = expected[target, others], scores[target, others]
        order = np.lexsort((hashes[others], -ours))
        ranking[name] = [tasks[source] for source in others[order]]
        by_target[name] = None
        if np.ptp(ours) and np.ptp(theirs):
            by_target[name] = float(spearmanr(ours, theirs).statistic)
            hits.append(bool(theirs[order[:TOP]].max() == theirs.max()))
    correlations = [value for value in by_target.values() if value is not None]
    if not correlations:
        raise ConfigError("no target's sources differ in score, so nothing can be ranked")
    return {
        "spearman": float(np.mean(correlations)),
        "top3": float(np.mean(hits)),
        "left_out": len(tasks) - len(correlations),
        "by_target": by_target,
        "ranking": ranking,
    }


def interval(correlations: Iterable[float | None]) -> list[float]:
    """The 95 % bootstrap interval of a mean over targets, of which those without a value are left out."""
    return [end / 100 for end in bootstrap_interval([one for one in correlations if one is not None])]


def measure(path: Path) -> dict[str, dict[str, Any]]:
    """All metrics on one file: what `judge` finds, and the bootstrap `interval` of `spearman` over targets.

    Raises:
        ConfigError: naming the file and what is wrong with it.
    """
    try:
        tasks, prompts, scores = load(path)
        found = predictions(prompts, scores)
        judged = {metric: judge(tasks, prompts, scores, expected) for metric, expected in found.items()}
    except (ConfigError, PromptError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return {metric: {**one, "interval": interval(one["by_target"].values())} for metric, one in judged.items()}


def text(result: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures for people, and what `learned` gains over `mean` on all files together."""
    lines = [f"{'file':32} {'metric':8} spearman  95 % interval    top 3  left out"]
    for name, metrics in result.items():
        for metric, one in metrics.items():
            low, high = one["interval"]
            lines.append(
                f"{name[-32:]:32} {metric:8} {one['spearman']:8.3f}  {low:+.3f} to {high:+.3f}  {one['top3']:.3f}  "
                f"{one['left_out']:8}"
            )
    pairs = [
        (ours, theirs)
        for metrics in result.values()
        for ours, theirs in zip(*(metrics[one]["by_target"].values() for one in ("learned", BASIS)), strict=True)
        if ours is not None and theirs is not None
    ]
    gains = [ours - theirs for ours, theirs in pairs]
    low, high = interval(gains)
    lines.append(
        f"learned over {BASIS}, {len(gains)} targets together: {np.mean(gains):+.3f} ({low:+.3f} to {high:+.3f}), "
        f"higher on {sum(gain > 0 for gain in gains)}"
    )
    return "\n".join(lines)


def main() -> None:
    """Read the arguments, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", metavar="MATRIX.npz", help="tasks, prompts and scores")
    parser.add_argument("--json", action="store_true", help="one JSON document on stdout")
    arguments = parser.parse_args()
    try:
        result = {name: measure(Path(name)) for name in arguments.files}
    except SpotError as error:
        parser.error(str(error))
    print(json.dumps(result) if arguments.json else text(result))


if __name__ == "__main__":
    main()
