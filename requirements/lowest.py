"""Print the lowest version of all that pyproject.toml asks for, as constraints for pip.

Of the tools of developers any version will do, so the extra `dev` is left out.
"""

import re
import tomllib
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
_BOUND = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?\s*>=\s*([\w.]+)")


def lowest(project: str) -> dict[str, str]:
    """Package -> the lowest version that the text of a pyproject.toml allows, by the highest of its bounds."""
    content = tomllib.loads(project)["project"]
    extras = content["optional-dependencies"]
    asked = [*content["dependencies"], *(line for extra, lines in extras.items() if extra != "dev" for line in lines)]
    bounds: dict[str, str] = {}
    for name, version in (match.groups() for match in map(_BOUND.match, asked) if match):
        if _numbers(version) > _numbers(bounds.get(name, "0")):
            bounds[name] = version
    return bounds


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version))


if __name__ == "__main__":
    for name, version in sorted(lowest(PROJECT.read_text(encoding="utf-8")).items()):
        print(f"{name}=={version}")
