"""Files that are whole or not there, folders of runs, and the comparison of texts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
