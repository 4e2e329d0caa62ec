"""Start each new task from the right prompt: soft prompts, a library of them, and the search between tasks.

The public names load on first use, so that `import spot` and `spot --help` never wait for torch. `__init__.pyi` says
where each of them lives, for this module and for type checkers alike.
"""

from __future__ import annotations

TYPE_CHECKING = False  # for type checkers: the module `typing` takes longer to load than all else here
if TYPE_CHECKING:
    from typing import Any

__version__ = "0.1.0"

_front_door: list[Any] = []  # what `lazy_loader` makes of the stub, once a name is asked for


def __getattr__(name: str) -> Any:
    """A public name, loaded when it is first asked for."""
    if not _front_door:
        import lazy_loader  # takes longer to load than all else that the command does before it minds Ctrl-C

        _front_door.extend(lazy_loader.attach_stub(__name__, __file__))
    load, _, public = _front_door
    return ["__version__", *public] if name == "__all__" else load(name)


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__getattr__("__all__"))
