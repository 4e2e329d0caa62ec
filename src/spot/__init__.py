"""Start each new task from the right prompt: soft prompts, a library of them, and the search between tasks.

The public names load on first use, so that `import spot` and `spot --help` never wait for torch. `__init__.pyi` says
where each of them lives, for this module and for type checkers alike.
"""

import lazy_loader

__version__ = "0.1.0"

__getattr__, _, _public = lazy_loader.attach_stub(__name__, __file__)
__all__ = ["__version__", *_public]


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
