"""Show a library, its transfers and its studies to people: one HTML page, alone or served."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
