"""Know where shared libraries lie and what an index of one says: names and bytes, and nothing of prompts."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
