"""Rows that join and leave between tokens, each against the loss of the same tokens alone."""

import random
from collections import defaultdict
from collections.abc import Sequence

import pytest
import torch

from spot.models.batch import Batch, Prefix
from spot.models.causal import CausalRows
from spot.models.decoding import Decoder
from spot.models.prompt_states import KeptRows, packed_states, size_of
from tests.support.batches import batch_of, frozen, prompts_for, relative
from tests.support.odd_models import HABITS, backbone_of
from tests.support.tiny_models import FAMILIES

LENGTHS = (4, 2, 7, 1, 3, 5)
MOST = 6


def walk(backbone, seed: int, lengths: Sequence[int] = LENGTHS):
    """Rows that join and leave at random: for each its row, and the tokens and logits of its steps."""
    chance = random.Random(seed)
    texts = [[chance.randrange(3, 30) for _ in range(length)] for length in lengths]
    waiting = [(text, [], number % 2) for number, text in enumerate(texts)]
    prefix, decoder = backbone.prefix(prompts_for()), backbone.decoder()
    rows, tokens, logits, ends = {}, defaultdict(list), defaultdict(list), {}
    while waiting or rows.keys() - ends.keys():
        if waiting and (not decoder.names or chance.random() < 0.6):
            joining = [waiting.pop() for _ in range(min(len(waiting), chance.randint(1, 2)))]
            for name, row in zip(decoder.join(batch_of(joining), prefix, MOST), joining, strict=True):
                rows[name] = row
        sent = {}
        for name, of_row in zip(decoder.names, decoder.logits(), strict=True):
            token = chance.randrange(3, 30)
            tokens[name].append(token)
            logits[name].append(of_row)
            if len(tokens[name]) < MOST and chance.random() < 0.8:
                sent[name] = token
            else:
                ends[name] = True
        decoder.take(sent)
        assert set(decoder.names) == set(sent)
    return [(rows[name], tokens[name], torch.stack(logits[name])) for name in rows]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("family", FAMILIES)
def test_each_row_has_the_numbers_that_it_has_alone(tiny, family, seed):
    backbone = frozen(tiny, family)
    walked = walk(backbone, seed)
    assert len(walked) == len(LENGTHS)
    for (text, _, number), tokens, logits in walked:
        nats = -logits.float().log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).sum()
        alone = backbone.loss(batch_of([(text, tokens, number)]), prompts_for())
        assert relative(nats[None], alone) < 1e-5


@pytest.mark.parametrize("habit", list(HABITS))
def test_the_same_is_so_of_models_with_habits_of_their_own_and_across_their_edges(habit):
    backbone = backbone_of(habit)
    edge = next((edge for edge in backbone.edges if edge < 40), 8)
    lengths = [1, edge - 7, 3, edge + 2, edge - 9, 2]
    for (text, _, number), tokens, logits in walk(backbone, 0, [max(1, length) for length in lengths]):
        nats = -logits.float().log_softmax(-1).gather(1, torch.tensor(tokens)[:, None]).sum()
        alone = backbone.loss(batch_of([(text, tokens, number)]), prompts_for())
        assert relative(nats[None], alone) < 1e-4


def test_rows_of_a_plain_model_stand_in_one_call_and_hold_no_position_that_none_has(tiny):
    backbone = frozen(tiny, "llama")
    decoder, prefix = backbone.decoder(), backbone.prefix(prompts_for())
    [long] = decoder.join(batch_of([([5] * 9, [], 0)]), prefix, MOST)
    [short] = decoder.join(batch_of([([6, 7], [], 1)]), prefix, MOST)
    [call] = decoder._calls
    assert decoder.names == (long, short) and call.kept.width == 5 + 9
    decoder.take({short: 3})
    assert decoder.names == (short,) and call.kept.width == 5 + 2 + 1
    decoder.take({})
    assert decoder.names == ()


def test_what_is_kept_of_a_prompt_is_counted_in_bytes(tiny):
    backbone = frozen(tiny, "llama")
    states = backbone.prefix(prompts_for(length=5, count=1)).states
    config = backbone.model.config
    numbers = 2 * config.num_hidden_layers * config.num_key_value_heads * 5 * config.head_dim
    assert size_of(states) == 4 * numbers


@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_packed_states_are_the_same_in_one_block(tiny, family):
    backbone, batch = frozen(tiny, family), batch_of([([3, 4, 5], [6, 7], 0)])
    prefix = backbone.prefix(prompts_for(count=1))
    packed = Prefix(prefix.vectors, packed_states(prefix.states))
    assert len({layer.keys.untyped_storage().data_ptr() for layer in packed.states.layers}) == 1
    assert size_of(packed.states) == size_of(prefix.states)
    assert torch.equal(backbone.loss(batch, packed), backbone.loss(batch, prefix))


def test_states_of_other_kinds_stay_as_they_are():
    states = backbone_of("hybrid").prefix(prompts_for(count=1)).states
    assert packed_states(states) is states


@pytest.mark.parametrize("family", FAMILIES)
def test_prompts_that_were_prepared_alone_are_those_prepared_together(tiny, family):
    backbone = frozen(tiny, family)
    rows = [([3, 4, 5], [6, 7], 2), ([8], [9], 0), ([3, 4], [5], 1)]
    prompts = prompts_for(count=3)
    joined = backbone.join_prefixes([backbone.prefix(prompt[None]) for prompt in prompts])
    assert relative(backbone.loss(batch_of(rows), joined), backbone.loss(batch_of(rows), prompts)) < 1e-5


def test_rows_merge_only_where_all_layers_keep_positions(tiny):
    backbone = frozen(tiny, "llama")
    rows = backbone._rows
    assert isinstance(rows, CausalRows)
    _, kept = rows.begin(batch_of([([3, 4], [], 0)]), backbone.prefix(prompts_for()), backbone.ways_for(0))
    assert kept.can_merge and not KeptRows(kept.states).can_merge


@pytest.mark.parametrize("family", ["llama", "gemma2", "t5"])
@pytest.mark.parametrize("place", ["_begun", "_with"])
def test_rows_that_cannot_join_leave_those_that_go_on_as_they_were(tiny, monkeypatch, family, place):
    backbone = frozen(tiny, family)
    prefix, decoder = backbone.prefix(prompts_for()), backbone.decoder()
    rows = [([3, 4, 5], [], 0), ([6, 7], [], 1), ([8], [], 0), ([9, 10, 11, 12], [], 1)]
    before = decoder.join(batch_of(rows[:2]), prefix, MOST)
    logits = decoder.logits()
    whole, calls = getattr(Decoder, place), []

    def broken(self, *arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise MemoryError("Cannot allocate memory")
        return whole(self, *arguments)

    monkeypatch.setattr(Decoder, place, broken)
    monkeypatch.setattr(Batch, "groups", lambda batch, _: groups_of_one(batch))
    with pytest.raises(MemoryError):
        decoder.join(batch_of(rows[2:]), prefix, MOST)
    monkeypatch.undo()
    assert decoder.names == tuple(before) and torch.equal(decoder.logits(), logits)
    joined = decoder.join(batch_of(rows[2:]), prefix, MOST)
    decoder.take(dict.fromkeys([*before, *joined], 13))
    ends = dict(zip(decoder.names, decoder.logits(), strict=True))
    for name, (text, _, number) in zip([*before, *joined], rows, strict=True):
        nats = -ends[name].float().log_softmax(-1)[14]
        alone = backbone.loss(batch_of([(text, [13, 14], number)]), prompts_for())
        first = backbone.loss(batch_of([(text, [13], number)]), prompts_for())
        assert relative(nats[None], alone - first) < 1e-4


def groups_of_one(batch):
    """Each row of a batch apart."""
    for row in range(len(batch.input_ids)):
        numbers = torch.tensor([row])
        yield numbers, batch.rows(numbers)
