"""Start each new task from the right prompt: soft prompts, a library of them, and the search between tasks.

The public names load on first use, so that `import spot` and `spot --help` never wait for torch.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

# A function cannot share its name with a module of the package: importing the module would hide it.
_PUBLIC = {
    "Backbone": "spot.backbone:Backbone",
    "Library": "spot.library:Library",
    "SoftPrompt": "spot.prompt:SoftPrompt",
    "SpotError": "spot.errors:SpotError",
    "evaluate": "spot.evaluation:evaluate",
    "retrieve": "spot.retrieval:retrieve",
    "TransferConfig": "spot.config:TransferConfig",
    "TuneConfig": "spot.config:TuneConfig",
    "open_library": "spot.library:open_library",
    "transfer_prompt": "spot.transfer:transfer",
    "tune_prompt": "spot.tuning:tune_prompt",
}
__all__ = ["__version__", "tasks", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Import a public name, or the subpackage `tasks`, the first time that it is asked for."""
    if name == "tasks":
        return import_module("spot.tasks")
    if name not in _PUBLIC:
        raise AttributeError(f"module 'spot' has no attribute {name!r}; public names: {', '.join(__all__)}")
    module, attribute = _PUBLIC[name].split(":")
    value = getattr(import_module(module), attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, loaded or not."""
    return sorted(__all__)
