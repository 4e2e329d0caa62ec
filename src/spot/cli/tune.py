"""`spot tune`: train one prompt."""

from pathlib import Path
from typing import Annotated

import typer

from spot.cli.options import ConfigFile, Data, Json, Settings, TaskName, example, overrides, setting
from spot.cli.output import emit, progress, scores
from spot.config import TuneConfig, load_config
from spot.runs import RunDir
from spot.storage import cache_dir

app = typer.Typer()


@app.command(
    epilog=example(
        "spot tune reviews.toml --steps 60 --length 20 --set key_step=36 --out runs/reviews",
    )
)
def tune(
    task: TaskName,
    backbone: Annotated[str | None, setting(TuneConfig, "backbone", "NAME")] = None,
    steps: Annotated[str | None, setting(TuneConfig, "steps", "N")] = None,
    length: Annotated[str | None, setting(TuneConfig, "length", "P")] = None,
    init: Annotated[str | None, setting(TuneConfig, "init", "KIND")] = None,
    seed: Annotated[str | None, setting(TuneConfig, "seed", "S")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder.  [default: in the cache]")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Tune a prompt for one task on a frozen model.

    The rows are split into those that train, those that choose the best checkpoint and those kept for a report. A run
    that was interrupted goes on when the same command is given again, and one that is finished is only read.
    """
    from spot.tasks import registry
    from spot.tasks.base import roles

    given = overrides(task=task, backbone=backbone, steps=steps, length=length, init=init, seed=seed)
    resolved = load_config(TuneConfig, config, [*(settings or []), *given])
    found = registry.get(resolved.task, data)
    rows = roles(found, resolved.train_rows, resolved.select_rows, resolved.report_rows, resolved.rows_seed)

    from spot import tuning
    from spot.backbone import Backbone

    with progress(f"loading {resolved.backbone}"):
        model = Backbone.load(resolved.backbone, gradient_checkpointing=resolved.gradient_checkpointing)
    run = tuning.prepare(resolved, found, model, rows)
    folder = out or cache_dir() / "runs" / run.digest
    with progress(f"tuning {found.name}") as step:
        tuning.tune([run], model, folder, step)
    result = RunDir(folder).result()["runs"][0]
    value = {
        "task": found.name, "prompt": str(folder / "prompt.safetensors"),
        **{key: result[key] for key in ("scores", "frozen_scores", "selection", "step", "steps", "tokens", "seconds",
                                        "diagnosis")},
    }  # fmt: skip
    emit(
        value,
        as_json,
        f"{found.name}: {scores(value['scores'])} on {len(rows.report or rows.select)} rows"
        f" (without a prompt: {scores(value['frozen_scores'])})",
        f"best step {value['step']} of {value['steps']}, chosen on {len(rows.select)} other rows; "
        f"{value['tokens']:,} text tokens in {value['seconds']:.1f} s",
        f"prompt: {value['prompt']}",
        *(f"diagnosis: {line}" for line in value["diagnosis"]),
    )
