"""Report on what is there: a prompt, a run, a transfer or a tuned model, as one HTML page."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
