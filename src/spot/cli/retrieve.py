"""`spot retrieve`: which known tasks resemble a new one."""

from typing import Annotated

import typer

from spot.cli.options import (
    PACKAGED,
    BackboneName,
    Data,
    Json,
    LibraryName,
    SelectRows,
    TaskName,
    TrainRows,
    example,
    open_sources,
    setting,
)
from spot.cli.output import emit, progress, table
from spot.config import TransferConfig

app = typer.Typer()


@app.command(epilog=example("spot retrieve reviews.toml --library packaged --metric mean -k 5"))
def retrieve(
    task: TaskName,
    library: LibraryName = PACKAGED,
    metric: Annotated[str, setting(TransferConfig, "metric", "mean|token|max|learned")] = "mean",
    k: Annotated[int, typer.Option("-k", help="How many sources to show.")] = 5,
    data: Data = None,
    train_rows: TrainRows = None,
    select_rows: SelectRows = 100,
    backbone: BackboneName = None,
    as_json: Json = False,
) -> None:
    """Rank the prompts of a library by how much their tasks resemble a new task.

    The new task is tuned up to the library's key step, and no further, to compare it with the keys of the library.
    `learned` ranks by what past transfers lead to expect, in standard deviations of result, once there are enough.
    """
    from spot.retrieval import ranking as experience
    from spot.retrieval import search
    from spot.tasks import registry
    from spot.tasks.splits import split_rows

    experience.check_metric(metric)
    opened = open_sources(library)
    found = registry.get(task, data)
    search.check_k(k, sum(entry.task != found.name for entry in opened.entries()), str(opened.path))
    rows = split_rows(found, train_rows, select_rows, None, 0)

    from spot.models.backbone import Backbone
    from spot.strategies.transfers import embed_target

    name = backbone or opened.backbone.name
    with progress(f"loading {name}"):
        model = Backbone.load(name)
    with progress(f"tuning {found.name} up to step {opened.key_recipe.step}") as step:
        target = embed_target(found, rows, model, opened.key_recipe, progress=step)
    ranking = experience.rank(target, opened, metric, k, {found.name})
    value = ranking.to_json()
    columns = ("rank", "task", "similarity", *(["expected"] if ranking.expected else []), "prompt")
    shown = [
        (
            number,
            one["task"],
            f"{one['similarity']:.3f}",
            *([f"{one['expected']:+.2f}"] if "expected" in one else []),
            one["prompt"],
        )
        for number, one in enumerate(value, start=1)
    ]
    emit(
        {"target": found.name, "metric": ranking.metric, "sources": value},
        as_json,
        f"prompts of {opened.path} by {'past transfers' if ranking.expected else 'similarity'} "
        f"({ranking.metric}) to {found.name}",
        table(columns, shown),
    )
