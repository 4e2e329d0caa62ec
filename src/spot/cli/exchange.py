"""`spot export` and `spot import`: prompts of other programs."""

from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from spot.cli.options import Json, example, read_prompt
from spot.cli.output import emit
from spot.errors import PromptError

if TYPE_CHECKING:
    from spot.prompts.prompt import SoftPrompt

app = typer.Typer()


class Format(StrEnum):
    """What other programs read."""

    peft = "peft"
    numpy = "numpy"
    checkpoint = "checkpoint"
    vllm = "vllm"


@app.command(epilog=example("spot export runs/reviews --to peft --out reviews_peft"))
def export(
    prompts: Annotated[
        list[str],
        typer.Argument(
            metavar="PROMPT...",
            help="A prompt file, the folder of a run, packaged:TASK or packaged:DIGEST; several into one checkpoint.",
        ),
    ],
    to: Annotated[
        Format,
        typer.Option(
            help="A folder for PEFT, one float32 array [P, D] for numpy, a copy of the model whose vocabulary holds "
            "the prompts, or a folder with what a request to vLLM needs."
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="A new or empty folder; for numpy also a file NAME.npy.")],
    backbone: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Where the frozen model is.  [default: where it was seen here, else its name]"
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Write a prompt for another program, bit for bit, or bake prompts into a copy of their model.

    The copy reads `<|spot:TASK|>` in front of a text as the prompt of that task: any server that loads it answers so.
    """
    read = [read_prompt(name) for name in prompts]
    if len(read) > 1 and to is not Format.checkpoint:
        raise PromptError(
            f"{len(read)} prompts are given, and --to {to.value} takes one; expected one prompt. Export each into a "
            "folder of its own, or all --to checkpoint."
        )
    if to is Format.checkpoint:
        _bake(read, out, backbone, as_json)
        return
    soft_prompt = read[0]

    from spot.models.checkpoints import home_of

    if to is Format.vllm:
        from spot import exporting

        path = exporting.export_vllm(soft_prompt, out, backbone=backbone)
    elif to is Format.peft:
        from spot import interchange

        path = interchange.export_peft(soft_prompt, out, base=home_of(soft_prompt.backbone, backbone))
    else:
        from spot import interchange

        path = interchange.export_npy(soft_prompt, out if out.suffix == ".npy" else out / "prompt.npy")
    emit({"prompt": soft_prompt.digest, "format": to, "path": str(path)}, as_json, f"wrote {path}")


def _bake(prompts: "Sequence[SoftPrompt]", out: Path, backbone: str | None, as_json: bool) -> None:
    """Bake prompts into a checkpoint, and say how each is written."""
    from dataclasses import asdict

    from spot import exporting

    path, baked = exporting.export_checkpoint(prompts, out, backbone=backbone)
    value = {"format": "checkpoint", "path": str(path), "prompts": [asdict(entry) for entry in baked]}
    lines = [f"{entry.token}  {entry.task}, {entry.ids[1]} ids from {entry.ids[0]} on" for entry in baked]
    emit(value, as_json, f"wrote {path}; README.md there says how to ask", *lines)


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
