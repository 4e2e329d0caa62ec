"""Answer a task's rows by what one would pick instead of a prompt, on the rows and the model that prompts have."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
