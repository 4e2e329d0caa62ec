"""Keep what the frozen model holds of prompts, within a limit of bytes: the prompts that were used last."""

from collections import OrderedDict

import torch

from spot.errors import PromptError
from spot.models.backbone import Backbone
from spot.models.batch import Prefix
from spot.models.prompt_states import packed_states, size_of
from spot.serving.requests import Served, unusable


class PrefixCache:
    """Prompts as their model takes them, by digest; used by one thread.

    Attributes:
        bytes: of what is kept.
        hits, misses: how often a prompt was kept, and how often it was computed.
    """

    def __init__(self, backbone: Backbone, limit: int) -> None:
        """Keep prompts of a model in at most `limit` bytes, not counting those that one call needs together."""
        self._backbone = backbone
        self._limit = limit
        self._kept: OrderedDict[str, tuple[Prefix, int]] = OrderedDict()
        self.bytes = self.hits = self.misses = 0

    @torch.no_grad()
    def get(self, served: Served) -> Prefix:
        """A prompt, computed where it is not kept.

        Raises:
            Refusal: its file is gone or damaged.
        """
        if served.digest in self._kept:
            self._kept.move_to_end(served.digest)
            self.hits += 1
            return self._kept[served.digest][0]
        self.misses += 1
        try:
            vectors = torch.tensor(served.read_vectors())[None]
        except PromptError as error:
            raise unusable(served, error) from error
        prefix = self._backbone.prefix(vectors)
        if prefix.states is not None:
            prefix = Prefix(prefix.vectors, packed_states(prefix.states))
        size = prefix.vectors.nbytes + (size_of(prefix.states) if prefix.states is not None else 0)
        if size <= self._limit:
            self._kept[served.digest] = prefix, size
            self.bytes += size
        while self.bytes > self._limit:
            _, (_, freed) = self._kept.popitem(last=False)
            self.bytes -= freed
        return prefix
