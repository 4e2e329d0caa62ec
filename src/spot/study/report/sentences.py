"""Say what a study found, in sentences made from its numbers and intervals; where nothing is decided they say so."""

from collections import Counter

from spot.config import INSTEAD
from spot.study.analysis.arms import PLAIN_ARM
from spot.study.analysis.findings import ABOVE_CONSTANT, FEWEST_RUNS, GUIDED, ArmSummary, Comparison, Findings
from spot.study.analysis.pairs import RESAMPLES
from spot.study.analysis.table import LARGE

LIKELY = 0.05  # below this p a correlation is counted
MOST_NAMED = 3
QUESTIONS = {
    PLAIN_ARM: "Does it beat plain tuning",
    "equal_cost": "Does it beat plain tuning at its own cost",
    "always": "Does it beat always taking the best known source",
    "random": "Does it beat a source at random",
    **{kind: f"Does it beat {name}" for kind, name in INSTEAD.items()},
    "model": "Does it beat model tuning",
    "mixture_model": "Does it beat multi-task model tuning",
}

READING = f"""\
Scores are percent on report rows, which chose nothing: checkpoints, starts, sources and the better plain start were
chosen on selection rows, within one target and one seed. Gains are points over plain tuning from its better start.

Relative error reduction is 100 (transfer - plain) / (100 - plain), from means over seeds, averaged over targets.
Deviations are over seeds (n - 1), of the means over targets.

Intervals are 95 % bootstraps with {RESAMPLES} draws: targets are drawn anew, then the seeds of each. They are not
adjusted for the number of comparisons, and with few targets they are too narrow.

Cost is text tokens trained on a target in all, as a multiple of one plain run: losers count, those that a race drops
up to their rung, the run on a mixture counts, and where similarities choose, so does the run that gave the task
embedding, up to that step. The training of the source prompts is not in it: it is spent once for all targets. A race
has fewer sources than asked for where its budget holds no more. Tuned parameters count losers too.

Always the best known source is the source with the highest mean gain on selection rows of the other targets; the row
in hindsight has seen the report scores of all. The oracle tunes from every source and keeps the best by selection rows.
The most promising sources are those that a library with a record puts first (`--rank-by learned`): it goes by
similarity and by the gains on selection rows of the other targets under the same seed.
"""
TEXTS = {
    "Against the doubts": "Differences are paired: the same targets, seeds and report rows. Plain tuning at equal cost "
    "is the best of as many runs as the arm pays for, or of as many as there are.",
    "On the targets that are learned": "Targets on which some arm is above a constant answer on selection rows by more "
    f"than {ABOVE_CONSTANT:g} standard errors (of a difference of two shares near the constant answer's). Report rows "
    "choose nothing here either.",
    "Cost against quality": "Numbers are sources, or runs from scratch. Equal costs are drawn slightly apart.",
    "Each source on each target": "Relative error reduction in percent; below 0 the source did harm.",
    "One source for all targets": "Every target starts from the same source, which may be a mixture. Their order was "
    "found on report rows: take the best of them with caution.",
    "Similarity against gain": "One point a source, means over seeds. With few sources a large r is common by chance.",
    "How well similarities rank": "Rank correlation of similarities with gains on report rows, target by target. The "
    "row learned adds how the sources did on selection rows of the other targets; record goes by that alone, without "
    "any similarity; a target's own gains are seen by neither. Steps from every source rank by the score on selection "
    "rows after a quarter of each run. What the first source loses is the gain of the best one less its own. "
    "The row selection rows is a yardstick: it ranks by the tuned runs' own scores there, so that what it lacks to +1 "
    "is the noise of selection and report rows, and no similarity can be blamed for it.",
    "How alike the tasks are": "Cosine of the average tokens of task embeddings, average over seeds, in the order of "
    "an average-linkage tree. An asterisk marks a target.",
}


def headline(findings: Findings) -> ArmSummary | None:
    """The arm that the first sentences are about, which no report row chose: the first strategy, with most sources."""
    guided = [arm for arm in findings.arms if arm.kind in GUIDED]
    return max((arm for arm in guided if arm.kind == guided[0].kind), key=lambda arm: arm.k, default=None)


def verdict(findings: Findings) -> str:
    """The study in one sentence."""
    arm = headline(findings)
    if not findings.arms:
        return "No target has all its cells yet, so the arms cannot be compared."
    if arm is None:
        return "No strategy that similarity guides is among the records, so only its rivals are shown."
    against = next(pair for pair in findings.comparisons if pair.arm == arm.arm and pair.role == PLAIN_ARM)
    ends = {"yes": "It helps.", "no": "It does harm.", "undecided": "Whether it helps is undecided."}
    cost = "" if arm.cost is None else f", at the cost of {arm.cost:.2f} plain runs"
    words = f"{_capital(arm.arm)} against plain tuning: {_points(against)}{cost}. {ends[against.better]}"
    learned = [pair for pair in findings.learned_comparisons if pair.arm == arm.arm and pair.role == PLAIN_ARM]
    return " ".join(
        [words, *(f"On the {_learned(findings)} that {_verb(findings)} learned: {_points(pair)}." for pair in learned)]
    )


def sentences(findings: Findings) -> tuple[str, ...]:
    """What a reader should know, the most wanted first."""
    return (
        *_constant(findings),
        *_answers(findings),
        *_similarity(findings),
        *_sources(findings),
        *_negative_transfer(findings),
        *_gaps(findings),
    )


def _learned(findings: Findings) -> str:
    """How many targets are learned."""
    return _number(sum(target.is_learned for target in findings.targets), "target")


def _verb(findings: Findings) -> str:
    """What one or several learned targets do."""
    return "is" if sum(target.is_learned for target in findings.targets) == 1 else "are"


def _constant(findings: Findings) -> list[str]:
    """On which targets nothing is learned."""
    apart = [target for target in findings.targets if not target.is_learned]
    if not apart:
        return []
    names = ", ".join(f"{target.name} ({target.constant:.1f})" for target in apart)
    counts = "so that nothing counts" if len(apart) == len(findings.targets) else f"which leaves {_learned(findings)}"
    return [
        f"No arm is above a constant answer by more than {ABOVE_CONSTANT:g} standard errors on selection rows of "
        f"{names}: they count apart, {counts}. Means over all targets stand beside means over those that are learned."
    ]


def _answers(findings: Findings) -> list[str]:
    """The headline arm against its rivals."""
    arm = headline(findings)
    if arm is None:
        return []
    comparisons = {pair.role: pair for pair in findings.comparisons if pair.arm == arm.arm}
    lines = [f"What follows is about {arm.arm}: of the first strategy the one with most sources."]
    for role, question in QUESTIONS.items():
        if role in comparisons:
            comparison = comparisons[role]
            rival = next(other for other in findings.arms if other.arm == comparison.against)
            costs = (
                f"; it is {comparison.against}, at {rival.cost:.2f} plain runs"
                if role == "equal_cost" and rival.cost is not None
                else ""
            )
            lines.append(f"{question}? {_capital(comparison.better)}: {_points(comparison)}{costs}.")
    if all(pair.better == "undecided" for role, pair in comparisons.items() if role in QUESTIONS):
        lines.append("Nothing is decided: every one of these intervals holds 0, or there are too few runs.")
    if arm.runs < FEWEST_RUNS:
        lines.append(f"{arm.runs} runs (targets times seeds) are fewer than {FEWEST_RUNS}: they decide nothing.")
    if "oracle" in comparisons and comparisons["oracle"].difference < 0:
        higher = -comparisons["oracle"].difference
        lines.append(f"The oracle, which tunes from every source, is {higher:.1f} points higher.")
    return lines


def _similarity(findings: Findings) -> list[str]:
    """Whether similarity predicts gain."""
    defined = [(pair.pearson, pair.p) for pair in findings.correlations if pair.pearson is not None]
    lines = []
    if defined:
        likely = sum(pearson > 0 and p is not None and p < LIKELY for pearson, p in defined)
        mean = sum(pearson for pearson, _ in defined) / len(defined)
        lines.append(
            f"Similarity by {findings.metric!r} against gain: mean r {mean:+.2f}; above 0 with p < {LIKELY} in "
            f"{likely} of {_number(len(defined), 'target')}."
        )
    elif findings.correlations:
        lines.append(f"Similarity against gain: no correlation is defined ({findings.correlations[0].why}).")
    qualities = [
        f"{ranker.metric} {ranker.spearman:+.2f} ({ranker.interval[0]:+.2f} to {ranker.interval[1]:+.2f})"
        for ranker in findings.rankings
    ]
    if qualities:
        lines.append(f"Rank correlation of each ranking with the gains, mean over targets: {', '.join(qualities)}.")
    return lines


def _sources(findings: Findings) -> list[str]:
    """Which sources help most."""
    worse = Counter(transfer.source for transfer in findings.transfers if transfer.gain < 0)
    best = [
        f"{arm.arm} ({arm.gain:+.1f} points, worse on {worse[arm.arm]} of {arm.targets})"
        for arm in findings.generic[:MOST_NAMED]
        if arm.gain > 0
    ]
    if best:
        return [f"Sources that help most over all targets, seen afterwards: {', '.join(best)}."]
    return ["No source helps on average over the targets."] if findings.generic else []


def _negative_transfer(findings: Findings) -> list[str]:
    """How many transfers do harm."""
    if not findings.transfers:
        return []
    cells = sum(summary.cells for summary in findings.summaries)
    improved = sum(summary.improved for summary in findings.summaries)
    worsened = sum(summary.worsened for summary in findings.summaries)
    large = sum(len(summary.above_10) for summary in findings.summaries)
    always = sum(transfer.worse == transfer.seeds for transfer in findings.transfers if transfer.rer is not None)
    lines = [
        f"Of {_number(cells, 'pair')} of source and target {worsened} end below plain tuning (negative transfer; "
        f"{always} of them with every seed), {improved} above, and {large} lower its error by more than {LARGE} %."
    ]
    if perfect := sorted({transfer.target for transfer in findings.transfers if transfer.rer is None}):
        lines.append(f"Plain tuning has no error to reduce on {', '.join(perfect)}: left out of error reductions.")
    return lines


def _gaps(findings: Findings) -> list[str]:
    """What is missing, diverged or not comparable."""
    lines = []
    if findings.targets and len(findings.seeds) > 1 and all(target.draws == 1 for target in findings.targets):
        lines.append(
            f"All {len(findings.seeds)} seeds share one draw of rows: they vary the runs alone, and no interval holds "
            "what other rows to train, select and report would have changed."
        )
    pair = findings.counts["pair"]
    if pair.missing:
        lines.append(f"{pair.finished} of {pair.finished + pair.missing} pair cells are there.")
    if apart := [target.name for target in findings.targets if not target.seeds]:
        lines.append(f"Left out of the arms, because no seed has all its cells: {', '.join(apart)}.")
    if failed := [f"{count.failed} {kind}" for kind, count in findings.counts.items() if count.failed]:
        lines.append(f"Cells that ended without a score, as diverged runs do, and count nowhere: {', '.join(failed)}.")
    if overlap := sum(target.rows.get("overlap", 0) for target in findings.targets):
        lines.append(f"{_number(overlap, 'report row')} that a source was trained on are left out for every arm.")
    if mixed := [target.name for target in findings.targets if target.mixed]:
        lines.append(
            f"Cells of {', '.join(mixed)} were measured on different rows and are not comparable: run the study anew."
        )
    if findings.tasks is not None and findings.tasks.left_out:
        lines.append(
            f"Left out of the similarity map, for want of a shared seed: {', '.join(findings.tasks.left_out)}."
        )
    return lines


def _points(comparison: Comparison) -> str:
    """A difference with its interval."""
    low, high = comparison.interval
    return f"{comparison.difference:+.1f} points (95 % interval {low:+.1f} to {high:+.1f}, {comparison.runs} runs)"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
