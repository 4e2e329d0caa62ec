"""`spot tune`: train one prompt."""

from pathlib import Path
from typing import Annotated, Any

import typer

from spot.cli.options import Data, Json, TaskName, example
from spot.cli.output import emit, progress, scores
from spot.config import TuneConfig, load_config
from spot.runs import RunDir
from spot.storage import cache_dir
from spot.tasks import registry
from spot.tasks.base import roles

app = typer.Typer()


def _setting(key: str, metavar: str) -> Any:
    """An option for one key of the configuration, which is the home of its meaning and its default.

    Its value stays text here, so that the configuration reports all mistakes at once.
    """
    known = TuneConfig.model_fields[key]
    return typer.Option(metavar=metavar, help=f"{known.description}  [default: {known.default}]")


@app.command(
    epilog=example(
        "spot tune cr --data ../shared/data --steps 60 --length 20 --out runs/cr",
        "spot tune my_task.toml --config tune.toml --set learning_rate=0.01 --set train_rows=100",
    )
)
def tune(
    task: TaskName,
    backbone: Annotated[str | None, _setting("backbone", "NAME")] = None,
    steps: Annotated[str | None, _setting("steps", "N")] = None,
    length: Annotated[str | None, _setting("length", "P")] = None,
    init: Annotated[str | None, _setting("init", "KIND")] = None,
    seed: Annotated[str | None, _setting("seed", "S")] = None,
    config: Annotated[Path | None, typer.Option(metavar="FILE", help="TOML file with any of the settings.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any setting; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="The run's folder; without it one in the user's cache.")
    ] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Tune a prompt for one task on a frozen model.

    The rows are split into those that train, those that choose the best checkpoint and those kept for a report. A run
    that was interrupted goes on when the same command is given again, and one that is finished is only read.
    """
    given = {"task": task, "backbone": backbone, "steps": steps, "length": length, "init": init, "seed": seed}
    options = [f"{key}={value}" for key, value in given.items() if value is not None]
    resolved = load_config(TuneConfig, config, [*(settings or []), *options])
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
        **{key: result[key] for key in ("scores", "step", "steps", "tokens", "seconds", "diagnosis")},
    }  # fmt: skip
    emit(
        value,
        as_json,
        f"{found.name}: {scores(value['scores'])} on {len(rows.select)} selection rows, at step {value['step']} of "
        f"{value['steps']}",
        f"{value['tokens']:,} text tokens in {value['seconds']:.1f} s",
        f"prompt: {value['prompt']}",
        *(f"look here: {line}" for line in value["diagnosis"]),
    )
