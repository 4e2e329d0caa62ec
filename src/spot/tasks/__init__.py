"""Tasks: what one is, the known data sets, and users' own files."""

from importlib import import_module
from typing import Any

_PUBLIC = {"get": "registry", "names": "registry", "roles": "base"}


def __getattr__(name: str) -> Any:
    """Import `get`, `names` and `roles` the first time that they are asked for."""
    if name in _PUBLIC:
        return getattr(import_module(f"spot.tasks.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'spot.tasks' has no attribute {name!r}; public names: {', '.join(_PUBLIC)}")
