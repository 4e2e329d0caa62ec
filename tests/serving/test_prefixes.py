import pytest
import torch

from spot.collator import Collator
from spot.library.entries import Entry
from spot.models.prompt_states import size_of
from spot.serving.prefixes import PrefixCache
from spot.serving.requests import Served
from tests.support.batches import batch_of, relative
from tests.support.tiny_libraries import tiny_backbone, tiny_library


def served_of(library) -> list[Served]:
    return [
        Served(entry.task, Collator(None, "causal"), entry, lambda entry=entry: library.get(entry.digest).value)
        for entry in library.entries()
    ]


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_the_prompts_that_were_used_last_are_kept_within_the_limit(tiny, tmp_path, family):
    backbone = tiny_backbone(tiny, family)
    prompts = served_of(tiny_library(tmp_path, family))
    [first, second, third, *_] = prompts
    prefix = PrefixCache(backbone, 10**9).get(first)
    size = prefix.vectors.nbytes + (size_of(prefix.states) if prefix.states is not None else 0)
    cache = PrefixCache(backbone, 2 * size)
    for served in (first, second, first, third, first, second):
        cache.get(served)
        assert cache.bytes <= 2 * size
    assert (cache.hits, cache.misses) == (2, 4)  # the second one had gone when the third came
    assert list(cache._kept) == [first.digest, second.digest]


def test_a_prompt_beyond_the_limit_is_computed_each_time(tiny, tmp_path):
    cache = PrefixCache(tiny_backbone(tiny), 10)
    [served, *_] = served_of(tiny_library(tmp_path))
    cache.get(served), cache.get(served)
    assert (cache.hits, cache.misses, cache.bytes) == (0, 2, 0)


def test_what_is_kept_gives_the_numbers_of_the_prompt(tiny, tmp_path):
    backbone, library = tiny_backbone(tiny), tiny_library(tmp_path)
    cache = PrefixCache(backbone, 10**9)
    for served in served_of(library) * 2:
        vectors = torch.tensor(library.get(served.digest).value)[None]
        batch = batch_of([([5, 6, 7], [8, 9], 0)])
        assert relative(backbone.loss(batch, cache.get(served)), backbone.loss(batch, vectors)) < 1e-5
    assert isinstance(served.entry, Entry) and not cache.get(served).vectors.requires_grad
