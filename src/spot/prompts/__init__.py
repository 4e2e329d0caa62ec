"""Soft prompts as values, their file, and the record of the texts that they were trained on."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
