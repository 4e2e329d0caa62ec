"""Say in words what a comparison came to: which arm is best, by how much, and what to use."""

from collections.abc import Mapping, Sequence

from spot.config import PROBE_BEHIND
from spot.rendering.tables import size_text
from spot.strategies.arms import Arm, CandidateSummary, Difference, by_selection

FEW_ROWS = 100  # report rows below which a score's own interval is wider than 20 points
CLASSIFIERS = ("tfidf", "probe", PROBE_BEHIND, "embedding")  # arms whose head is a logistic regression


def best_sentence(arms: Sequence[Arm], lead: Difference | None) -> str:
    """Which arm the selection rows prefer, and how far it is above the next on report rows."""
    if lead is None:
        return ""
    best, other = _named(arms, lead.arm), _named(arms, lead.against)
    change = "both answer every row alike" if lead.alike else f"{lead}"
    return (
        f"{best.name} is best by selection rows ({best.selection:.1f}): {best.score:.1f} on report rows, "
        f"{change} against the next, {other.title}."
    )


def gain_sentence(
    gain: Difference | None, source: str | None, candidates: Sequence[CandidateSummary], *, is_plain: bool
) -> str:
    """Whether the transfer helped, in a sentence that follows the interval.

    Args:
        gain: of SPoT over plain tuning; None where no source was used.
        source: where it started.
        candidates: of the strategy.
        is_plain: whether what was kept is the plain run itself.
    """
    if gain is None:
        return "No source was used: this is plain prompt tuning."
    if is_plain:
        return (
            "No source was kept: the plain run itself did best on selection rows, so SPoT and plain prompt tuning are "
            "one prompt here."
        )
    change = f"{gain} against plain prompt tuning"
    if any(candidate.ended == "kept" and candidate.kind == "scratch" for candidate in candidates):
        return f"No source was kept: a start from scratch did best on selection rows. It gives {change}."
    if gain.alike:
        return f"SPoT did not win: the prompt from {source} answers every report row as plain prompt tuning does."
    if gain.is_above:
        return f"Starting from {source} helped: {change}."
    if gain.is_below:
        return f"Starting from {source} HURT: {change}. Use plain prompt tuning."
    return f"SPoT did not win clearly: starting from {source} gives {change}; the interval includes zero."


def warnings(arms: Sequence[Arm], over_constant: Mapping[str, Difference], rows: int) -> list[str]:
    """Why the numbers say less than they seem to, in sentences."""
    sentences = []
    if rows < FEW_ROWS:
        widest = max((arm.interval[1] - arm.interval[0] for arm in arms if arm.arm != "constant"), default=0.0)
        sentences.append(
            f"{rows} report rows are few: one of them is {100 / rows:.1f} points, and the interval of a score is up "
            f"to {widest:.0f} points wide."
        )
    constant = next((arm for arm in arms if arm.arm == "constant"), None)
    if constant is not None and over_constant:
        always = f"a constant answer ({constant.setting}), which has {constant.score:.1f}"
        if all(difference.points <= 0 for difference in over_constant.values()):
            sentences.append(f"Every arm is at or below {always}.")
        elif not any(difference.is_above for difference in over_constant.values()):
            sentences.append(f"No arm is clearly above {always}.")
    return sentences


def advice(
    arms: Sequence[Arm], over_constant: Mapping[str, Difference], rivalry: Difference | None, *, prompt_file: str
) -> str:
    """What to use, in words. Selection rows choose; report rows say how sure that is.

    Args:
        arms: that were compared.
        over_constant: of each other arm, how far it is above a constant answer.
        rivalry: the best arm that is no prompt against the best that is one; None where there is only one kind.
        prompt_file: of the best tuned prompt.
    """
    constant = next((arm for arm in arms if arm.arm == "constant"), None)
    others = [arm for arm in arms if arm is not constant]
    best = by_selection(others)[0]
    if constant is not None and over_constant and not any(part.is_above for part in over_constant.values()):
        return (
            f"Recommendation: none of these. No arm passes a constant answer here: always {constant.setting} has "
            f"{constant.score:.1f}, and {best.title}, the best by selection rows, {best.score:.1f} "
            f"({over_constant[best.arm]}). Give more rows, look at the labels, or take a larger model."
        )
    words = f"Recommendation: {_use(best, prompt_file)} It has {best.score:.1f} on report rows"
    if best.arm in over_constant:
        words += f", {over_constant[best.arm].points:+.1f} points against a constant answer"
    return f"{words}. {_rival(arms, best, rivalry)}".rstrip()


def _use(best: Arm, prompt_file: str) -> str:
    """What to do with the best arm."""
    cost = f"{best.seconds:.0f} s to learn, {size_text(best.bytes)} to ship, beside {best.beside}"
    if best.arm in CLASSIFIERS:
        return f"use logistic regression: {best.title} ({cost})."
    if best.arm == "icl":
        return f"train nothing, and put {best.setting} before each row: {best.title} ({cost})."
    if best.arm in ("lora", "model"):
        return f"adapt the weights, if they may be: {best.title} ({cost})."
    if best.arm == "frozen":
        return "no prompt: the frozen model as it is does best."
    if best.arm == "source":
        return f"tune nothing: {best.title} ({size_text(best.bytes)} to ship)."
    return f"use the prompt {prompt_file}: {best.title} ({cost})."


def _rival(arms: Sequence[Arm], best: Arm, rivalry: Difference | None) -> str:
    """How the best arm stands to the best one of the other kind: prompts, and what one would pick instead."""
    if rivalry is None:
        return ""
    rival, prompt = _named(arms, rivalry.arm), _named(arms, rivalry.against)
    if best.is_prompt:
        other, is_clear, is_wrong = rival, rivalry.is_below, rivalry.is_above
        change = str(_turned(rivalry))
    else:
        other, is_clear, is_wrong, change = prompt, rivalry.is_above, rivalry.is_below, str(rivalry)
    kind = "prompt" if other.is_prompt else "arm without one"
    sentence = f"Against the best {kind}, {other.title} ({other.score:.1f}), that is {change}"
    if is_clear:
        return f"{sentence}."
    if is_wrong:
        return f"{sentence}: report rows contradict the selection rows, so distrust both and give more rows."
    cheaper = min((best, other), key=lambda arm: (arm.arm not in CLASSIFIERS, arm.seconds))
    if cheaper is best:
        return f"{sentence}: undecided, and this is the cheaper of the two."
    if cheaper.arm in CLASSIFIERS:
        return (
            f"{sentence}: undecided, and logistic regression is the cheaper of the two ({cheaper.seconds:.0f} s, "
            f"{size_text(cheaper.bytes)}, beside {cheaper.beside}): take it unless the frozen model is served anyway."
        )
    return f"{sentence}: undecided, and {cheaper.title} is the cheaper of the two."


def _turned(difference: Difference) -> Difference:
    """The same difference, seen from the other arm."""
    low, high = difference.interval
    return Difference(
        arm=difference.against,
        against=difference.arm,
        points=-difference.points,
        interval=(-high, -low),
        alike=difference.alike,
    )


def _named(arms: Sequence[Arm], name: str) -> Arm:
    return next(arm for arm in arms if arm.arm == name)
