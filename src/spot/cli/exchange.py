"""`spot export` and `spot import`: prompts of other programs."""

from dataclasses import replace
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
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Where PEFT finds the frozen model.  [default: where it was seen here, else its name]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a prompt for another program, bit for bit."""
    soft_prompt = read_prompt(prompt)

    from spot import interchange

    if to is Format.peft:
        from spot.models.checkpoints import home_of

        path = interchange.export_peft(soft_prompt, out, base=home_of(soft_prompt.backbone, backbone))
    else:
        path = interchange.export_npy(soft_prompt, out if out.suffix == ".npy" else out / "prompt.npy")
    emit({"prompt": soft_prompt.digest, "format": to, "path": str(path)}, as_json, f"wrote {path}")


@app.command(
    "import", epilog=example("spot import reviews_peft --backbone embedded --task reviews --out reviews.safetensors")
)
def import_prompt(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder that PEFT saved, or a numpy file [P, D].")],
    backbone: Annotated[str, typer.Option(metavar="NAME", help="The frozen model that the prompt was trained on.")],
    task: Annotated[
        str, typer.Option(metavar="NAME", help="What it was trained on: a known task, a task file, or any name.")
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The prompt file to write.")],
    task_index: Annotated[
        int | None, typer.Option(metavar="I", help="Which task of PEFT's multitask prompt tuning, from 0.")
    ] = None,
    template: Annotated[
        str, typer.Option(metavar="TEXT", help="How a row becomes text: 'Tweet: {text} Label:'.  [default: the task's]")
    ] = "",
    cue: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What follows each input.  [default: nothing, or the task file's]"),
    ] = None,
    separator: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What stands between input and answer.  [default: a blank]")
    ] = None,
    label: Annotated[
        list[str] | None, typer.Option(metavar="WORD", help="A label word; given once a label.  [default: the task's]")
    ] = None,
    end: Annotated[
        str, typer.Option(metavar="auto|always|never", help="Whether an end token follows an answer.  [default: auto]")
    ] = "",
    as_json: Json = False,
) -> None:
    """Bring in a prompt that another program trained; it has no key, so a library cannot compare it.

    A prompt only works with the words that it was trained with, and a foreign file does not say them: give them here.
    """
    from spot import interchange
    from spot.models.checkpoints import locate
    from spot.prompts.prompt import reading_of

    owner = locate(backbone).id
    words = {"template": template, "cue": cue, "separator": separator, "labels": tuple(label or ()), "end": end}
    name, reading = interchange.foreign_reading(task, **words)
    if path.is_dir():
        prompt = interchange.import_peft(path, owner, name, task_index)
        is_told = bool(template or label or end or cue is not None or separator is not None)
        if prompt.reading == interchange.UNCUED:  # the folder does not say it, the task may
            prompt = replace(prompt, reading=reading)
        elif is_told:
            prompt = replace(prompt, reading=interchange.foreign_reading(task, **words, base=reading_of(prompt))[1])
    else:
        prompt = interchange.import_npy(path, owner, name, reading=reading)
    prompt.save(out)
    value = {"prompt": prompt.digest, "task": prompt.task, "path": str(out), "length": prompt.length}
    emit(value, as_json, f"wrote {out}: {prompt.length} tokens for {owner.name}")
