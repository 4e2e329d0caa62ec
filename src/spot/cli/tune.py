"""`spot tune`: train one prompt."""

from pathlib import Path
from typing import Annotated

import typer

from spot.cli.options import ConfigFile, Data, Json, Settings, TaskName, example, overrides, setting
from spot.cli.output import emit, progress, scores
from spot.config import TuneConfig, load_config
from spot.storage.files import cache_dir
from spot.storage.run_dir import RunDir

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
    config: ConfigFile = None,
    settings: Settings = None,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="The run's folder.  [default: in the cache]")] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Tune a prompt, or the model itself, for one task or a mixture of tasks.

    The rows are split into those that train, those that choose the best checkpoint and those kept for a report. A run
    that was interrupted goes on when the same command is given again, and one that is finished is only read.
    """
    given = overrides(task=task, backbone=backbone, method=method, steps=steps, length=length, init=init, seed=seed)
    resolved = load_config(TuneConfig, config, [*(settings or []), *given])

    from spot.models.backbone import Backbone
    from spot.training import tuning
    from spot.training.result import read_results
    from spot.training.state import members_of

    members, name = members_of(resolved, data)
    with progress(f"loading {resolved.backbone}"):
        model = Backbone.load(resolved.backbone, gradient_checkpointing=resolved.gradient_checkpointing)
    run = tuning.prepare_members(resolved, members, model, name=name)
    folder = out or cache_dir() / "runs" / run.digest
    with progress(f"tuning {run.title}") as step:
        if resolved.method == "model":
            made = {"model": str(tuning.tune_model(run, model, folder, step))}
        else:
            tuning.tune([run], model, folder, step)
            made = {"prompt": str(folder / "prompt.safetensors")}
    (result,) = read_results(RunDir(folder)) or ()
    value = {
        "task": run.title,
        **made,
        **{
            key: getattr(result, key)
            for key in ("scores", "frozen_scores", "selection", "step", "steps", "tokens", "seconds", "diagnosis")
        },
    }
    reported, selecting = (sum(len(getattr(m.splits, role)) for m in members) for role in ("report", "selection"))
    about = (
        f"on {reported} rows (without a prompt: {scores(value['frozen_scores'])})"
        if reported
        else f"on the {selecting} rows that chose the step: no rows are kept for a report"
    )
    emit(
        value,
        as_json,
        f"{run.title}: {scores(value['scores'])} {about}",
        f"best step {value['step']} of {value['steps']}, chosen on {selecting} {'other ' if reported else ''}rows; "
        f"{value['tokens']:,} text tokens in {value['seconds']:.1f} s",
        *(f"{kind}: {path}" for kind, path in made.items()),
        *(f"diagnosis: {line}" for line in value["diagnosis"]),
    )
