"""`spot export` and `spot import`: prompts of other programs."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from spot.cli.options import Json, PromptName, example, read_prompt
from spot.cli.output import emit

app = typer.Typer()


class Format(StrEnum):
    """What other programs read."""

    peft = "peft"
    numpy = "numpy"


@app.command(epilog=example("spot export runs/reviews --to peft --out reviews_peft"))
def export(
    prompt: PromptName,
    to: Annotated[Format, typer.Option(help="A folder for PEFT, or one float32 array [P, D] for numpy.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder; for numpy also a file NAME.npy.")],
    as_json: Json = False,
) -> None:
    """Write a prompt for another program, bit for bit."""
    found = read_prompt(prompt)

    from spot import interchange

    if to is Format.peft:
        path = interchange.export_peft(found, out)
    else:
        path = interchange.export_npy(found, out if out.suffix == ".npy" else out / "prompt.npy")
    emit({"prompt": found.digest, "format": to, "path": str(path)}, as_json, f"wrote {path}")


@app.command(
    "import", epilog=example("spot import reviews_peft --backbone embedded --task reviews --out reviews.safetensors")
)
def import_prompt(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder that PEFT saved, or a numpy file [P, D].")],
    backbone: Annotated[str, typer.Option(metavar="NAME", help="The frozen model that the prompt was trained on.")],
    task: Annotated[str, typer.Option(metavar="NAME", help="The task that it was trained on.")],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The prompt file to write.")],
    task_index: Annotated[
        int | None, typer.Option(metavar="I", help="Which task of PEFT's multitask prompt tuning, from 0.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Bring in a prompt that another program trained; it has no key, so a library cannot compare it."""
    from spot import interchange
    from spot.models.checkpoints import locate
    from spot.prompts.prompt import save

    owner = locate(backbone).id
    if path.is_dir():
        found = interchange.import_peft(path, owner, task, task_index)
    else:
        found = interchange.import_npy(path, owner, task)
    save(found, out)
    value = {"prompt": found.digest, "task": found.task, "path": str(out), "length": found.length}
    emit(value, as_json, f"wrote {out}: {found.length} tokens for {owner.name}")
