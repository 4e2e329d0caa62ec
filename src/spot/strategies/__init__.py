"""Start a new task from the right prompt of a library, and compare with plain tuning."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
