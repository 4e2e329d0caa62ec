"""Adapt the weights by LoRA (Hu et al. 2021) through PEFT, in the one training loop and the steps of prompts."""

import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from spot.baselines.arms import Fitted, Learned, Terms, Unsuitable, check_answers
from spot.collator import collator_for
from spot.config import TuneConfig, digest, to_toml
from spot.errors import BackboneError, MissingExtra, RunError, StorageError, did_you_mean
from spot.evaluation.predictions import Prediction, predict_rows
from spot.models.backbone import Backbone
from spot.storage.files import write_whole
from spot.storage.opening import read_bounded
from spot.storage.run_dir import RunDir
from spot.tasks.splits import Splits
from spot.tasks.task import Example
from spot.training.loop import Diverged, train
from spot.training.reporting import diagnosed_results
from spot.training.result import RunResult, read_results, write_results
from spot.training.run import Member, Run, prepare_run

INSTALL = "pip install 'spot-transfer[baselines]'"
ADAPTER = "adapter.safetensors"  # in a run's folder: the matrices of its best step
# Names that models give to what projects queries and values, where PEFT knows no family of theirs.
PROJECTIONS = (("q_proj", "v_proj"), ("query", "value"), ("q", "v"), ("query_key_value",), ("qkv_proj",), ("c_attn",))
ALPHA = 2  # times the rank: the scale of what the matrices add, PEFT's usual one
SHOWN = 20  # names in a message


@dataclass(frozen=True)
class _Trial:
    """The run of one step size."""

    learning_rate: float
    result: RunResult
    path: Path

    @property
    def rank(self) -> tuple[float, float]:
        """The best selection score, and the nats of that evaluation with the sign turned."""
        return max((point.score, -torch.inf if point.nats is None else -point.nats) for point in self.result.curve)


def check_lora(terms: Terms) -> None:
    """Refuse before anything is trained what the arm cannot run with.

    Raises:
        MissingExtra: PEFT is not installed.
        BackboneError: the model has no modules of these names; those that it has are listed.
    """
    if find_spec("peft") is None:
        raise MissingExtra(f"the arm lora needs peft: {INSTALL}")
    target_modules(terms.backbone, terms.lora_modules)


def fit_lora(terms: Terms) -> Fitted:
    """Train one adapter at each step size; the selection rows choose the step and the step size.

    Raises:
        Unsuitable: the rows have no answers, or training diverged at each step size.
        MissingExtra, BackboneError: as `check_lora`.
        RunError: what was kept is damaged.
    """
    check_answers("lora", terms.task)
    check_lora(terms)
    began = time.perf_counter()
    trials = [_tried(terms, rate) for rate in terms.lora_rates]
    alive = [trial for trial in trials if not trial.result.diverged]
    if not alive:
        raise Unsuitable(f"lora: {trials[0].result.diverged}")
    best = max(alive, key=lambda trial: trial.rank)
    tensors = _adapter(best.path)
    trained = sum(trial.result.seconds for trial in trials)
    learned = Learned(
        name="lora",
        setting={"learning_rate": best.learning_rate, "rank": terms.lora_rank, "step": best.result.step},
        selection=best.result.best_score,
        seconds=max(trained, time.perf_counter() - began),
        parameters=sum(tensor.numel() for tensor in tensors.values()),
        shipped=best.path.stat().st_size,
        beside=f"the model {terms.backbone.id.name}, which a copy of must be adapted",
        steps=terms.config.steps,
        tokens=sum(trial.result.tokens for trial in trials),
    )
    return Fitted(learned, lambda rows: _answer(terms, tensors, rows))


def target_modules(backbone: Backbone, named: Sequence[str]) -> tuple[str, ...]:
    """The last words of the names of the modules that are adapted.

    Args:
        backbone: the model.
        named: as the user has them; none for the projections of queries and values.

    Raises:
        BackboneError: no linear module has such a name.
    """
    there = sorted({name.rpartition(".")[2] for name, part in backbone.model.named_modules() if _is_linear(part)})
    listed = ", ".join(there[:SHOWN]) + (f" and {len(there) - SHOWN} more" if len(there) > SHOWN else "")
    if named:
        for name in named:
            if name not in there:
                raise BackboneError(
                    f"lora_modules names {name!r}, and {backbone.id.name} has no linear module of that name; "
                    f"{did_you_mean(name, there)} (there are: {listed})"
                )
        return tuple(named)
    from peft.utils.constants import TRANSFORMERS_MODELS_TO_LORA_TARGET_MODULES_MAPPING as KNOWN

    known = KNOWN.get(backbone.model.config.model_type, ())
    for names in (tuple(known), *PROJECTIONS):
        if names and all(name in there for name in names):
            return names
    raise BackboneError(
        f"the arm lora finds no projections of queries and values in {backbone.id.name}; its linear modules are: "
        f"{listed or 'none'}. Name those to adapt (lora_modules)."
    )


def adapted(backbone: Backbone, rank: int, modules: Sequence[str], seed: int) -> tuple[Backbone, Mapping[str, Tensor]]:
    """A copy of a backbone in float32 with matrices of LoRA in it, which add nothing so far.

    Args:
        backbone: stays as it is.
        rank: of the matrices.
        modules: last words of the names of what they stand in.
        seed: of their first values.

    Returns:
        The copy, in which nothing but the matrices trains, and these by name.
    """
    from peft import LoraConfig, inject_adapter_in_model

    copy = Backbone(deepcopy(backbone.model).float(), backbone.tokenizer, backbone.id)
    parts = (part for name, part in copy.model.named_modules() if name.rpartition(".")[2] in modules)
    config = LoraConfig(
        r=rank,
        lora_alpha=ALPHA * rank,
        lora_dropout=0.0,
        target_modules=list(modules),
        fan_in_fan_out=any(_is_linear(part) and not isinstance(part, torch.nn.Linear) for part in parts),
        bias="none",
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        inject_adapter_in_model(config, copy.model)
    copy.model.eval()
    trained = {name: tensor for name, tensor in copy.model.named_parameters() if tensor.requires_grad}
    return copy, trained


def _is_linear(module: Any) -> bool:
    """Whether PEFT can put matrices into a module: a linear one, or GPT-2's own kind of it."""
    return isinstance(module, torch.nn.Linear) or type(module).__name__ == "Conv1D"


def _tried(terms: Terms, learning_rate: float) -> _Trial:
    """Train at one step size, or read what that came to before."""
    modules = target_modules(terms.backbone, terms.lora_modules)
    run = _run(terms, learning_rate)
    name = digest(run.settings, run.digest, "lora", str(terms.lora_rank), *modules)
    path = terms.out / f"lora-{name[:8]}"
    with RunDir(path) as folder:
        folder.create(to_toml(run.config), name)
        results = read_results(folder, [run.digest])
        if results is None:
            copy, _ = adapted(terms.backbone, terms.lora_rank, modules, run.config.seed)
            try:
                [state] = train([run], copy, folder, terms.progress)
            except Diverged as error:
                return _Trial(learning_rate, error.results[0], path / ADAPTER)
            write_whole(path / ADAPTER, save_tensors({name: part.cpu() for name, part in state.best.items()}), path)
            results = tuple(diagnosed_results([state]))
            write_results(folder, results)
    return _Trial(learning_rate, results[0], path / ADAPTER)


def _run(terms: Terms, learning_rate: float) -> Run:
    """The run as the loop takes it: of the kind that trains a model's own tensors, of which only LoRA's do."""
    changes: dict[str, Any] = {"method": "model", "learning_rate": learning_rate, "weight_decay": 0.0, "key_step": None}
    plain = {name: TuneConfig.model_fields[name].default for name in ("init", "optimiser", "reparameterise")}
    config = terms.config.model_copy(update={**plain, **changes})
    return prepare_run(config, (Member(terms.task, Splits(terms.train, terms.selection, ())),), terms.backbone)


def _adapter(path: Path) -> dict[str, Tensor]:
    """The matrices of a run.

    Raises:
        RunError: the file is gone or damaged.
    """
    try:
        content = read_bounded(path, 2**40, path.parent)
        if content is None:
            raise RunError(f"{path} is gone. Delete {path.parent} to train it again.")
        return load_tensors(content)
    except (StorageError, SafetensorError, ValueError) as error:
        raise RunError(f"{path} is damaged ({error}). Delete {path.parent} to train it again.") from error


def _answer(terms: Terms, tensors: dict[str, Tensor], rows: Sequence[Example]) -> list[Prediction]:
    """What the adapted model says to rows without a prompt.

    Raises:
        RunError: the matrices are of another model.
    """
    modules = target_modules(terms.backbone, terms.lora_modules)
    copy, trained = adapted(terms.backbone, terms.lora_rank, modules, 0)
    if {name: part.shape for name, part in trained.items()} != {name: part.shape for name, part in tensors.items()}:
        raise RunError("the matrices of the arm lora are of another model. Delete its folder to train them again.")
    with torch.no_grad():
        for name, part in trained.items():
            part.copy_(tensors[name])
    collator = collator_for(copy, terms.task, reading=terms.task.reading.with_limits(terms.config))
    nothing = torch.zeros(0, copy.id.width)
    return predict_rows(copy, nothing, collator, collator.encode(rows), terms.progress)
