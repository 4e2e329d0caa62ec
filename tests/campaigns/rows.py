"""Try damaged files of rows and task files: `python -m tests.campaigns.rows --trials 1000 --seed 1`.

A trial fails where a reader raises what is no error of ours, takes more than ten seconds, or loses rows without a word.
Each row that is written has a mark of its own. A line of the damaged file that still looks like a row, with one mark
and the number of delimiters that rows have, must give a row of its own, or the file must be refused.
"""

import argparse
import bz2
import csv
import gzip
import io
import json
import logging
import lzma
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
import traceback
import zipfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from types import FrameType

import pyarrow
import pyarrow.parquet

from spot.errors import SpotError
from spot.reading import Reading
from spot.tasks.checks import check_task, faults_of
from spot.tasks.formats import UNSAID, FileFormat
from spot.tasks.inputs import read_inputs
from spot.tasks.scaffold import init
from spot.tasks.task_file import file_rows, load_task, read_words
from tests.support.workbooks import write_workbook

SECONDS = 10
MARK = re.compile(r"zq\d+q")
LABELS = ("good", "bad", "so so")
WORDS = "the room, was; warm 'and' \"quiet\" tab\there caf\u00e9 \u65e5\u672c | 3,5 it's :) [x] {y} \U0001f600".split(
    " "
)
ENCODINGS = ("utf-8", "utf-8", "utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252")
TOML = """name = "rows"
title = "a title"
rows = "{rows}"
input = "say: {{text}}"
label = "label"
encoding = "utf-8"
delimiter = ","
quotes = true
header = true
missing = ["", "nan"]
max_row = 100000
[labels]
good = "good"
bad = "bad"
"so so" = "so so"
"""
VALUES = (
    '""',
    "[]",
    "{}",
    "0",
    "-1",
    "1.5",
    "nan",
    "true",
    "1979-05-27",
    '"\\u0000"',
    '"x" ',
    '"../../x"',
    '"{"',
    '"{a}{b}"',
    '["a", 1]',
    "9999999999999999999999",
    "[" * 500 + "]" * 500,
    "[[[[[[[[[[",
    '"utf-16"',
    '";"',
    '"\\t"',
    '"jsonl"',
    '"/dev/zero"',
    '"rows.toml"',
    '"' + "x" * 5000 + '"',
    "{ train = 1 }",
    "'''\n'''",
)


class TooLong(BaseException):
    """A trial takes longer than it may; no handler for exceptions catches it."""


def some_rows(chance: random.Random) -> list[tuple[str, str]]:
    """Rows with a mark each."""
    count = chance.choice((1, 4, 8, 30, 200))
    words = [word for word in WORDS if chance.random() < 0.7] or ["word"]
    return [
        (f"zq{number}q " + " ".join(chance.choice(words) for _ in range(chance.randint(1, 8))), LABELS[-number % 3])
        for number in range(count)
    ]


def table(chance: random.Random, rows: list[tuple[str, str]]) -> str:
    """Rows as a table of some dialect."""
    text = io.StringIO()
    delimiter = chance.choice(",,,;\t|")
    quoting = chance.choice((csv.QUOTE_MINIMAL, csv.QUOTE_MINIMAL, csv.QUOTE_ALL))
    end = chance.choice(("\n", "\r\n"))
    if chance.random() < 0.2:
        plain = [(text.replace(delimiter, " ").replace("\n", " "), label) for text, label in rows]
        lines = [delimiter.join(row) for row in [("text", "label"), *plain]]
        return end.join(lines) + end
    writer = csv.writer(text, delimiter=delimiter, quoting=quoting, lineterminator=end)
    header = [] if chance.random() < 0.1 else [("text", "label")]
    writer.writerows([*header, *rows])
    return text.getvalue()


def hurt_text(chance: random.Random, text: str) -> str:
    """A text with one to three accidents, mostly one."""
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        place, end = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
        lines = text.splitlines(keepends=True) or [""]
        line = chance.randrange(len(lines))
        match chance.choice(
            ("mark", "mark", "open", "unmark", "newline", "join", "blank", "sign", "twice", "cut", "gone")
        ):
            case "mark":
                text = text[:place] + '"' + text[place:]
            case "open":
                lines[line] = '"' + lines[line]
                text = "".join(lines)
            case "unmark":
                text = text[:place] + text[place:].replace('"', "", 1)
            case "newline":
                text = text[:place] + "\n" + text[place:]
            case "join":
                text = text[:place] + text[place:].replace("\n", " ", 1)
            case "blank":
                lines.insert(line, chance.choice(("\n", "  \n", "\t\n", "\x1a\n")))
                text = "".join(lines)
            case "sign":
                text = text[:place] + chance.choice("\0\r\x0b\u2028\ufeff;,|\t'\\") + text[place:]
            case "twice":
                text += lines[line]
            case "cut":
                text = text[: max(place, len(text) - 200)]
            case _:
                text = text[:place] + text[min(end, place + 20) :]
    return text


def hurt_bytes(chance: random.Random, data: bytes) -> bytes:
    """Bytes with one to three accidents."""
    for _ in range(chance.randint(1, 3)):
        place, end = sorted((chance.randrange(len(data) + 1), chance.randrange(len(data) + 1)))
        match chance.choice(("flip", "flip", "cut", "drop", "zeros", "insert", "tail", "swap")):
            case "flip" if data:
                place = min(place, len(data) - 1)
                data = data[:place] + bytes([data[place] ^ 1 << chance.randrange(8)]) + data[place + 1 :]
            case "cut":
                data = data[:place]
            case "drop":
                data = data[:place] + data[min(end, place + 16) :]
            case "zeros":
                data = data[:place] + b"\0" * min(64, end - place) + data[min(end, place + 64) :]
            case "insert":
                data = data[:place] + chance.randbytes(chance.randint(1, 16)) + data[place:]
            case "tail":
                data += chance.randbytes(chance.randint(1, 64))
            case _:
                data = data[end:] + data[:end]
    return data


def zipped(data: bytes) -> bytes:
    """A zip file of one member."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rows", data)
    return file.getvalue()


PACKERS: tuple[tuple[str, Callable[[bytes], bytes]], ...] = (
    ("", bytes),
    ("", bytes),
    ("", bytes),
    (".gz", gzip.compress),
    (".bz2", bz2.compress),
    (".xz", lzma.compress),
    (".zst", lambda data: pyarrow.compress(data, "zstd", asbytes=True)),
    (".zip", zipped),
)


def rows_by_the_eye(text: str) -> dict[str, str]:
    """Mark -> its line, of the lines that look like rows: one mark, one delimiter, a label behind it."""
    found: dict[str, str] = {}
    doubled: set[str] = set()
    shape = re.compile(rf'"?(zq\d+q)[^"]*?"?[,;\t|]"?(?:{"|".join(LABELS)})"?')
    for line in re.split(r"\r\n|\n|\r", text):
        match = shape.fullmatch(line)
        if match and len(MARK.findall(line)) == 1 and len(re.findall(r"[,;\t|]", line)) == 1:
            if match[1] in found:
                doubled.add(match[1])
            found[match[1]] = line
    return {mark: line for mark, line in found.items() if mark not in doubled}


def write(chance: random.Random, folder: Path) -> tuple[Path, dict[str, str], str]:
    """A damaged file of rows, the rows that still look like some, and what was done."""
    rows = some_rows(chance)
    packing, pack = chance.choice(PACKERS)
    kind = chance.choice(("table", "table", "table", "jsonl", "json", "parquet", "arrow", "xlsx", "thing"))
    expected: dict[str, str] = {}
    if kind in ("table", "jsonl", "json"):
        records = [{"text": text, "label": label} for text, label in rows]
        encoding = chance.choice(ENCODINGS) if kind == "table" else "utf-8"
        if encoding == "cp1252":
            rows = [(text.encode("cp1252", "ignore").decode("cp1252"), label) for text, label in rows]
        if kind == "table":
            text = table(chance, rows)
        elif kind == "jsonl":
            text = "".join(json.dumps(record) + "\n" for record in records)
        else:
            text = json.dumps(records, indent=chance.choice((None, 1)))
        text = hurt_text(chance, text) if chance.random() < 0.7 else text
        text = text if encoding != "cp1252" else text.encode("cp1252", "ignore").decode("cp1252")
        if kind == "table":
            expected = rows_by_the_eye(text)
        elif kind == "jsonl":
            expected = _objects(text)
        data = text.encode(encoding)
        if chance.random() < 0.1:
            data, expected = hurt_bytes(chance, data), {}
        data = pack(data)
        if chance.random() < 0.05:
            data, expected = hurt_bytes(chance, data), {}
        ending = chance.choice((".csv", ".tsv", ".txt", ".jsonl")) if chance.random() < 0.2 else ""
        path = folder / f"rows{ending or {'table': '.csv', 'jsonl': '.jsonl', 'json': '.json'}[kind]}{packing}"
        path.write_bytes(data)
        return path, expected, f"{kind} {encoding} {path.name}"
    path = folder / f"rows.{kind}"
    if kind == "thing":
        return _thing(chance, folder), {}, "thing"
    if kind == "xlsx":
        write_workbook(path, {"A": [("text", "label"), *(tuple(map(_letters, row)) for row in rows)]})
    else:
        columns = {"text": [text for text, _ in rows], "label": [LABELS.index(label) for _, label in rows]}
        _columns(chance, path, kind, pyarrow.table(columns))
    if chance.random() < 0.8:
        path.write_bytes(hurt_bytes(chance, path.read_bytes()))
    return path, {}, kind


def _letters(text: str) -> str:
    """Text that XML can hold."""
    return re.sub(r"[\x00-\x08\x0b-\x1f]", "", text)


def _objects(text: str) -> dict[str, str]:
    """Mark -> its line, of the lines that are objects with text and label, where all lines are objects."""
    found = {}
    for line in text.split("\n"):
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("text"), str) and row.get("label") in LABELS:
            marks = MARK.findall(line)
            if len(marks) == 1 and marks[0] in row["text"]:
                found[marks[0]] = line
    return found


def _columns(chance: random.Random, path: Path, kind: str, rows: pyarrow.Table) -> None:
    """Write columns as Parquet or Arrow."""
    if kind == "parquet":
        pyarrow.parquet.write_table(rows, path, compression=chance.choice(("none", "snappy", "zstd")))
        return
    writer = chance.choice((pyarrow.ipc.new_file, pyarrow.ipc.new_stream))
    options = pyarrow.ipc.IpcWriteOptions(compression=chance.choice((None, "lz4", "zstd")))
    with pyarrow.OSFile(str(path), "wb") as sink, writer(sink, rows.schema, options=options) as out:
        out.write_table(rows)


def _thing(chance: random.Random, folder: Path) -> Path:
    """Something else where rows were expected."""
    path = folder / chance.choice(("rows.csv", "rows.jsonl", "rows.json", "rows.arrow", "rows.parquet", "rows.csv.gz"))
    match chance.choice(("fifo", "zero", "loop", "folder", "sparse", "empty", "gone", "bomb", "state", "line")):
        case "fifo":
            os.mkfifo(path)
        case "zero":
            path.symlink_to("/dev/zero")
        case "loop":
            path.symlink_to(path)
        case "folder":
            path.mkdir()
        case "sparse":
            path.touch()
            os.truncate(path, 60_000_000_000)
        case "empty":
            path.write_bytes(b"")
        case "bomb":
            path.write_bytes(_bomb(chance.choice((b"a", b"a,b\n", b'{"text": "a"}\n'))))
        case "state":
            path.mkdir()
            (path / "state.json").write_text(
                chance.choice(("[" * 9999, "{}", '{"_data_files": [{"filename": 1}]}', "[]"))
            )
        case "line":
            path.write_bytes(chance.choice((b"a", b'"', b"[", b'{"text": "')) * 20_000_000)
    return path


@lru_cache
def _bomb(line: bytes) -> bytes:
    """A small file that unpacks to a large one."""
    return gzip.compress(line * 30_000_000)


def hurt_toml(chance: random.Random, folder: Path) -> Path:
    """A damaged task file for rows that are whole."""
    (folder / "rows.csv").write_text("text,label\n" + "".join(f"zq{n}q words,{LABELS[n % 3]}\n" for n in range(30)))
    lines = TOML.format(rows="rows.csv").splitlines(keepends=True)
    for _ in range(chance.randint(1, 2)):
        line = chance.randrange(len(lines))
        key, equals, _ = lines[line].partition(" = ")
        lines[line] = f"{key} = {chance.choice(VALUES)}\n" if equals else lines[line]
    text = "".join(lines)
    if chance.random() < 0.3:
        text = hurt_text(chance, text)
    path = folder / "task.toml"
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return path


def look(folder: Path, path: Path, expected: dict[str, str]) -> list[str]:
    """Read a file of rows in every way, and say which rows were lost without a word."""
    lost = []
    own = folder / "own.toml"
    own.write_text(f'name = "own"\nrows = {json.dumps(path.name)}\ninput = "{{text}}"\n')
    new = folder / "new.toml"
    for act in ("init", "own", "predict"):
        try:
            if act == "predict":
                given = UNSAID if path.suffix != ".txt" else FileFormat(format="csv")
                texts = [example.texts[0] for example in read_inputs(str(path), Reading(template="{text}"), given)]
            else:
                task_file = new if act == "init" else own
                if act == "init":
                    init(path, new)
                    read_words(new)
                task = load_task(task_file)
                check_task(task)
                faults_of(task)
                # A label that no other row has may make an open answer of it: rows are counted as they were read.
                texts = [" ".join(map(str, row.values())) for _, row in file_rows(task_file, "train")]
        except SpotError:
            continue
        seen = [MARK.findall(text) for text in texts]
        alone = {marks[0] for marks in seen if len(marks) == 1}
        if missing := sorted(set(expected) - alone):
            lost.append(f"{act}: {len(missing)} rows lost, such as {expected[missing[0]]!r}")
    return lost


def trial(seed: int, number: int) -> str:
    """One trial: what went wrong, or nothing."""
    chance = random.Random(f"{seed}.{number}")
    folder = Path(tempfile.mkdtemp())

    def stop(signal_number: int, frame: FrameType | None) -> None:
        raise TooLong

    before = signal.signal(signal.SIGALRM, stop)
    begin = time.monotonic()
    what = "task file"
    try:
        if chance.random() < 0.25:
            path = hurt_toml(chance, folder)
            signal.alarm(3 * SECONDS)
            begin = time.monotonic()
            try:
                task = load_task(path)
                check_task(task)
                list(file_rows(path, "train"))
            except SpotError:
                pass
            lost: list[str] = []
        else:
            path, expected, what = write(chance, folder)
            signal.alarm(3 * SECONDS)
            begin = time.monotonic()
            lost = look(folder, path, expected)
        seconds = time.monotonic() - begin
        if seconds > SECONDS:
            lost.append(f"{seconds:.0f} s")
        return f"trial {number}, {what}: {'; '.join(lost)}" if lost else ""
    except TooLong:
        return f"trial {number}, {what}: more than {3 * SECONDS} s: {traceback.format_exc(limit=-3)}"
    except BaseException:
        return f"trial {number}, {what}: {traceback.format_exc(limit=-4)}"
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        shutil.rmtree(folder, ignore_errors=True)


def run(trials: int, seed: int, first: int = 0) -> list[str]:
    """What went wrong in a number of trials."""
    return [failure for number in range(first, first + trials) if (failure := trial(seed, number))]


def main() -> None:
    """Run the campaign from the command line; exit code 1 where a trial failed."""
    parser = argparse.ArgumentParser(description="Try damaged files of rows and task files.")
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    logging.disable()  # what is said of each file is not what is looked for
    begin = time.monotonic()
    failures = run(options.trials, options.seed, options.first)
    for failure in failures:
        print(" | ".join(failure.splitlines()))
    print(
        f"rows: {len(failures)} failures in {options.trials} trials, {time.monotonic() - begin:.0f} s", file=sys.stderr
    )
    raise SystemExit(bool(failures))


if __name__ == "__main__":
    main()
