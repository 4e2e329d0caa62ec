"""Write prompts so that servers that know nothing of `spot` answer with them: baked into a checkpoint, or for vLLM."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
