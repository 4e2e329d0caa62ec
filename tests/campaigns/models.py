"""Change the files of model folders at random and load them: `python -m tests.campaigns.models --trials 2000 --seed 1`.

A changed folder is either refused by one of our own errors, within twenty seconds, or loaded; then two loads give one
model, every number of its parameters stands in its files, and it reads a text.
"""

import argparse
import contextlib
import copy
import json
import logging
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from spot.errors import SpotError
from spot.models.backbone import Backbone
from spot.models.batch import IGNORED, Batch
from tests.support.families import FAMILIES as ALL_FAMILIES
from tests.support.tiny_models import FAMILIES, SEQ2SEQ, byte_tokenizer, tiny_config

LONGEST = 20  # seconds that loading may take
MOST_MEMORY = 8 * 2**30  # bytes of address space beyond what the process has when it begins
MORE = ("bart", "lfm2", "mixtral", "gemma3", "mamba2")  # of the large table
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, 2, 3, 7, 33, -1, -8, 10**6, 2**31, 2**40, 10**30, 0.0, 0.5, 1.5, -1.0, 1e300, 1e-300),
    *(float("nan"), float("inf"), "", "x", "zz", "llama", "t5", "auto", "float64", "sdpa", "a/b", "../x", "\ud800"),
    *([], [1], ["x"], [None], [[]], {}, {"a": 1}, {"": {}}, [0] * 100, {"type": "x"}, "[" * 50, "é" * 1000),
)
ADDED: dict[str, Any] = {
    "architectures": ["T5EncoderModel", "LlamaModel", "LlamaForSequenceClassification", "BertModel", "Nothing", 3],
    "auto_map": [{"AutoConfig": "own.Own"}, {"AutoModelForCausalLM": "own.Own"}, "x", [], {"AutoConfig": None}],
    "attn_implementation": ["flash_attention_2", "kernels-community/x", "eager", "flex_attention", {"": "a/b"}],
    "dtype": ["float16", "bfloat16", "float8_e4m3fn", "int8", "zz", None, 5, {"text_config": "x"}],
    "is_decoder": [True, False],
    "is_encoder_decoder": [True, False],
    "layer_types": [["sliding_attention", "full_attention"], ["x", "y"], ["linear_attention"] * 2, ["full_attention"]],
    "model_type": ["llama", "gpt2", "t5", "bert", "vit", "mistral", "own", "gemma3", "whisper", "", None, 5, ["llama"]],
    "num_hidden_layers": [0, 1, 3, 1000, 4000, 10**6, 10**12],
    "quantization_config": [
        *({"quant_method": name} for name in ("bitsandbytes", "gptq", "awq", "fp8", "mxfp4", "hqq", "x", None)),
        *({"quant_method": "bitsandbytes", "load_in_4bit": True}, {}, "x", []),
    ],
    "rope_parameters": [None, {"rope_type": "x"}, {"rope_type": "yarn"}, {"rope_theta": "x"}, {"rope_theta": 0}],
    "rope_scaling": [{"type": "linear", "factor": 0}, {"rope_type": "dynamic"}, "x"],
    "text_config": [{}, {"model_type": "llama"}, None, "x", {"hidden_size": 3}],
    "tie_word_embeddings": [True, False],
    "tokenizer_class": ["LlamaTokenizer", "X", None, 5, "T5Tokenizer", "BertTokenizer", "PreTrainedTokenizerFast"],
    "transformers_weights": ["model.safetensors", "/etc/passwd", "../x.safetensors", 5],
    "use_cache": [False],
    "vocab_size": [0, 1, 299, 301, 10**9],
}


@cache
def bases() -> tuple[Path, ...]:
    """Folders of tiny models, each to be copied before it is changed."""
    root = Path(tempfile.mkdtemp(prefix="spot-models-"))
    folders = []
    for family in FAMILIES:
        auto = AutoModelForSeq2SeqLM if family in SEQ2SEQ else AutoModelForCausalLM
        torch.manual_seed(0)
        folders.append(root / family)
        auto.from_config(tiny_config(family)).save_pretrained(folders[-1])
        byte_tokenizer(family).save_pretrained(folders[-1])
    for family in (ALL_FAMILIES[name] for name in MORE):
        folders.append(root / family.name)
        folders[-1].mkdir()
        family.save(folders[-1])
    return tuple(folders)


def places(value: Any, where: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every part of a JSON value."""
    if where:
        yield where
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in list(pairs)[:60]:
        yield from places(part, (*where, key))


def change_value(chance: random.Random, value: Any) -> Any:
    """A JSON value with one part removed, replaced or added."""
    value = copy.deepcopy(value)
    if chance.random() < 0.45 and isinstance(value, dict):
        key = chance.choice(sorted(ADDED))
        value[key] = chance.choice(ADDED[key])
        return value
    ways = list(places(value))
    if not ways:
        return chance.choice(VALUES)
    *way, last = chance.choice(ways)
    inner = value
    for key in way:
        inner = inner[key]
    if chance.random() < 0.25:
        del inner[last]
    else:
        inner[last] = chance.choice(VALUES)
    return value


def change_json(chance: random.Random, file: Path) -> str:
    """Change what a JSON file says."""
    value = json.loads(file.read_bytes())
    for _ in range(chance.choice([1, 1, 1, 2, 4])):
        value = change_value(chance, value)
    file.write_text(json.dumps(value))
    return "values"


def change_bytes(chance: random.Random, file: Path) -> str:
    """Cut, flip or replace bytes."""
    data = bytearray(file.read_bytes())
    match chance.randrange(6):
        case 0:
            data = data[: chance.randrange(len(data) + 1)]
        case 1:
            for _ in range(chance.choice([1, 1, 3, 20])):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        case 2:
            data = bytearray(
                chance.choice([b"", b"null", b"[]", b"3", b"[" * 200_000, b"{" * 9, b"\xff\xfe\x00", b"\0"])
            )
        case 3:
            data += chance.choice([b"x", b"\0" * 50, b"}"])
        case 4:
            data = b'{"a":' * 100_000 + b"1" + b"}" * 100_000
        case _:
            data = b"\xef\xbb\xbf" + data
    file.write_bytes(data)
    return "bytes"


def change_kind(chance: random.Random, file: Path) -> str:
    """Put something else in the place of a file."""
    kind = chance.choice(["nothing", "folder", "fifo", "zeros", "dangling", "sparse", "link to itself", "unreadable"])
    data = file.read_bytes()
    file.unlink()
    match kind:
        case "folder":
            file.mkdir()
        case "fifo":
            os.mkfifo(file)
        case "zeros":
            file.symlink_to("/dev/zero")
        case "dangling":
            file.symlink_to("nowhere")
        case "sparse":
            with file.open("wb") as opened:
                opened.truncate(60 * 2**30)
        case "link to itself":
            file.symlink_to(file.name)
        case "unreadable":
            file.write_bytes(data)
            file.chmod(0)
    return kind


def change_header(chance: random.Random, file: Path) -> str:
    """Change the header of a safetensors file, its numbers stay."""
    data = file.read_bytes()
    length = int.from_bytes(data[:8], "little")
    header, rest = json.loads(data[8 : 8 + length]), data[8 + length :]
    name = chance.choice([key for key in header if key != "__metadata__"])
    match chance.randrange(8):
        case 0:
            del header[name]
        case 1:
            header[f"{name}.x"] = header.pop(name)
        case 2:
            header[name]["shape"] = header[name]["shape"][::-1] + chance.choice([[], [1]])
        case 3:
            header[name]["dtype"] = chance.choice(["F16", "I32", "F8_E4M3", "BF16", "X", "BOOL", "F64"])
        case 4:
            header[name]["data_offsets"] = chance.choice([[0, 4], [-4, 0], [0, 2**62], [0, 0], "x"])
        case 5:
            header["__metadata__"] = chance.choice([{}, {"format": "tf"}, {"a": 1}, "x", {"format": "x"}])
        case 6:
            other = chance.choice(sorted(header.keys() - {"__metadata__", name}))
            header[name], header[other] = header[other], header[name]
        case _:
            header[name] = change_value(chance, header[name])
    text = json.dumps(header).encode()
    file.write_bytes(len(text).to_bytes(8, "little") + text + rest)
    return "header"


class Call:
    """A pickle that calls something."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (f"{tempfile.gettempdir()}/spot-models-ran",)


def change_format(chance: random.Random, file: Path) -> str:
    """Give the weights as torch saves them, or in shards, whole or not."""
    tensors: dict[Any, Any] = load_file(file)
    names = sorted(tensors)
    file.unlink()
    folder = file.parent
    if chance.random() < 0.4:
        index = {name: f"part{number % 2}.safetensors" for number, name in enumerate(names)}
        value: Any = {"metadata": {"total_size": 1}, "weight_map": index}
        from safetensors.torch import save_file

        for part in set(index.values()):
            save_file({name: tensors[name] for name in names if index[name] == part}, folder / part, {"format": "pt"})
        (folder / "model.safetensors.index.json").write_text(json.dumps(value))
        if chance.random() < 0.7:
            change = chance.choice([change_json, change_bytes, change_kind])
            return f"shards, index {change(chance, folder / 'model.safetensors.index.json')}"
        if chance.random() < 0.5:
            return f"shards, {chance.choice([change_kind, change_bytes])(chance, folder / 'part1.safetensors')}"
        return "shards"
    match chance.randrange(7):
        case 0:
            tensors[names[0]] = Call()
        case 1:
            tensors[names[0]] = chance.choice([3, None, "x", [tensors[names[0]]]])
        case 2:
            del tensors[chance.choice(names)]
        case 3:
            tensors = {"state_dict": tensors}
        case 4:
            tensors[3] = tensors.pop(names[0])
    old = chance.random() < 0.4
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=not old)
    if chance.random() < 0.5:
        return f"pickled, {chance.choice([change_bytes, change_kind])(chance, folder / 'pytorch_model.bin')}"
    return "pickled, old" if old else "pickled"


def changed(chance: random.Random, folder: Path) -> str:
    """Change one file of a folder.

    Returns:
        What was changed, and how.
    """
    weights = folder / "model.safetensors"
    if chance.random() < 0.3:
        change: Callable[[random.Random, Path], str] = chance.choice([change_header, change_bytes, change_format])
        return f"weights: {change(chance, weights)}"
    names = ["config.json"] * 4 + ["tokenizer.json", "tokenizer_config.json", "generation_config.json"]
    file = folder / chance.choice(names)
    if not file.exists():
        file = folder / "config.json"
    change = chance.choice([change_json] * 5 + [change_bytes, change_kind])
    return f"{file.name}: {change(chance, file)}"


class Hang(BaseException):
    """Loading took too long; no `except Exception` of a library catches it."""


def _hung(*_: object) -> None:
    raise Hang


def numbers_of(folder: Path) -> set[bytes]:
    """Every tensor in the weight files of a folder, as float32."""
    kept = set()
    for file in folder.glob("*.safetensors"):
        kept |= {value.float().numpy().tobytes() for value in load_file(file).values()}
    for file in folder.glob("*.bin"):
        tensors = torch.load(file, weights_only=True)
        kept |= {value.float().numpy().tobytes() for value in tensors.values()}
    return kept


def judged(folder: Path) -> str:
    """What is wrong with how a folder is loaded; nothing where it is refused or right."""
    try:
        backbone = Backbone.load(str(folder))
        again = Backbone.load(str(folder))
        first, second = dict(backbone.model.named_parameters()), dict(again.model.named_parameters())
        if any(not torch.equal(first[name], second[name]) for name in first):
            return "two loads give two models"
        if folder.name in FAMILIES:  # the names and shapes of others are converted on the way
            known = numbers_of(folder)
            strange = [name for name, value in first.items() if value.float().numpy().tobytes() not in known]
            if strange:
                return f"numbers of {strange} are not in the files"
        ids = torch.tensor([backbone.tokenizer("a text")["input_ids"][:4] or [5]])
        batch = Batch(ids, torch.ones_like(ids), torch.tensor([[7, IGNORED]]), torch.zeros(1, dtype=torch.long))
        backbone.loss(batch, torch.zeros(1, 2, backbone.id.width))
    except SpotError as error:
        return "" if len(str(error)) < 3000 and "\x1b" not in str(error) else f"a message of {len(str(error))} letters"
    return ""


def trial(seed: int) -> str:
    """Change one folder and load it.

    Returns:
        What is wrong, or nothing.
    """
    chance = random.Random(seed)
    base = chance.choice(bases())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(base, Path(scratch) / base.name))
        change = changed(chance, folder)
        began = time.monotonic()
        signal.alarm(LONGEST)
        try:
            problem = judged(folder)
        except Hang:
            problem = f"no end after {LONGEST} s: {traceback.format_exc(limit=-4)}"
        except Exception as error:
            problem = f"{type(error).__name__}: {str(error)[:200]}\n{traceback.format_exc(limit=-14)}"
        finally:
            signal.alarm(0)
        for file in folder.iterdir():
            with contextlib.suppress(OSError):
                file.chmod(0o755)
    ran = Path(tempfile.gettempdir(), "spot-models-ran")
    if ran.exists():
        ran.rmdir()
        problem = f"code of a weight file ran. {problem}"
    seconds = time.monotonic() - began
    return f"seed {seed}, {base.name}, {change}, {seconds:.1f} s: {problem}" if problem else ""


def run(trials: int, first: int = 0, tell: Callable[[str], None] | None = None) -> list[str]:
    """Try so many seeds.

    Returns:
        What is wrong, one entry a seed.
    """
    bases()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    limits = resource.getrlimit(resource.RLIMIT_AS)
    taken = int(status["VmSize"].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_AS, (taken + MOST_MEMORY, limits[1]))
    handler = signal.signal(signal.SIGALRM, _hung)
    problems = []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for seed in range(first, first + trials):
                if problem := trial(seed):
                    problems.append(problem)
                    if tell is not None:
                        tell(problem)
    finally:
        signal.signal(signal.SIGALRM, handler)
        resource.setrlimit(resource.RLIMIT_AS, limits)
    return problems


if __name__ == "__main__":
    logging.disable(logging.ERROR)
    parser = argparse.ArgumentParser(description="Fuzz model folders.")
    parser.add_argument("--trials", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    failures = run(
        options.trials, options.seed, tell=lambda problem: print(" | ".join(problem.splitlines()), flush=True)
    )
    print(f"{len(failures)} failures", file=sys.stderr)
    sys.exit(bool(failures))
