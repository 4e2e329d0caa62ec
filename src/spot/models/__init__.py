"""Load a frozen model, and compute losses, scores and answers with prompts in front of its rows."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
