"""Plan a study of transfer from every source to every target, run it, report it, and teach a library by it."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
