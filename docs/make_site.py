"""Build the documentation site, offline: `python docs/make_site.py`.

Pages are laid out in build/pages first: those of docs as they are, the notebooks as pages, and of the repository's own
pages those that docs link to. A link to a file that is no part of the site becomes its text. Ends with 1 where a link
or an anchor leads nowhere.
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
PAGES = ROOT / "build" / "pages"
SITE = ROOT / "site"
BESIDE = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "index.md"}
TAKEN = (".md", ".png", ".svg", ".html", ".csv", ".json", ".ipynb")
UNNAMED = ("studies/smollm2/report.md",)  # pages that others lead to
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")
FENCED = re.compile(r"(^ *```.*?^ *```$)", re.MULTILINE | re.DOTALL)
MOST_OUTPUT = 20_000  # characters of an output of a notebook's cell that are shown


def lay_out() -> list[str]:
    """Write build/pages; what is wrong with links to files, a sentence each."""
    shutil.rmtree(PAGES, ignore_errors=True)
    wrong: list[str] = []
    sources = {source: source.relative_to(DOCS) for source in sorted(DOCS.rglob("*")) if source.suffix in TAKEN}
    sources |= {ROOT / name: Path(place) for name, place in BESIDE.items() if place != "index.md"}
    for source, place in sources.items():
        target = PAGES / place
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.suffix == ".md":
            target.write_text(page(source, source.read_text(encoding="utf-8"), place, wrong), encoding="utf-8")
        elif source.suffix == ".ipynb":
            text = notebook(json.loads(source.read_text(encoding="utf-8")), target)
            target.with_suffix(".md").write_text(page(source, text, place, wrong), encoding="utf-8")
        else:
            shutil.copyfile(source, target)
    return wrong


def page(source: Path, text: str, place: Path, wrong: list[str]) -> str:
    """A page with its links as the site has them.

    Args:
        source: the file that it comes from.
        text: its Markdown.
        place: of the page in the site.
        wrong: takes a sentence for each link that leads nowhere.
    """

    def linked(match: re.Match[str]) -> str:
        picture, words, link = match.groups()
        path, mark, anchor = link.partition("#")
        if not path or re.match(r"[a-z]+:", path):
            return match[0]
        file = (source.parent / path).resolve()
        if DOCS in file.parents and file.exists():
            name = file.relative_to(DOCS).with_suffix(".md" if file.suffix == ".ipynb" else file.suffix)
        elif file.parent == ROOT and file.name in BESIDE:
            name = Path(BESIDE[file.name])
        elif picture or not file.exists():
            if not (PAGES / place.parent / path).exists():
                wrong.append(f"{source.relative_to(ROOT)} links to {link}, which is not there")
            return match[0]
        else:
            return words
        if file.is_dir() or file.suffix not in TAKEN:
            return words
        return f"{picture}[{words}]({os.path.relpath(name, place.parent)}{mark}{anchor})"

    parts = FENCED.split(text)
    return "".join(part if number % 2 else LINK.sub(linked, part) for number, part in enumerate(parts))


def notebook(content: dict[str, Any], target: Path) -> str:
    """A notebook as Markdown: its texts, its programs, and what they printed or drew."""
    parts: list[str] = []
    for number, cell in enumerate(content["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if picture := output.get("data", {}).get("image/svg+xml"):
                name = f"{target.stem}-{number}.svg"
                target.with_name(name).write_text("".join(picture), encoding="utf-8")
                parts.append(f"![what the cell draws]({name})")
                continue
            shown = output.get("text") or output.get("data", {}).get("text/plain") or ""
            if printed := "".join(shown)[:MOST_OUTPUT].rstrip():
                parts.append(f"```text\n{printed}\n```")
    return "\n\n".join(parts) + "\n"


def astray() -> list[str]:
    """What the navigation names and is not there, and pages that it does not name."""
    nav = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]
    named = set(re.findall(r"'([^']+\.md)'", str(nav)))
    pages = {str(path.relative_to(PAGES)) for path in PAGES.rglob("*.md")} - set(UNNAMED)
    missing = [f"zensical.toml names {name}, which is not there" for name in sorted(named - pages)]
    return missing + [f"the navigation in zensical.toml has no place for {name}" for name in sorted(pages - named)]


def main() -> int:
    """Lay out, build, and say what is wrong."""
    wrong = lay_out() + astray()
    for sentence in wrong:
        print(sentence, file=sys.stderr)
    shutil.rmtree(SITE, ignore_errors=True)
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "-f", str(ROOT / "zensical.toml")]
    built = subprocess.run(command, cwd=ROOT, check=False)
    return 1 if wrong or built.returncode or not (SITE / "index.html").is_file() else 0


if __name__ == "__main__":
    sys.exit(main())
