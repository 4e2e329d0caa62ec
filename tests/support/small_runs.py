"""Small data folders, and the settings of runs that take a moment.

The texts of a split are its own, and tell the label.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from spot.tasks.registry import TABLE
from tests.support.data_rows import write_jsonl, write_split

STEPS = 4
SETTINGS = ("batch_size=4", "eval_every=2", "learning_rate=0.05", "checkpoint_every=2")
FAST = ["--steps", STEPS, "--length", 3, *(word for setting in SETTINGS for word in ("--set", setting))]

MAKERS: dict[str, Callable[[str], dict[str, Any]]] = {
    "cr": lambda text: {"text": text},
    "glue/sst2": lambda text: {"sentence": text},
    "glue/mrpc": lambda text: {"sentence1": text, "sentence2": f"again {text}"},
    "glue/qqp": lambda text: {"question1": text, "question2": f"or {text}?"},
    "glue/stsb": lambda text: {"sentence1": text, "sentence2": f"so {text}"},
    "cxc": lambda text: {"sentence1": text, "sentence2": f"as {text}"},
}
COUNTS = {"train": 20, "validation": 8, "test": 10}


def rows_of(name: str, split: str, count: int | None = None) -> list[dict[str, Any]]:
    rows = []
    for number in range(COUNTS[split] if count is None else count):
        row = MAKERS[name](f"{split} {'bad' if number % 2 else 'fine'} {number:02d}")
        answer = {"score": number % 6} if name == "cxc" else {"label": number % 2}
        rows.append({**row, **({"label": number / 5} if name == "glue/stsb" else answer)})
    return rows


def put(data: Path, *names: str) -> Path:
    for name in names:
        for split in TABLE[name].splits:
            write_split(data, name, rows_of(name, split), split)
    return data


def user_task(folder: Path, name: str = "mood") -> Path:
    """A task file with a file a split; words of one length, so that a random model gives now the one, now the other."""
    folder.mkdir(exist_ok=True)
    for split in COUNTS:
        write_jsonl(folder / f"{name}-{split}.jsonl", rows_of("cr", split))
    files = ", ".join(f'{split} = "{name}-{split}.jsonl"' for split in COUNTS)
    path = folder / f"{name}.toml"
    form = 'input = "say: {text}"\nlabels = { 0 = "red", 1 = "sky" }\n'
    path.write_text(f'name = "{name}"\nrows = {{ {files} }}\n{form}')
    return path


def settings(**values: object) -> list[str]:
    """Options that give settings."""
    return [word for key, value in values.items() for word in ("--set", f"{key}={value}")]
