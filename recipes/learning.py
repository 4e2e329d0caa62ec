r"""What a prompt learns from the same rows by other starts, rates, schedules and networks, at equal text tokens.

    python recipes/learning.py --data DIR run --arms classes,instruction --targets mpqa,trec --seeds 0,1,2
    python recipes/learning.py table                      # of the cells that are there, in Markdown
    python recipes/learning.py --data DIR run --arms "tfidf,probe,embedding,icl,lora 0.001"  # instead
    python recipes/learning.py --data DIR keys --arms "instruction 0.005" --targets mpqa,trec,cr  # similarity
    python recipes/learning.py --data DIR keys --arms "vocabulary 0.005" --seeds 0 --forms '\nAnswer:;\nLabel:;chat'

The targets and limits are those of studies/smollm2.toml, with TREC beside them. Rows are drawn anew for each seed.
Selection rows choose the checkpoint, and the arm where several stand in one; report rows judge. A finished cell is one
line of learning.jsonl and is not measured again. Arms that are no prompts have the same rows, and LoRA the same steps.
"""

import argparse
import json
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import torch

from spot.config import INSTEAD
from spot.tasks.instructions import proposed_instruction

CELLS = Path(__file__).with_suffix(".jsonl")
TARGETS = ("mpqa", "cr", "tweet_eval/sentiment", "superglue/cb", "dbpedia_14", "trec")
INSTRUCTIONS = {
    "mpqa": "Decide whether the opinion that the phrase expresses is positive or negative.",
    "cr": "Decide whether the sentence from a product review is positive or negative about the product.",
    "tweet_eval/sentiment": "Read the tweet and say whether its sentiment is negative, neutral or positive.",
    "superglue/cb": "Say whether the premise makes the hypothesis true (entailment), false (contradiction) or neither "
    "(neutral).",
    "dbpedia_14": "Say what kind of thing the text describes: a company, school, artist, athlete, politician, "
    "transportation, building, nature, village, animal, plant, album, film or book.",
    "trec": "Read the question and say what kind of answer it asks for: an abbreviation, an entity, a description, a "
    "human being, a location or a number.",
}
SOURCES = {  # that fits a target, of the package
    "mpqa": "glue/sst2",
    "cr": "glue/sst2",
    "tweet_eval/sentiment": "tweet_eval/emotion",
    "superglue/cb": "glue/mnli",
    "dbpedia_14": "ag_news",
}
SETTINGS: dict[str, Any] = {
    "steps": 32,
    "length": 40,
    "batch_size": 16,
    "max_input_tokens": 96,
    "eval_every": 8,
    "checkpoint_every": 32,
    "train_rows": 256,
    "select_rows": 100,
    "report_rows": 300,
}
INSTRUCTION = {"init": "instruction"}
RESIDUAL = {"reparameterise": "residual"}
LINEAR = {"decay": "linear"}
ARMS: dict[str, dict[str, Any]] = {
    "vocabulary 0.005": {"init": "vocabulary"},
    "classes 0.005": {"init": "classes"},
    **{
        f"{init} {rate}{' linear' if decay else ''}": {"init": init, "learning_rate": rate, **decay}
        for init in ("vocabulary", "classes", "instruction")
        for rate in (0.005, 0.01, 0.02, 0.03)
        for decay in ({}, LINEAR)
    },
    "instruction 0.02 cosine": {**INSTRUCTION, "learning_rate": 0.02, "decay": "cosine"},
    "instruction 0.02 warm-up linear": {**INSTRUCTION, "learning_rate": 0.02, "warmup_steps": 4, **LINEAR},
    "instruction 0.005 residual": {**INSTRUCTION, **RESIDUAL},
    "instruction 0.02 residual linear": {**INSTRUCTION, **RESIDUAL, "learning_rate": 0.02, **LINEAR},
    "instruction 0.01 residual linear": {**INSTRUCTION, **RESIDUAL, "learning_rate": 0.01, **LINEAR},
    "instruction 0.005 mlp": {**INSTRUCTION, "reparameterise": "mlp"},
    "demonstrations 0.01 linear": {"init": "demonstrations:8", "learning_rate": 0.01, **LINEAR},
    "classes+instruction 0.02 linear": {"init": "classes+instruction", "learning_rate": 0.02, **LINEAR},
    **{
        f"{start} {rate}{' linear' if decay else ''}": {"init": init, "learning_rate": rate, **decay}
        for start, init in (("source", "SOURCE"), ("source+instruction", "SOURCE+instruction"))
        for rate in (0.005, 0.01, 0.02)
        for decay in ({}, LINEAR)
    },
    "source+instruction 80 0.01 linear": {"init": "SOURCE+instruction", "learning_rate": 0.01, "length": 80, **LINEAR},
}
WORDS = {  # arms whose start is not the sentence above
    "instruction of the table 0.005": lambda task: task.instruction,
    "instruction as proposed 0.005": proposed_instruction,
}
ARMS |= dict.fromkeys(WORDS, INSTRUCTION)
BEHIND = "probe behind source"
LORA = {f"lora {rate}": rate for rate in (0.0003, 0.001, 0.003)}
ARMS |= {arm: {"init": "vocabulary"} for arm in (*INSTEAD, *LORA)}  # of a prompt that they have none of
ARMS[BEHIND] = {"init": "SOURCE"}
TODAY = ("vocabulary 0.005", "classes 0.005")  # the better by selection rows is what plain tuning was held to
RESAMPLES = 10_000
KEY_STEP = 24  # of the packaged library's recipe


@dataclass(frozen=True)
class Cell:
    """What one run came to."""

    target: str
    arm: str
    seed: int
    score: float
    selection: float
    nats: float
    step: int
    tokens: int
    seconds: float
    curve: list[list[float]]
    dtype: str


def main() -> None:
    """Measure the arms that are named, or print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cells", type=Path, default=CELLS)
    parser.add_argument("--data", type=Path, help="folder with the data sets")
    commands = parser.add_subparsers(dest="command", required=True)
    for command in ("run", "table", "keys"):
        named = commands.add_parser(command)
        named.add_argument("--arms", type=_listed, default=list(ARMS))
        named.add_argument("--targets", type=_listed, default=list(TARGETS))
        named.add_argument("--seeds", type=_listed, default=["0", "1", "2"])
        named.add_argument("--best-of", type=_listed, action="append", default=[], help="arms that stand in one")
        named.add_argument(
            "--against", type=_listed, default=list(TODAY), help="arms that stand in the one compared with"
        )
    keys = commands.choices["keys"]
    keys.add_argument("--forms", default="", help="of cue.py, semicolons between: keys of one are sought in others")
    given = parser.parse_args()
    seeds = [int(seed) for seed in given.seeds]
    if given.command == "keys":
        forms = given.forms.split(";") if given.forms else []
        for arm in given.arms:
            print(similarities(given.data, arm, given.targets, seeds, forms), flush=True)
    elif given.command == "run":
        measure(given.cells, given.data, given.arms, given.targets, seeds)
    else:
        print(table(read(given.cells), given.arms, given.targets, seeds, given.best_of, given.against))


def measure(path: Path, data: Path | None, arms: Sequence[str], targets: Sequence[str], seeds: Sequence[int]) -> None:
    """Measure the cells that are not there yet, each of which is written when it is done."""
    from spot.models.backbone import Backbone
    from spot.tasks import registry

    backbone = Backbone.load()
    for seed in seeds:
        for target in targets:
            known = registry.get(target, data)
            for arm in arms:
                words = WORDS[arm](known) if arm in WORDS else INSTRUCTIONS[target]
                task = replace(known, instruction=words)
                is_there = (target, arm, seed) in read(path)
                if not is_there and not ("SOURCE" in str(ARMS[arm]["init"]) and target not in SOURCES):
                    cell = run_cell(task, arm, seed, backbone)
                    with path.open("a") as file:
                        file.write(json.dumps(asdict(cell)) + "\n")
                    print(f"{target} {arm} seed {seed}: {cell.score:.1f} ({cell.selection:.1f})", flush=True)


def run_cell(task: Any, arm: str, seed: int, backbone: Any) -> Cell:
    """Tune and score one arm of a target on the rows of a seed."""
    from spot.config import TuneConfig
    from spot.evaluation.scoring import evaluate_rows
    from spot.library.library import resolve
    from spot.prompts.overlap import seen_by_any
    from spot.tasks.splits import split_rows
    from spot.training.run import Member, prepare_run
    from spot.training.tuning import tune_runs

    settings = {**SETTINGS, **ARMS[arm], "rows_seed": seed, "seed": seed}
    source = SOURCES.get(task.name, "")
    settings["init"] = settings["init"].replace("SOURCE", f"packaged:{source}")
    config = TuneConfig(task=task.name, **settings)
    rows = split_rows(task, config.train_rows, config.select_rows, config.report_rows, config.rows_seed)
    report = list(rows.report)
    if source:  # no arm is judged by rows that the source has seen
        sketch = resolve(f"packaged:{source}").sketch
        seen = seen_by_any([sketch] if sketch else [], [row.texts for row in report])
        report = [row for row, is_seen in zip(report, seen, strict=True) if not is_seen]
    if arm in (*INSTEAD, *LORA, BEHIND):
        return instead_cell(task, arm, config, rows, report, backbone)
    run = prepare_run(config, (Member(task, rows).unreported,), backbone)
    with tempfile.TemporaryDirectory() as folder:
        [tuned] = tune_runs([run], backbone, Path(folder))
    result = tuned.result
    collator = run.collator_of(run.members[0], backbone)
    prompt = torch.tensor(tuned.prompt.value)
    scored = evaluate_rows(backbone, prompt, task, collator, report, collator.encode(report))
    kept = next(point for point in result.curve if point.step == result.step)
    return Cell(
        target=task.name,
        arm=arm,
        seed=seed,
        score=scored.primary,
        selection=kept.score,
        nats=kept.nats or 0.0,
        step=result.step,
        tokens=result.tokens,
        seconds=round(result.seconds, 1),
        curve=[[point.step, round(point.score, 2), round(point.nats or 0.0, 4)] for point in result.curve],
        dtype=os.environ.get("SPOT_DTYPE", "float32"),
    )


def instead_cell(task: Any, arm: str, config: Any, rows: Any, report: Sequence[Any], backbone: Any) -> Cell:
    """Fit and score an arm that is no prompt."""
    from spot.baselines.arms import Terms, selection_rank
    from spot.baselines.door import fit_baseline
    from spot.baselines.probe import fit_probe_behind
    from spot.config import TransferConfig
    from spot.library.library import resolve

    usual = TransferConfig()
    with tempfile.TemporaryDirectory() as folder:
        terms = Terms(
            task=task,
            train=rows.train,
            selection=rows.selection,
            backbone=backbone,
            config=config,
            out=Path(folder),
            embedding_model=usual.embedding_model,
            demonstrations=usual.demonstrations,
            lora_rank=usual.lora_rank,
            lora_rates=(LORA[arm],) if arm in LORA else usual.lora_rates,
            lora_modules=usual.lora_modules,
        )
        if arm == BEHIND:
            fitted = fit_probe_behind(terms, {config.init: torch.tensor(resolve(config.init).value)})
        else:
            fitted = fit_baseline("lora" if arm in LORA else arm, terms)
        learned, result = fitted.learned, fitted.on(report)
        _, less_nats = selection_rank(terms, fitted.answer(rows.selection))
    return Cell(
        target=task.name,
        arm=arm,
        seed=config.seed,
        score=result.evaluation(task, report).primary,
        selection=learned.selection,
        nats=-less_nats,
        step=int(learned.setting.get("step", 0)),
        tokens=learned.tokens,
        seconds=round(learned.seconds, 1),
        curve=[],
        dtype=os.environ.get("SPOT_DTYPE", "float32"),
    )


def similarities(
    data: Path | None, arm: str, targets: Sequence[str], seeds: Sequence[int], forms: Sequence[str] = ()
) -> str:
    """How alike keys of one task and of two tasks are by an arm's recipe, as Markdown.

    Args:
        data: folder with the data sets.
        arm: whose recipe trains the keys.
        targets: the tasks.
        seeds: of the keys of each task.
        forms: how inputs are read, names of `cue.FORMS`: two or more, of which each has seeds and so rows of its own,
            and keys of one are compared with keys of another; none for one form, that of the tasks.
    """
    from cue import FORMS

    from spot.config import TuneConfig
    from spot.models.backbone import Backbone
    from spot.retrieval.embeddings import SIMILARITIES, embedding_of, similarity
    from spot.tasks import registry
    from spot.tasks.splits import split_rows
    from spot.training.run import Member, prepare_run
    from spot.training.tuning import tune_runs

    backbone = Backbone.load()
    keys = {}
    for target, seed, (number, form) in product(targets, seeds, enumerate(forms or ["as it is"])):
        task = replace(registry.get(target, data), instruction=INSTRUCTIONS[target])
        task = replace(task, reading=FORMS[form](task)) if forms else task
        seed += number * len(seeds)
        short = {"steps": KEY_STEP, "key_step": KEY_STEP, "eval_every": KEY_STEP, "report_rows": 1}
        settings = {**SETTINGS, **ARMS[arm], **short, "rows_seed": seed, "seed": seed}
        config = TuneConfig(task=target, **settings)
        rows = split_rows(task, config.train_rows, config.select_rows, config.report_rows, config.rows_seed)
        with tempfile.TemporaryDirectory() as folder:
            run = prepare_run(config, (Member(task, rows).unreported,), backbone)
            keys[target, seed, form] = embedding_of(tune_runs([run], backbone, Path(folder))[0].prompt)
    lines = [f"| {arm} | | one task | two tasks | nearest is the same task |", "|---|---|--:|--:|--:|"]
    for kind, (of, among) in product(SIMILARITIES, permutations(forms, 2) if len(forms) > 1 else [("as it is",) * 2]):
        alike, unlike, nearest = [], [], []
        for a in (key for key in keys if key[2] == of):
            others = {b: similarity(keys[a], keys[b], kind) for b in keys if b[2] == among and b != a}
            alike += [value for b, value in others.items() if b[0] == a[0]]
            unlike += [value for b, value in others.items() if b[0] != a[0]]
            nearest.append(max(others, key=lambda b: others[b])[0] == a[0])
        figures = f"{np.mean(alike):.3f} | {np.mean(unlike):.3f} | {sum(nearest)} of {len(nearest)}"
        lines.append(f"| {kind} | {of} among {among} | {figures} |")
    return "\n".join(lines)


def read(path: Path) -> dict[tuple[str, str, int], Cell]:
    """The cells that are there, by target, arm and seed."""
    lines = path.read_text().splitlines() if path.exists() else []
    cells = [Cell(**json.loads(line)) for line in lines]
    return {(cell.target, cell.arm, cell.seed): cell for cell in cells}


def chosen(
    cells: Mapping[tuple[str, str, int], Cell], arms: Sequence[str], targets: Sequence[str], seeds: Sequence[int]
) -> np.ndarray:
    """Report scores [targets, seeds] of the arm that selection rows prefer; NaN where one of them is not there."""
    scores = np.full((len(targets), len(seeds)), np.nan)
    for row, target in enumerate(targets):
        for column, seed in enumerate(seeds):
            found = [cells.get((target, arm, seed)) for arm in arms]
            if all(found):
                best = max((cell for cell in found if cell), key=lambda cell: (cell.selection, -cell.nats))
                scores[row, column] = best.score
    return scores


def paired_interval(differences: np.ndarray) -> tuple[float, float]:
    """95 % of the mean of differences [targets, seeds]: targets drawn anew, then their seeds."""
    random = np.random.default_rng(0)
    targets, seeds = differences.shape
    rows = random.integers(0, targets, (RESAMPLES, targets))
    columns = random.integers(0, seeds, (RESAMPLES, targets, seeds))
    means = differences[rows[:, :, None], columns].mean(axis=(1, 2))
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def table(
    cells: Mapping[tuple[str, str, int], Cell],
    arms: Sequence[str],
    targets: Sequence[str],
    seeds: Sequence[int],
    best_of: Sequence[Sequence[str]] = (),
    against: Sequence[str] = TODAY,
) -> str:
    """Means over seeds of each arm that is whole, and its difference from the first line's, as Markdown."""
    first = chosen(cells, against, targets, seeds)
    lines = ["| arm | " + " | ".join(targets) + " | mean | less the first |", "|---|" + "--:|" * (len(targets) + 2)]
    named = [(" or ".join(against), against), *((arm, (arm,)) for arm in arms)]
    for name, parts in (*named, *((" or ".join(parts), parts) for parts in best_of)):
        scores = chosen(cells, parts, targets, seeds)
        if np.isnan(scores).any():
            continue
        difference = ""
        if not np.isnan(first).any() and parts is not against:
            low, high = paired_interval(scores - first)
            difference = f"{(scores - first).mean():+.1f} ({low:+.1f} to {high:+.1f})"
        means = " | ".join(f"{mean:.1f}" for mean in scores.mean(axis=1))
        lines.append(f"| {name} | {means} | {scores.mean():.1f} | {difference} |")
    return "\n".join(lines)


def _listed(text: str) -> list[str]:
    """Names that commas part."""
    return text.split(",")


if __name__ == "__main__":
    main()
