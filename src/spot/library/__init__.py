"""Keep prompts in a folder that can be searched, and remember what was transferred."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
