"""Prompts of other programs: PEFT folders and numpy files, in and out, bit for bit.

Nothing here unpickles: PEFT's old `.bin` files are read with torch's `weights_only`, numpy files without objects.
"""

import io
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import asdict, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load as load_tensors

from spot.errors import PromptError, StorageError, TaskError, did_you_mean
from spot.prompts.prompt import BackboneId, Parent, SoftPrompt, check_fits
from spot.reading import ENDS, Reading
from spot.storage.files import TEMPORARY_SUFFIX, write_whole
from spot.storage.opening import check_size, open_regular, read_bounded
from spot.storage.strict_json import read_object
from spot.storage.values import plain, read_value
from spot.tasks import registry

log = logging.getLogger(__name__)

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_WEIGHTS_FILE = "adapter_model.bin"
MOST_CONFIG_BYTES = 4_000_000
MOST_WEIGHTS_BYTES = 2_000_000_000  # of vectors: ten thousand tokens of the widest model are 800 MB
UNCUED = Reading(cue="")  # what a foreign prompt was trained with, as far as one can know: the text alone
_NUMPY = b"\x93NUMPY"  # how every numpy file begins
_EMBEDDINGS = "prompt_embeddings"
_COLUMNS, _ROWS = "prefix_task_cols", "prefix_task_rows"  # of multitask prompt tuning
_TASK_TYPES = {"causal": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}
_PROMPT_TYPES = ("PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING")
_REFUSED_TYPES = {
    "PREFIX_TUNING": "it sets the keys and values of every layer, which is no prompt of input vectors",
    "LORA": "it changes the weights of the model, and spot leaves them frozen",
    "PROMPT_TUNING_LORA": "it changes the embeddings of the text beside its prompt",
}
_UNSET = (  # PEFT writes these too, and asks the model where they are null
    "auto_mapping",
    "modules_to_save",
    "peft_version",
    "prompt_tuning_init_text",
    "revision",
    "tokenizer_kwargs",
    "tokenizer_name_or_path",
)
_HISTORY = (
    "task_revision",
    "step",
    "seed",
    "initialiser",
    "parents",
    "config",
    "scores",
    "frozen_scores",
    "data_digest",
    "code_version",
)


def export_peft(prompt: SoftPrompt, directory: Path | str, *, base: str = "") -> Path:
    """Write a prompt as a folder that PEFT loads with `PeftModel.from_pretrained(base_model, folder)`.

    The prompt's history goes along in the metadata of the weights, where PEFT does not look and `import_peft` does.
    Key, start and sketch stay behind.

    Args:
        prompt: what to write.
        directory: a folder that is new, empty or an earlier export.
        base: where PEFT's `AutoPeftModel` loads the frozen model from: a folder or a hub id; left out, the name that
            the prompt has for it, which of a folder is its last part.

    Returns:
        The folder.

    Raises:
        StorageError: the folder holds other things, or cannot be written.
    """
    directory = Path(directory)
    _check_free(directory)
    config = dict.fromkeys(_UNSET)
    config |= {
        "base_model_name_or_path": base or prompt.backbone.name,
        "inference_mode": True,
        # A prompt has neither heads nor layers, but PEFT asks the model for them, and not every configuration can tell.
        "num_attention_heads": 1,
        "num_layers": 1,
        "num_transformer_submodules": 1,  # left out, PEFT expects a second, unused prompt for T5's decoder
        "num_virtual_tokens": prompt.length,
        "peft_type": "PROMPT_TUNING",
        "prompt_tuning_init": "RANDOM",  # the only kind that needs no tokenizer
        "task_type": _TASK_TYPES[prompt.backbone.kind],
        "token_dim": prompt.width,
    }
    metadata = {"format": "pt", "spot": _history_text(prompt)}
    # The weights go first: they show that a folder is ours where an export was cut short.
    write_whole(directory / WEIGHTS_FILE, _weights(prompt.value, metadata))
    write_whole(directory / CONFIG_FILE, f"{json.dumps(config, indent=2, sort_keys=True)}\n".encode())
    return directory


def import_peft(
    directory: Path | str,
    backbone: BackboneId,
    task: str,
    task_index: int | None = None,
    *,
    reading: Reading | None = None,
) -> SoftPrompt:
    """Read the prompt of a folder that PEFT saved.

    Args:
        directory: the folder, or the one above it where PEFT saved an adapter by name.
        backbone: the frozen model that the prompt was trained on.
        task: name of the task that it was trained on.
        task_index: which task's prompt to take from multitask prompt tuning; needed where there are several.
        reading: how the rows became text that it was trained on; left out: as a folder that `export_peft` wrote says,
            else word for word, with nothing behind an input.

    Returns:
        The prompt, without key or start. Its history is known where `export_peft` wrote the folder.

    Raises:
        PromptError: the folder is missing or damaged, holds something else than a soft prompt, or does not fit the
            backbone.
    """
    folder = _adapter_folder(Path(directory))
    config = _read_config(folder / CONFIG_FILE)
    _check_type(config, backbone, str(folder))
    tensors, history = _read_weights(folder)
    value = _prompt_rows(config, tensors, task_index, str(folder))
    imported = {name: config.get(name) for name in ("peft_type", "base_model_name_or_path")}
    prompt = _prompt(value, backbone, task, str(folder), "imported from PEFT", imported, reading)
    if history is not None:
        return _with_history(prompt, history, folder / WEIGHTS_FILE, reading)
    trained_on = str(config.get("base_model_name_or_path") or backbone.name)
    if Path(trained_on).name != Path(backbone.name).name:  # one of them may be a local folder
        log.warning("%s was trained on %s and is imported for %s", folder, trained_on, backbone.name)
    return prompt


def foreign_reading(
    task: str,
    *,
    template: str = "",
    cue: str | None = None,
    separator: str | None = None,
    labels: tuple[str, ...] = (),
    end: str = "",
    base: Reading | None = None,
) -> tuple[str, Reading]:
    """How the rows became text that a foreign prompt was trained on; no cue unless one is asked for.

    Args:
        task: a known task or a task file, which give fields and labels, or any other name.
        template: as in `Reading`, instead of the task's.
        cue: likewise.
        separator: likewise.
        labels: the label words, instead of the task's.
        end: as in `Reading`, instead of the task's; empty for the task's.
        base: what the prompt's own file says, which goes before the task.

    Returns:
        The task's name, and the reading.

    Raises:
        TaskError: the task file or a setting cannot be used.
    """
    if end and end not in ENDS:
        raise TaskError(f"end is {end!r}; {did_you_mean(end, ENDS)}")
    name, reading = task, Reading()
    if task in registry.names() or task.endswith(".toml"):
        named = registry.get(task)
        name, reading = named.name, named.reading
    if base is not None:
        reading = base
    changes: dict[str, Any] = {"cue": cue if cue is not None else reading.cue or ""}
    changes |= {"end": end} if end else {}
    changes |= {"separator": separator} if separator is not None else {}
    changes |= {"template": template, "form": ""} if template else {}
    changes |= {"labels": tuple((word, word) for word in labels)} if labels else {}
    reading = replace(reading, **changes)
    reading.check_answers()
    return name, reading


def export_npy(prompt: SoftPrompt, path: Path | str) -> Path:
    """Write the value of a prompt as a float32 [P, D] numpy file.

    Args:
        prompt: what to write.
        path: the file; an older numpy file is replaced.

    Returns:
        The path.

    Raises:
        StorageError: the path is another kind of file, or cannot be written.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            foreign = file.read(len(_NUMPY)) != _NUMPY
    except FileNotFoundError:
        foreign = False
    except (OSError, ValueError):
        foreign = True
    if foreign:
        raise StorageError(f"{path} is there and is no numpy file; it stays as it is. Name another file.")
    buffer = io.BytesIO()
    np.save(buffer, prompt.value, allow_pickle=False)
    write_whole(path, buffer.getvalue())
    return path


def import_npy(path: Path | str, backbone: BackboneId, task: str, *, reading: Reading | None = None) -> SoftPrompt:
    """Read a prompt from a numpy file, such as those that Google's prompt tuning released.

    Args:
        path: the file; `.npy` is added where only that exists.
        backbone: the frozen model that the prompt was trained on.
        task: name of the task that it was trained on.
        reading: as for `import_peft`.

    Returns:
        The prompt, without key, start or history. Numbers of other precision become float32.

    Raises:
        PromptError: the file is missing, damaged, pickled or no [P, D] array of finite floats, or does not fit the
            backbone.
    """
    path = Path(path)
    if not os.path.exists(path) and (longer := path.with_name(f"{path.name}.npy")).is_file():
        path = longer
    try:
        with open_regular(path) as file:
            check_size(path, file, MOST_WEIGHTS_BYTES)
            if file.read(len(_NUMPY)) != _NUMPY:
                raise ValueError("it does not begin as one")
        # A map is checked against the file's size, so that a damaged header cannot ask for all memory.
        value = np.array(np.load(path, mmap_mode="r", allow_pickle=False))
    except StorageError as error:
        raise PromptError(str(error)) from error
    except OSError as error:
        raise PromptError(f"cannot read the numpy file {path}: {error.strerror or error}. Check the path.") from error
    except Exception as error:  # numpy's reader of headers fails with whatever it stumbles over
        raise PromptError(
            f"{path}: this is no numpy file of one plain array ({error}); expected float32 [P, D], as `numpy.save` "
            "writes it. Save the prompt so, without pickle."
        ) from error
    if value.dtype.kind != "f":
        raise PromptError(f"{path}: the array is of {value.dtype}; expected floating-point numbers.")
    return _prompt(value, backbone, task, str(path), "imported from numpy", {"dtype": str(value.dtype)}, reading)


def _check_type(config: Mapping[str, Any], backbone: BackboneId, origin: str) -> None:
    """Refuse adapters that are no soft prompt, need a classifier, or are for the other kind of model."""
    kind, task_type = str(config.get("peft_type")), config.get("task_type")
    if kind not in _PROMPT_TYPES:
        reason = f" ({_REFUSED_TYPES[kind]})" if kind in _REFUSED_TYPES else ""
        raise PromptError(
            f"{origin}: the adapter is of PEFT type {kind}{reason}; spot imports {', '.join(_PROMPT_TYPES)}. "
            "Tune a prompt for the task instead."
        )
    if task_type in ("SEQ_CLS", "TOKEN_CLS", "QUESTION_ANS"):
        raise PromptError(
            f"{origin}: the adapter is of task type {task_type}: its prompt works only together with a trained "
            "classifier head, and spot's models answer in words. Tune a prompt for the task instead."
        )
    if task_type in _TASK_TYPES.values() and task_type != _TASK_TYPES[backbone.kind]:
        raise PromptError(
            f"{origin}: the adapter is of task type {task_type}, for {config.get('base_model_name_or_path')!r}, but "
            f"the backbone {backbone.name} is {backbone.kind} ({_TASK_TYPES[backbone.kind]}). Choose the backbone that "
            "it was trained on."
        )


def _counts(config: Mapping[str, Any], origin: str) -> tuple[int, int]:
    """Prompt tokens P, and how many prompts of P rows the weights hold one after another."""
    most = 2 if config.get("task_type") == _TASK_TYPES["seq2seq"] else 1
    parts = config.get("num_transformer_submodules")
    return (
        _count("num_virtual_tokens", config.get("num_virtual_tokens"), None, origin),
        _count("num_transformer_submodules", most if parts is None else parts, most, origin),  # as PEFT takes it
    )


def _count(name: str, value: Any, most: int | None, origin: str) -> int:
    """A whole number from 1 to `most` out of an adapter's configuration."""
    if type(value) is not int or value < 1 or (most and value > most):
        expected = f"to {most}" if most else "up"
        raise PromptError(
            f"{origin}: {CONFIG_FILE} has {name} {value!r}; expected a whole number from 1 {expected}. Save the "
            "adapter again."
        )
    return value


def _adapter_folder(directory: Path) -> Path:
    """The folder itself, or the only one in it that holds an adapter."""
    if not directory.is_dir():
        state = "is a file" if directory.exists() else "does not exist"
        raise PromptError(f"{directory} {state}; expected a folder with {CONFIG_FILE}, as PEFT saves it.")
    if (directory / CONFIG_FILE).is_file():
        return directory
    inside = sorted(path.parent for path in directory.glob(f"*/{CONFIG_FILE}"))
    if len(inside) == 1:
        return inside[0]
    if inside:
        names = ", ".join(folder.name for folder in inside)
        raise PromptError(f"{directory} holds several adapters ({names}). Name the folder of one of them.")
    raise PromptError(f"{directory} holds no {CONFIG_FILE}; expected a folder as PEFT saves it.")


def _read_config(path: Path) -> dict[str, Any]:
    """The content of an `adapter_config.json`."""
    content = _content(path, MOST_CONFIG_BYTES)
    if content is None:
        raise PromptError(f"cannot read {path}: there is no such file. Check the folder.")
    try:
        return read_object(content, str(path), PromptError)
    except PromptError as error:
        raise PromptError(f"{error} Save the adapter again.") from error


def _content(path: Path, most_bytes: int) -> bytes | None:
    """The content of a file of an adapter's folder, or None where it has no such file.

    Raises:
        PromptError: it is too large, no regular file, a link, or cannot be read.
    """
    try:
        return read_bounded(path, most_bytes, path.parent)
    except StorageError as error:
        raise PromptError(str(error)) from error


def _read_weights(folder: Path) -> tuple[dict[str, torch.Tensor], str | None]:
    """The tensors of an adapter, and what `export_peft` wrote of its history."""
    path = folder / WEIGHTS_FILE
    try:
        content = _content(path, MOST_WEIGHTS_BYTES)
        if content is not None:
            return load_tensors(content), _metadata(content).get("spot")
        path = folder / PICKLED_WEIGHTS_FILE
        content = _content(path, MOST_WEIGHTS_BYTES)
        if content is not None:
            held = dict(torch.load(io.BytesIO(content), map_location="cpu", weights_only=True))
            return {str(name): tensor for name, tensor in held.items()}, None
    except PromptError:
        raise
    except Exception as error:  # torch's reader of pickles fails with whatever it stumbles over
        reason = str(error).strip().partition("\n")[0]
        raise PromptError(
            f"{path}: the weights are damaged, or hold more than plain tensors ({reason}). Save the adapter again "
            "with a current PEFT, which writes safetensors."
        ) from error
    raise PromptError(
        f"{folder} holds neither {WEIGHTS_FILE} nor {PICKLED_WEIGHTS_FILE}; expected one of them beside {CONFIG_FILE}."
    )


def _metadata(content: bytes) -> dict[str, str]:
    """The free-form metadata of a safetensors file, which the library has read."""
    head = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return head.get("__metadata__") or {}


def _prompt_rows(
    config: Mapping[str, Any], tensors: Mapping[str, Any], task_index: int | None, origin: str
) -> np.ndarray:
    """The vectors [P, D] that the model gets to see."""
    tokens, parts = _counts(config, origin)
    multitask = config["peft_type"] == "MULTITASK_PROMPT_TUNING"
    wanted = (_EMBEDDINGS, _COLUMNS, _ROWS) if multitask else (_EMBEDDINGS,)
    extra, missing = sorted(tensors.keys() - set(wanted)), sorted(set(wanted) - tensors.keys())
    if missing or extra:
        difference = f"lack {missing[0]}" if missing else f"also hold {', '.join(extra[:3])}"
        raise PromptError(
            f"{origin}: the weights {difference}; expected {', '.join(wanted)} and nothing else. "
            "A prompt that was trained together with other weights does not work without them."
        )
    arrays = {name: _array(tensors[name], name, origin) for name in wanted}
    value = arrays[_EMBEDDINGS]
    if value.ndim != 2 or len(value) != tokens * parts:
        raise PromptError(
            f"{origin}: {_EMBEDDINGS} is {list(value.shape)}; expected {tokens * parts} rows, "
            f"{parts} times the {tokens} tokens of {CONFIG_FILE}."
        )
    if multitask:
        value = value * _task_factors(arrays[_COLUMNS], arrays[_ROWS], value.shape, task_index, origin)
    return value[:tokens]  # T5's encoder, the only part that PEFT gives a prompt, gets the first


def _array(tensor: Any, name: str, origin: str) -> np.ndarray:
    """A tensor of any floating-point precision as a float array; bfloat16 is no numpy type."""
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        raise PromptError(f"{origin}: {name} is no tensor of floating-point numbers. Save the adapter again.")
    return tensor.detach().to(torch.float32).numpy()


def _task_factors(
    columns: np.ndarray, rows: np.ndarray, shape: tuple[int, ...], task_index: int | None, origin: str
) -> np.ndarray:
    """What multitask prompt tuning multiplies the shared prompt by for one task."""
    fitting = columns.ndim == rows.ndim == 3 and columns.shape[:1] + columns.shape[2:] == rows.shape[:2]
    if not fitting or (columns.shape[1], rows.shape[2]) != shape:
        raise PromptError(
            f"{origin}: {_COLUMNS} is {list(columns.shape)} and {_ROWS} {list(rows.shape)}; expected "
            f"[tasks, {shape[0]}, rank] and [tasks, rank, {shape[1]}]. Save the adapter again."
        )
    tasks = len(columns)
    index = 0 if task_index is None and tasks == 1 else task_index
    if index is None or not 0 <= index < tasks:
        raise PromptError(
            f"{origin}: the adapter holds the prompts of {tasks} tasks; name one by its index from 0 to {tasks - 1}"
            + ("." if index is None else f", found {index}.")
        )
    return columns[index] @ rows[index]


def _prompt(
    value: np.ndarray,
    backbone: BackboneId,
    task: str,
    origin: str,
    initialiser: str,
    imported: Mapping[str, Any],
    reading: Reading | None,
) -> SoftPrompt:
    """An imported prompt; errors name where it comes from."""
    try:
        return SoftPrompt(
            value=value,
            backbone=backbone,
            task=task,
            step=0,
            initialiser=initialiser,
            config={"imported": imported},
            reading=reading or UNCUED,
        )
    except PromptError as error:
        raise PromptError(f"{origin}: {error}") from error


def _history_text(prompt: SoftPrompt) -> str:
    """What an exported prompt says of itself."""
    content = {name: getattr(prompt, name) for name in ("digest", "task", *_HISTORY)}
    content["parents"] = [asdict(parent) for parent in prompt.parents]
    content |= {"backbone": prompt.backbone.to_json(), "value_sha256": _hash(prompt.value)}
    content["reading"] = plain(prompt.reading)
    return json.dumps(content, sort_keys=True)


def _with_history(prompt: SoftPrompt, text: str, path: Path, asked: Reading | None) -> SoftPrompt:
    """An imported prompt with the history that `export_peft` wrote beside it."""
    try:
        content = json.loads(text)
        history = {name: content[name] for name in _HISTORY}
        history["parents"] = tuple(Parent(**parent) for parent in history["parents"])
        settings = content.get("reading")
        written = None if settings is None else read_value(Reading, json.dumps(settings), "reading", PromptError)
        backbone, value_hash = BackboneId(**content["backbone"]), content["value_sha256"]
    except (KeyError, TypeError, ValueError, RecursionError, PromptError, TaskError) as error:
        raise PromptError(
            f"{path}: what spot wrote into the metadata is damaged ({error}). Export the prompt again."
        ) from error
    try:
        check_fits(replace(prompt, backbone=backbone), prompt.backbone)
    except PromptError as error:
        raise PromptError(f"{path}: {error}") from error
    if value_hash != _hash(prompt.value):
        log.warning("%s: the vectors are no longer those that spot exported; their history is left out", path)
        return prompt
    return replace(prompt, **history, reading=asked or written)


def _weights(value: np.ndarray, metadata: Mapping[str, str]) -> bytes:
    """A safetensors file of one tensor; the library's own writer puts metadata into another order each time."""
    entry = {"dtype": "F32", "shape": list(value.shape), "data_offsets": [0, value.nbytes]}
    head = json.dumps({"__metadata__": dict(metadata), _EMBEDDINGS: entry}, separators=(",", ":")).encode("ascii")
    head += b" " * (-len(head) % 8)
    return len(head).to_bytes(8, "little") + head + value.astype("<f4", copy=False).tobytes()


def _hash(value: np.ndarray) -> str:
    """SHA-256 over the numbers of a prompt."""
    return sha256(value.tobytes()).hexdigest()


def _check_free(directory: Path) -> None:
    """Refuse to write into a folder with something else than an earlier export."""
    try:
        names = {path.name for path in directory.iterdir() if not path.name.endswith(TEMPORARY_SUFFIX)}
    except FileNotFoundError:
        return
    except OSError as error:
        raise StorageError(f"cannot export to {directory}: {error.strerror or error}. Name a new folder.") from error
    try:
        ours = names <= {CONFIG_FILE, WEIGHTS_FILE} and _read_weights(directory)[1] is not None
    except PromptError:
        ours = False
    if names and not ours:
        listed = ", ".join(sorted(names)[:5])
        raise StorageError(
            f"{directory} holds other things than an earlier export ({listed}); they stay as they are. Name a new or "
            "empty folder."
        )
