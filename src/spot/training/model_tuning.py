"""Tune all weights of a copy of the model from start to folder (paper, appendix C): what prompts are compared with."""

import contextlib
import logging
import os
import secrets
import shutil
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError

from spot.config import TuneConfig, to_toml
from spot.errors import RunError, SpotError, StorageError
from spot.evaluation.predictions import Progress
from spot.models.backbone import Backbone
from spot.storage.files import cannot_write
from spot.storage.run_dir import RunDir
from spot.training.loop import train
from spot.training.reporting import diagnosed_results, report_runs
from spot.training.result import RunResult, read_results, write_results
from spot.training.run import Run

log = logging.getLogger(__name__)

MODEL = "model"  # folder of a tuned model in a run's folder, in Hugging Face layout


@dataclass(frozen=True)
class TunedModel:
    """What a run of model tuning leaves behind.

    Attributes:
        result: of the run.
        path: folder of the tuned model, which `Backbone.load` takes.
    """

    result: RunResult
    path: Path


def tune_model_run(run: Run, backbone: Backbone, out: Path, progress: Progress | None = None) -> TunedModel:
    """Train all weights of a copy of the backbone; the backbone itself stays as it is.

    Args:
        run: prepared with method `model`.
        backbone: where the copy starts.
        out: the run's folder; the best checkpoint in `model/`, in Hugging Face layout, and `result.json`.
        progress: called after every step.

    Raises:
        RunError: the folder holds another run, or the loss is no number.
        SpotError: the report rows cannot be read; what was learned is kept, and the next call scores it.
    """
    path = out / MODEL
    with RunDir(out) as folder:
        _prepare(path)
        folder.create(to_toml(run.config), run.digest)
        results = read_results(folder, [run.digest])
        ended = _train(run, backbone, folder, path, progress) if results is None else results[0]
        try:
            [result] = report_runs([run], [ended], [run.start], backbone, model=path, progress=progress)
        except SpotError:
            if results is None:
                write_results(folder, [ended])
            raise
        if results is None or result != ended:
            write_results(folder, [result])
    return TunedModel(result, path)


def model_bytes(backbone: Backbone, config: TuneConfig) -> int:
    """Memory that model tuning takes beside the frozen model, without activations, in bytes.

    Weights, gradients, the best checkpoint, and one (adafactor) or two (adamw) moments, each of the weights' size in
    float32; and twice what a checkpoint holds (all but the gradients) while it is written.
    """
    moments = 2 if config.optimiser == "adamw" else 1
    return 4 * backbone.parameters * (3 + moments + 2 * (2 + moments))


def _train(run: Run, backbone: Backbone, folder: RunDir, path: Path, progress: Progress | None) -> RunResult:
    """Train a copy of the backbone and write its best checkpoint; nothing of it stays in memory."""
    log.warning(
        "model tuning trains %s parameters and needs about %.1f GB of memory beside the frozen model",
        f"{backbone.parameters:,}",
        model_bytes(backbone, run.config) / 1e9,
    )
    copy = _trainable(backbone, run.config.gradient_checkpointing)
    [state] = train([run], copy, folder, progress)
    with torch.no_grad():
        for name, tensor in state.trained.items():
            tensor.copy_(state.best[name])
    _save_model(copy, path)
    return diagnosed_results([state])[0]


def _trainable(backbone: Backbone, gradient_checkpointing: bool) -> Backbone:
    """A copy of a backbone whose parameters train, in float32: small steps would round away in bfloat16."""
    copy = Backbone(
        deepcopy(backbone.model).float(), backbone.tokenizer, backbone.id, gradient_checkpointing=gradient_checkpointing
    )
    copy.model.requires_grad_(True)
    return copy


def _save_model(backbone: Backbone, folder: Path) -> None:
    """Write weights and tokenizer in Hugging Face layout; the folder is there whole or not at all.

    Raises:
        StorageError: it cannot be written.
    """
    part = folder.with_name(f".{folder.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        part.mkdir()
        backbone.model.save_pretrained(part)
        backbone.tokenizer.save_pretrained(part)
        shutil.rmtree(folder, ignore_errors=True)
        part.rename(folder)
    except (OSError, SafetensorError) as error:
        raise StorageError(cannot_write(folder, 4 * backbone.parameters, OSError(str(error)))) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _prepare(folder: Path) -> None:
    """Refuse a folder that no model can be written to, and delete what killed runs left of it.

    No other process is at work, which the run's lock says.

    Raises:
        RunError: the folder is a link, and what is behind it is not the run's; or its path is no text.
    """
    if folder.is_symlink():
        raise RunError(f"{folder} is a link: expected the folder of the tuned model, or nothing. Delete the link.")
    try:
        os.fsencode(folder.absolute()).decode()
    except UnicodeError as error:
        raise RunError(
            f"the path {str(folder)!r} has bytes that are no UTF-8, and the writer of weights takes letters alone. "
            "Choose a folder of another name."
        ) from error
    for leftover in folder.parent.glob(f".{folder.name}.*"):
        with contextlib.suppress(OSError):
            if leftover.is_symlink():
                leftover.unlink()
            else:
                shutil.rmtree(leftover)
