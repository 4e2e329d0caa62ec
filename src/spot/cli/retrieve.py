"""`spot retrieve`: which known tasks resemble a new one."""

from typing import Annotated

import typer

from spot.cli.options import (
    PACKAGED,
    BackboneName,
    Data,
    Json,
    LibraryName,
    Quantise,
    SelectRows,
    TaskName,
    TrainRows,
    example,
    load_backbone,
    open_sources,
    setting,
)
from spot.cli.output import emit, progress, table
from spot.cli.transfer import OldRankBy
from spot.config import SELECT_ROWS, TransferConfig

app = typer.Typer()
SHOWN = 5


@app.command(epilog=example("spot retrieve reviews.toml --library packaged --rank-by mean -k 5"))
def retrieve(
    task: TaskName,
    library: LibraryName = PACKAGED,
    rank_by: Annotated[str, setting(TransferConfig, "rank_by", "mean|token|max|learned|record")] = "mean",
    metric: OldRankBy = None,
    k: Annotated[
        int | None,
        typer.Option("-k", help=f"How many sources to show; left out: {SHOWN}, or all where there are fewer."),
    ] = None,
    data: Data = None,
    train_rows: TrainRows = None,
    select_rows: SelectRows = SELECT_ROWS,
    backbone: BackboneName = None,
    quantise: Quantise = None,
    as_json: Json = False,
) -> None:
    """Rank the prompts of a library by how much their tasks resemble a new task.

    The new task is tuned up to the library's key step, and no further, to compare it with the keys of the library.
    `learned` and `record` rank by what past transfers lead to expect, once there are enough: `learned` by similarity
    and past gains, in standard deviations of result, `record` by past gains alone, in points.
    """
    from spot.retrieval import ranking, search
    from spot.tasks import registry
    from spot.tasks.splits import split_rows

    ranking.check_rank_by(rank_by)
    opened = open_sources(library)
    new_task = registry.get(task, data)
    count = sum(entry.task != new_task.name for entry in opened.entries())
    k = max(1, min(SHOWN, count)) if k is None else k
    search.check_k(k, count, str(opened.path))
    rows = split_rows(new_task, train_rows, select_rows, None, 0)

    from spot.strategies.target import embed_target

    model_id, recipe = opened.backbone, opened.key_recipe
    assert model_id is not None and recipe is not None, "`open_sources` refuses such a library"
    model = load_backbone(backbone or model_id, quantise)
    with progress(f"tuning {new_task.name} up to step {recipe.step}") as step:
        target = embed_target(new_task, rows, model, recipe, progress=step)
    ranked = ranking.retrieve(target, opened, k=k, rank_by=rank_by, without={new_task.name})
    columns = ("rank", "task", "similarity", *(["expected"] if ranked.expected else []), "prompt")
    expected = [[f"{score:+.2f}"] for score in ranked.expected] or [[] for _ in ranked.sources]
    shown = [
        (number, source.task, f"{source.similarity:.3f}", *score, source.prompt)
        for number, (source, score) in enumerate(zip(ranked.sources, expected, strict=True), start=1)
    ]
    emit(
        {"target": new_task.name, "rank_by": ranked.rank_by, "sources": ranked.to_json()},
        as_json,
        f"prompts of {opened.path} by {'past transfers' if ranked.expected else 'similarity'} "
        f"({ranked.rank_by}) to {new_task.name}",
        table(columns, shown),
    )
