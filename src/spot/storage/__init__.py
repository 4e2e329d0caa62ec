"""Open what strangers may have written, write files that are whole or not there, read JSON, keep folders of runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
