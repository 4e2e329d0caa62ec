"""Read the blocks of the documentation's pages, and run those of a page in order, as its reader would."""

import os
import re
import shlex
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from spot.errors import SpotError
from tests.support.commands import Spot
from tests.support.servers import serve_while

DOCS = Path(__file__).resolve().parents[2] / "docs"
KEPT = ("design.md", "log.md")  # a reason and a diary: nobody is asked to type what stands there
RUN = ("python", "sh", "console")
SHOWN = ("text", "toml", "csv", "json", "yaml", "ini", "nginx", "dockerfile")
FENCE = re.compile(
    r"^(?: *<!-- (?P<mark>[^>]*?) -->\n(?:\s*\n)?)?"
    r"(?P<indent> *)```(?P<language>\w*)(?: title=\"(?P<title>[^\"]+)\")?[^\n]*\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
SAME = ("head ", "grep ", "cat ", "spot tasks ")  # commands whose answer no model moves: pages show it word for word
PORT = "127.0.0.1:8000"  # where pages say that a server listens


@dataclass(frozen=True)
class Block:
    """A block between fences.

    Attributes:
        page: its file.
        line: of the page where its first line stands, from 1.
        language: the word behind the fence.
        title: the file that a reader is asked to write it into; empty for none.
        text: without the fences.
        mark: what a comment above it says: `not run: REASON`, or `refused` where an error is the point.
    """

    page: Path
    line: int
    language: str
    title: str
    text: str
    mark: str

    @property
    def place(self) -> str:
        """For messages."""
        return f"{self.page.relative_to(DOCS)}, line {self.line}"

    @property
    def runs(self) -> bool:
        """Whether it is typed in and run."""
        return self.language in RUN and not self.mark.startswith("not run")

    @property
    def commands(self) -> list[str]:
        """The commands of a block of a terminal; those of `console` stand behind a `$`, and answers stand below."""
        lines = re.sub(r"\\\n\s*(?:> )?", "", self.text).splitlines()
        if self.language == "console":
            return [line[2:] for line in lines if line.startswith("$ ")]
        return [line for line in lines if line.strip() and not line.startswith("#")]

    def answer(self, command: str) -> str:
        """What the page shows below a command of `console`; empty where it shows nothing."""
        shown: dict[str, list[str]] = {"": []}
        for line in self.text.splitlines():
            if line.startswith("$ "):
                shown[latest := line[2:]] = []
            else:
                shown[latest if len(shown) > 1 else ""].append(line.rstrip())
        return "\n".join(shown.get(command, []))


def pages() -> list[Path]:
    """Those whose blocks are run or say why not."""
    return sorted(page for page in DOCS.rglob("*.md") if page.name not in KEPT)


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for fence in FENCE.finditer(text):
        indent = fence["indent"]
        lines = [line.removeprefix(indent) for line in fence["text"].splitlines(keepends=True)]
        line = text[: fence.start("text")].count("\n") + 1
        yield Block(page, line, fence["language"], fence["title"] or "", "".join(lines), fence["mark"] or "")


@dataclass
class Session:
    """One reader of one page, in a folder.

    Attributes:
        spot: the command line.
        names: what Python knows so far.
    """

    spot: Spot
    names: dict[str, Any] = field(default_factory=lambda: {"__name__": "__page__"})

    def do(self, block: Block) -> None:
        """Write a block to its file, or run it."""
        if block.title:
            Path(block.title).parent.mkdir(parents=True, exist_ok=True)
            Path(block.title).write_text(block.text, encoding="utf-8")
        elif block.runs and block.language == "python":
            self.python(block)
        elif block.runs:
            self.terminal(block)

    def python(self, block: Block) -> None:
        """Run a program where the others of its page have run."""
        program = compile("\n" * (block.line - 1) + block.text, str(block.page), "exec")
        if block.mark == "refused":
            with pytest.raises(SpotError):
                exec(program, self.names)
        else:
            exec(program, self.names)

    def terminal(self, block: Block) -> None:
        """Run commands one after another; those behind a server's ask it, and it ends with the block."""
        commands = [re.sub(r"\s+# .*$", "", command) for command in block.commands]
        assert commands, f"{block.place}: no command"
        for number, command in enumerate(commands):
            if command.startswith("spot serve") and command.endswith("&"):
                words = shlex.split(command.removesuffix("&"))[1:]
                asked = commands[number + 1 :]
                serve_while(
                    lambda words=words: self.spot(*words, "--port", 0),
                    lambda server, asked=asked: [
                        shell(ask.replace(PORT, f"127.0.0.1:{server.port}"), block) for ask in asked
                    ],
                )
                return
            self.command(command, block)

    def command(self, command: str, block: Block) -> None:
        """Run a command: `spot` in this process, with what is piped into it; all else in a shell."""
        before, _, ours = command.rpartition("| ")
        if not ours.startswith("spot "):
            compare(block, command, shell(command, block).decode())
            return
        ours, _, file = ours.partition(" > ")
        with piped(shell(before.strip(), block) if before else b""):
            result = self.spot(*(os.path.expandvars(word) for word in shlex.split(ours)[1:]))
        expected = 2 if block.mark == "refused" else 0
        assert result.code == expected, f"{block.place}: {command}\n{result.out[-2000:]}\n{result.err[-3000:]}"
        compare(block, command, result.out)
        if file:
            Path(file.strip()).write_text(result.out, encoding="utf-8")


def compare(block: Block, command: str, printed: str) -> None:
    """Hold what was printed against what the page shows, where models have no part in it."""
    shown = block.answer(command)
    if shown and command.startswith(SAME):
        lines = "\n".join(line.rstrip() for line in printed.rstrip().splitlines())
        assert lines == shown, f"{block.place}: {command} prints\n{lines}"


@contextmanager
def piped(text: bytes) -> Iterator[None]:
    """Have a text stand on standard input."""
    with tempfile.TemporaryFile() as file:
        file.write(text)
        file.seek(0)
        usual = os.dup(0)
        os.dup2(file.fileno(), 0)
        try:
            yield
        finally:
            os.dup2(usual, 0)
            os.close(usual)


def shell(command: str, block: Block) -> bytes:
    """What a command that is none of ours prints."""
    done = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False)
    assert done.returncode == 0, f"{block.place}: {command}\n{done.stdout!r:.2000}\n{done.stderr!r:.2000}"
    return done.stdout
