"""Mixtures of tasks: the paper's by name (`mixture:glue`), a user's own by TOML file, and their rates.

A mixture holds names of tasks. How often each is drawn follows from its number of train rows, as in T5 and SPoT, or
from the rates in the file.
"""

import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spot.errors import TaskError, did_you_mean
from spot.tasks import registry
from spot.tasks.readers import some
from spot.tasks.task import Task

PREFIX = "mixture:"  # in front of a known mixture's name where a task is asked for
KEYS = ("name", "tasks", "rates", "outputs")
MOST_RATE = 1e12  # largest rate in a file

_NAME = re.compile(r"[\w./-]+")
_OUTPUTS = ("same", "any")


@dataclass(frozen=True)
class Mixture:
    """Several tasks that one prompt is trained on.

    Attributes:
        name: such as `glue`.
        tasks: names or paths of task files, as `registry.get` takes them; each once.
        rates: share of the draws of each task, in sum 1; empty where the numbers of train rows decide.
        outputs: `any`, or `same` where tasks that answer in different forms (`Task.kind`) are refused.
    """

    name: str
    tasks: tuple[str, ...]
    rates: tuple[float, ...] = ()
    outputs: str = "any"

    @property
    def title(self) -> str:
        """The name with `mixture:` in front."""
        return PREFIX + self.name


def find_mixture(name: str) -> Mixture | None:
    """The mixture that a task's name or path stands for; None where it stands for no mixture.

    Args:
        name: such as `mixture:glue`, or the path of a mixture file, which is told by its keys from a task file.

    Raises:
        TaskError: there is no mixture of this name, or the file cannot be used; all its mistakes are named at once.
    """
    if name.startswith(PREFIX):
        short = name.removeprefix(PREFIX)
        if short in MIXTURES:
            return MIXTURES[short]
        raise TaskError(
            f"no mixture {short!r}; {did_you_mean(short, MIXTURES)} (A mixture of your own is named by the path of its "
            "TOML file, with keys name and tasks.)"
        )
    if name in registry.names():
        return None
    keys = _mixture_keys(Path(name))
    return None if keys is None else _from_file(Path(name), keys)


def tasks_of(mixture: Mixture, data: Path | None = None, prefix: bool = False) -> tuple[Task, ...]:
    """The tasks of a mixture, in its order.

    Args:
        mixture: names them.
        data: where the rows of known data sets are.
        prefix: put each task's name in front of its inputs, as T5 does.

    Raises:
        TaskError: a task is unknown or cannot be used, two have one name, or they answer in different forms.
    """
    tasks = tuple(registry.get(name, data, prefix) for name in mixture.tasks)
    names = [task.name for task in tasks]
    if twins := sorted({name for name in names if names.count(name) > 1}):
        raise TaskError(
            f"{mixture.title}: {some(twins)} is the name of more than one of its tasks; expected each task once, under "
            "a name of its own. Take one out, or rename it in its task file."
        )
    kinds = {task.kind: [other.name for other in tasks if other.kind == task.kind] for task in tasks}
    if mixture.outputs == "same" and len(kinds) > 1:
        listed = "; ".join(f"{kind}: {', '.join(kinds[kind])}" for kind in kinds)
        raise TaskError(
            f"{mixture.title} mixes tasks that answer in different forms ({listed}); expected one form. Take some out, "
            'or write outputs = "any" in the mixture file to mix them all the same.'
        )
    return tasks


def mixing_rates(sizes: Mapping[str, int | None], mixing: str, cap: int, temperature: float) -> tuple[float, ...]:
    """Each task's share of the draws.

    In `proportional` mixing it is in proportion to min(size, cap) ** (1 / temperature): the cap comes before the
    temperature, as in seqio. In `equal` mixing sizes don't matter.

    Args:
        sizes: task -> number of train rows, None where unknown.
        mixing: `proportional` or `equal`.
        cap: a larger task counts as one of this size.
        temperature: 1 leaves the proportions, more evens them out, less sharpens them.

    Returns:
        Shares in the order of the sizes, in sum 1.

    Raises:
        TaskError: a task has no train row, or a size is wanted that is not known.
    """
    if empty := [name for name, size in sizes.items() if size == 0]:
        raise TaskError(f"{some(empty)} has no train row: expected at least one. Leave it out of the mixture.")
    if mixing == "equal":
        return _shares([1.0] * len(sizes))
    if unknown := [name for name, size in sizes.items() if size is None]:
        raise TaskError(
            f"the official number of train rows of {some(unknown)} is not known, and sizes = 'official' mixes by it. "
            "Give sizes=rows or mixing=equal, or write rates in a mixture file."
        )
    counted = [min(size, cap) for size in sizes.values() if size is not None]
    largest = max(counted)
    return _shares([(size / largest) ** (1 / temperature) for size in counted])


def _shares(values: Sequence[float]) -> tuple[float, ...]:
    """Positive numbers brought to the sum 1."""
    total = sum(values)
    return tuple(value / total for value in values)


def _mixture_keys(path: Path) -> dict[str, Any] | None:
    """What a mixture file holds; None for a task file and for anything that cannot be read as TOML."""
    if path.suffix != ".toml" and not path.is_file():
        return None
    try:
        keys = tomllib.loads(path.read_bytes().decode("utf-8"))
    except (OSError, ValueError):  # the reader of task files says what is wrong with it
        return None
    return None if "rows" in keys or not {"tasks", "rates", "outputs"} & set(keys) else keys


def _from_file(path: Path, keys: dict[str, Any]) -> Mixture:
    """The mixture of a file whose keys have been read."""
    mistakes = _wrong_keys(keys)
    name = keys.get("name", "unnamed")
    if not _NAME.fullmatch(name):
        mistakes.append(f"name is {name!r}, expected letters, digits and . _ - /, such as 'my/reviews'")
    if name in MIXTURES:
        mistakes.append(f"name is {name!r}, which is a known mixture's; give yours another name")
    outputs = keys.get("outputs", "same")
    if outputs not in _OUTPUTS:
        mistakes.append(f"outputs is {outputs!r}, expected 'same' or 'any'; {did_you_mean(outputs, _OUTPUTS)}")
    listed = keys.get("tasks", [])
    if "tasks" in keys and len(listed) < 2:
        mistakes.append(f"tasks lists {len(listed)}, expected at least two; a single task needs no mixture")
    tasks = _tasks(path.parent, listed, mistakes)
    shares = _file_rates(keys["rates"], listed, mistakes) if "rates" in keys else ()
    if mistakes:
        raise TaskError("\n  - ".join([f"{path} cannot be used:", *mistakes]))
    return Mixture(name, tasks, shares, outputs)


def _wrong_keys(keys: dict[str, Any]) -> list[str]:
    """Mistakes in the keys of a mixture file; a value of the wrong kind is taken out of it."""
    mistakes = [f"unknown key {key!r}; {did_you_mean(key, KEYS)}" for key in keys if key not in KEYS]
    mistakes += [f"no key {key!r}, which every mixture file has" for key in ("name", "tasks") if key not in keys]
    kinds = {
        "name": (str, "text"),
        "tasks": (list, "a list of tasks"),
        "rates": (dict, "a table: task = number"),
        "outputs": (str, "'same' or 'any'"),
    }
    for key, (kind, expected) in kinds.items():
        if key in keys and not isinstance(keys[key], kind):
            mistakes.append(f"{key} is {keys.pop(key)!r}, expected {expected}")
    return mistakes


def _tasks(folder: Path, listed: Sequence[Any], mistakes: list[str]) -> tuple[str, ...]:
    """The members as `registry.get` takes them; paths are relative to the mixture file."""
    names = registry.names()
    tasks: list[str] = []
    for entry in listed:
        if not isinstance(entry, str) or not entry or "\0" in entry:
            mistakes.append(f"tasks holds {entry!r}, expected the name of a task or the path of a task file")
            continue
        path = Path(os.path.normpath(folder / os.path.expanduser(entry)))
        is_file = entry not in names and path.is_file()
        task = str(path) if is_file else entry
        if entry.startswith(PREFIX) or (is_file and _mixture_keys(path) is not None):
            mistakes.append(f"tasks holds the mixture {entry!r}, expected single tasks; list that mixture's own here")
        elif task in tasks:
            mistakes.append(f"tasks holds {entry!r} more than once, expected each task once; rates say how often")
        elif not is_file and entry not in names:
            missing = f"there is no file {path}" if entry.endswith(".toml") else did_you_mean(entry, names)
            mistakes.append(f"tasks holds the unknown task {entry!r}; {missing}")
        tasks.append(task)
    return tuple(tasks)


def _file_rates(rates: Mapping[str, Any], listed: Sequence[Any], mistakes: list[str]) -> tuple[float, ...]:
    """The shares that a file gives to its tasks, by the names that it lists them under."""
    names = [entry for entry in listed if isinstance(entry, str)]
    before = len(mistakes)
    mistakes += [
        f"rates has {name!r}, which is not under tasks; {did_you_mean(name, names)}"
        for name in rates
        if name not in names
    ]
    mistakes += [f"rates has no {name!r}; give each task a rate, or none" for name in names if name not in rates]
    for name, rate in rates.items():
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= MOST_RATE:
            mistakes.append(f"rates: {name} is {rate!r}, expected a number above 0 and at most {MOST_RATE:.0e}")
    return () if len(mistakes) > before else _shares([float(rates[name]) for name in names])


_GLUE = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")
_SUPERGLUE = ("boolq", "cb", "copa", "multirc", "record", "rte", "wic", "wsc")
_TWICE = ("superglue/rte", "gem/xsum", "gem/wiki_lingua")  # a second name of a set that `all` has already

_LABELLED: dict[str, tuple[str, ...]] = {
    "glue": tuple(f"glue/{name}" for name in _GLUE),
    "superglue": tuple(f"superglue/{name}" for name in _SUPERGLUE),
    "nli": ("anli/r1", "anli/r2", "anli/r3", "superglue/cb", "docnli", "glue/mnli", "glue/qnli", "glue/rte", "snli"),
    "paraphrase": ("cxc", "glue/mrpc", "glue/qqp", "glue/stsb"),
    "sentiment": ("cr", "goemotions", "sentiment140", "glue/sst2", "yelp_polarity"),
    "mrqa": ("mrqa/squad", "mrqa/newsqa", "mrqa/triviaqa", "mrqa/searchqa", "mrqa/hotpotqa", "mrqa/naturalquestions"),
    "rainbow": ("art", "cosmos_qa", "hellaswag", "piqa", "social_i_qa", "winogrande"),
    "translation": ("wmt/en_de", "wmt/en_fr", "wmt/en_ro"),
    "summarization": (
        "aeslc",
        "billsum",
        "cnn_dailymail",
        "wiki_lingua",
        "gigaword",
        "multi_news",
        "newsroom",
        "samsum",
        "xsum",
    ),
    "gem": (
        "gem/common_gen",
        "gem/dart",
        "gem/e2e_nlg",
        "gem/schema_guided_dialog",
        "gem/web_nlg",
        "gem/wiki_auto",
        "gem/xsum",
        "gem/wiki_lingua",
    ),
}
_ALL = dict.fromkeys(task for tasks in _LABELLED.values() for task in tasks if task not in _TWICE)

# The source mixtures of the paper's Table 1 and Figure 6; T5 mixes all forms of answers, and so do they.
MIXTURES = {name: Mixture(name, tasks) for name, tasks in {**_LABELLED, "all": ("c4", *_ALL)}.items()}
