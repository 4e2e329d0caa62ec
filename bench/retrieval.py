"""Measure how well each similarity, and `learned`, ranks sources on published matrices of transfer, without training.

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
from spot.retrieval.embeddings import SIMILARITIES, similarity
from spot.retrieval.predictor import BASIS, LEARNED, RECORD, Gain, expected, recorded

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
    """What each way of ranking expects of each source on each target.

    Args:
        prompts: [N, P, D].
        scores: [target, source].

    Returns:
        For each of `RANK_BY` [target, source], more is better, NaN on the diagonal.
    """
    count = len(prompts)
    tables = {
        kind: np.array([[similarity(target, source, kind) for source in prompts] for target in prompts])
        for kind in SIMILARITIES
    }
    tables |= {name: np.full((count, count), np.nan) for name in (LEARNED, RECORD)}
    gains = [Gain(str(source), str(target), scores[target, source]) for target, source in permutations(range(count), 2)]
    for target in range(count):
        alike = {str(other): tables[BASIS][target, other] for other in range(count) if other != target}
        for source, score in expected(gains, alike, alike).scores.items():  # the target's row and column are not seen
            tables[LEARNED][target, int(source)] = score
        past = [gain for gain in gains if str(target) not in (gain.source, gain.target)]
        for source, score in recorded(past, list(alike)).scores.items():
            tables[RECORD][target, int(source)] = score
    for table in tables.values():
        np.fill_diagonal(table, np.nan)
    return {name: np.round(table, DECIMALS) for name, table in tables.items()}


def judge(tasks: list[str], prompts: np.ndarray, scores: np.ndarray, expected: np.ndarray) -> dict[str, Any]:
    """Compare what a way of ranking expected with what happened.

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
        promised, happened = expected[target, others], scores[target, others]
        order = np.lexsort((hashes[others], -promised))
        ranking[name] = [tasks[source] for source in others[order]]
        by_target[name] = None
        if np.ptp(promised) and np.ptp(happened):
            by_target[name] = np.array(spearmanr(promised, happened)).tolist()[0]
            hits.append(bool(happened[order[:TOP]].max() == happened.max()))
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
    return [end / 100 for end in bootstrap_interval([value for value in correlations if value is not None])]


def measure(path: Path) -> dict[str, dict[str, Any]]:
    """All ways of ranking on one file: what `judge` finds, and the bootstrap `interval` of `spearman` over targets.

    Raises:
        ConfigError: naming the file and what is wrong with it.
    """
    try:
        tasks, prompts, scores = load(path)
        tables = predictions(prompts, scores)
        judged = {name: judge(tasks, prompts, scores, table) for name, table in tables.items()}
    except (ConfigError, PromptError) as error:
        raise ConfigError(f"{path}: {error}") from error
    return {name: {**figures, "interval": interval(figures["by_target"].values())} for name, figures in judged.items()}


def text(result: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures for people, and what `learned` gains over `mean` on all files together."""
    lines = [f"{'file':32} {'rank by':8} spearman  95 % interval    top 3  left out"]
    for file, judged in result.items():
        for name, figures in judged.items():
            low, high = figures["interval"]
            lines.append(
                f"{file[-32:]:32} {name:8} {figures['spearman']:8.3f}  {low:+.3f} to {high:+.3f}  "
                f"{figures['top3']:.3f}  {figures['left_out']:8}"
            )
    pairs = [
        (learned, basis)
        for judged in result.values()
        for learned, basis in zip(*(judged[name]["by_target"].values() for name in (LEARNED, BASIS)), strict=True)
        if learned is not None and basis is not None
    ]
    gains = [learned - basis for learned, basis in pairs]
    low, high = interval(gains)
    lines.append(
        f"{LEARNED} over {BASIS}, {len(gains)} targets together: {np.mean(gains):+.3f} ({low:+.3f} to {high:+.3f}), "
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
