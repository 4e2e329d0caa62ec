"""`spot tune`: train one prompt."""

from pathlib import Path
from typing import Annotated

import typer

from spot.cli.options import (
    ConfigFile,
    Data,
    Json,
    Settings,
    TaskName,
    Track,
    example,
    overrides,
    setting,
    tracking,
    warn_of_memory,
)
from spot.cli.output import emit, progress, scores
from spot.config import TuneConfig, load_config
from spot.storage.files import cache_dir

app = typer.Typer()


@app.command(
    epilog=example(
        "spot tune reviews.toml --steps 60 --length 20 --set key_step=36 --out runs/reviews",
        "spot tune reviews.toml --method model --steps 4 --set learning_rate=1e-4 --set batch_size=4",
    )
)
def tune(
    task: TaskName,
    backbone: Annotated[str | None, setting(TuneConfig, "backbone", "NAME")] = None,
    method: Annotated[str | None, setting(TuneConfig, "method", "prompt|model")] = None,
    steps: Annotated[str | None, setting(TuneConfig, "steps", "N")] = None,
    length: Annotated[str | None, setting(TuneConfig, "length", "P")] = None,
    init: Annotated[str | None, setting(TuneConfig, "init", "KIND")] = None,
    seed: Annotated[str | None, setting(TuneConfig, "seed", "S")] = None,
    quantise: Annotated[str | None, setting(TuneConfig, "quantise", "4bit|8bit")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder.  [default: in the cache]")] = None,
    data: Data = None,
    track: Track = None,
    as_json: Json = False,
) -> None:
    """Tune a prompt, or the model itself, for one task or a mixture of tasks.

    The rows are split into those that train, those that choose the best checkpoint and those kept for a report. A run
    that was interrupted goes on when the same command is given again, and one that is finished is only read.
    """
    given = overrides(task=task, backbone=backbone, method=method, steps=steps, length=length, init=init, seed=seed)
    given += overrides(quantise=quantise)
    resolved = load_config(TuneConfig, config, [*(settings or []), *given])

    from spot.models.backbone import Backbone
    from spot.training.model_tuning import tune_model_run
    from spot.training.rates import RACED_RATES
    from spot.training.run import members_of, prepare_run
    from spot.training.tuning import TunedPrompt, tune_runs

    members, name = members_of(resolved, data)
    warn_of_memory(resolved)
    with progress(f"loading {resolved.backbone}"):
        model = Backbone.load(
            resolved.backbone,
            dtype=resolved.precision,
            gradient_checkpointing=resolved.gradient_checkpointing,
            quantise=resolved.quantise,
        )
    run = prepare_run(resolved, members, model, name=name)
    folder = out or cache_dir() / "runs" / run.digest
    with progress(f"tuning {run.title}") as step, tracking(track):
        if resolved.method == "model":
            kind, tuned = "model", tune_model_run(run, model, folder, step)
        else:
            kind, tuned = "prompt", tune_runs([run], model, folder, step)[0]
    result = tuned.result
    value = {
        "task": run.title,
        kind: str(tuned.path),
        "scores": result.scores,
        "frozen_scores": result.frozen_scores,
        "selection": result.selection,
        "step": result.step,
        "steps": result.steps,
        "tokens": result.tokens,
        "seconds": result.seconds,
        "diagnosis": result.diagnosis,
    }
    reported = sum(len(member.splits.report) for member in members)
    selecting = sum(len(member.splits.selection) for member in members)
    about = (
        f"on {reported} rows (without a prompt: {scores(result.frozen_scores)})"
        if reported
        else f"on the {selecting} rows that chose the step: no rows are kept for a report"
    )
    raced = (
        f"learning rate {tuned.prompt.config['learning_rate']}: the best of "
        f"{' and '.join(map(str, RACED_RATES[resolved.optimiser]))} on the selection rows; the text tokens are of both"
        if isinstance(tuned, TunedPrompt) and resolved.learning_rate == "auto"
        else ""
    )
    emit(
        value,
        as_json,
        f"{run.title}: {scores(result.scores)} {about}",
        f"best step {result.step} of {result.steps}, chosen on {selecting} {'other ' if reported else ''}rows; "
        f"{result.tokens:,} text tokens in {result.seconds:.1f} s",
        *([raced] if raced else []),
        f"{kind}: {tuned.path}",
        *(f"diagnosis: {line}" for line in result.diagnosis),
    )
