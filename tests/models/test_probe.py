"""Ways are compared on the model at hand: a habit that breaks one makes it step aside, and what is left is exact.

The expected numbers are plain transformers': one row, alone, prompt vectors before the embedded text.
"""

from dataclasses import replace

import pytest
import torch

from spot.errors import BackboneError
from spot.models.backbone import Backbone
from spot.models.causal import CausalRows
from spot.models.probe import probe
from spot.prompts.prompt import BackboneId
from tests.support import odd_models
from tests.support.batches import CHOICES, ROWS, batch_of, frozen, prompts_for, relative
from tests.support.odd_models import HABITS, backbone_of, model_of, plain_nats
from tests.support.tiny_models import VOCABULARY, byte_tokenizer

LONG = ([*range(3, 43)], [8, 9], 1)  # longer than every window of the tiny models


@pytest.mark.parametrize("rows", [ROWS, (*ROWS, LONG)], ids=["short", "long"])
@pytest.mark.parametrize("habit", HABITS)
def test_losses_gradients_and_scores_are_those_of_the_model_alone(habit, rows):
    plain, backbone = model_of(getattr(odd_models, habit)()), backbone_of(habit)
    expected_prompts = prompts_for().requires_grad_()
    expected = torch.stack([plain_nats(plain, expected_prompts[n], text, target).sum() for text, target, n in rows])
    expected.sum().backward()
    prompts = prompts_for().requires_grad_()
    for side in ("left", "right"):
        prompts.grad = None
        losses = backbone.loss(batch_of(rows, side), prompts)
        losses.sum().backward()
        assert relative(losses.detach(), expected.detach()) < 1e-5
        assert relative(prompts.grad, expected_prompts.grad) < 1e-4
    for given in (prompts_for(), torch.zeros(2, 0, 32)):
        with torch.no_grad():
            by_hand = [-plain_nats(plain, given[n], text, list(c)).sum() for text, _, n in rows for c in CHOICES]
        scores = backbone.score(batch_of(rows), given, CHOICES)
        assert relative(scores, torch.stack(by_hand).reshape(len(rows), len(CHOICES))) < 1e-5


@pytest.mark.parametrize("habit", ["convolution", "hybrid"])
def test_a_row_of_one_token_has_a_gradient_behind_shared_states(habit):
    plain, backbone = model_of(getattr(odd_models, habit)()), backbone_of(habit)
    expected_prompts, prompts = (prompts_for().requires_grad_() for _ in range(2))
    expected = plain_nats(plain, expected_prompts[1], [7], [8])
    expected.sum().backward()
    loss = backbone.loss(batch_of([([7], [8], 1)]), prompts)
    loss.sum().backward()
    assert relative(loss.detach(), expected.detach()) < 1e-5
    assert relative(prompts.grad, expected_prompts.grad) < 1e-4


@pytest.mark.parametrize("habit", HABITS)
def test_generation_is_the_argmax_of_the_model_alone(habit):
    plain, backbone, prompts = model_of(getattr(odd_models, habit)()), backbone_of(habit), prompts_for()
    expected = []
    for text, _, number in ROWS:
        tokens: list[int] = []
        while len(tokens) < 6 and tokens[-1:] != [1]:
            vectors = torch.cat([prompts[number], plain.get_input_embeddings()(torch.tensor(text + tokens))])[None]
            tokens.append(int(plain(inputs_embeds=vectors, use_cache=False).logits[0, -1].argmax()))
        expected.append(backbone.tokenizer.decode(tokens, skip_special_tokens=True))
    assert backbone.generate(batch_of(ROWS), prompts, 6) == expected


@pytest.mark.parametrize(
    ("habit", "shares", "tree", "decoding"),
    [
        ("convolution", True, False, "equal"),
        ("hybrid", True, False, "equal"),
        ("alibi", True, False, "padded"),
        ("alibi_by_key", True, False, "equal"),
        ("window", True, True, "padded"),
        ("late_positions", True, False, "equal"),
    ],
)
def test_only_what_differs_steps_aside(habit, shares, tree, decoding):
    ways = backbone_of(habit).ways_for(0)
    assert (ways.shares, ways.together, ways.tree, ways.decoding) == (shares, "padded", tree, decoding)
    assert len(ways.notes) == (not tree) + (decoding == "equal")


def test_a_window_ends_the_tree_behind_its_edge_alone():
    backbone = backbone_of("window")
    assert backbone.ways_for(16).tree
    assert not backbone.ways_for(17).tree
    assert backbone.ways_for(17).shares


def test_angles_that_depend_on_the_longest_row_are_never_shared_beyond_their_edge():
    backbone = backbone_of("stretched")
    assert backbone.ways_for(24).shares
    assert not backbone.ways_for(25).shares
    plain, prompts = model_of(odd_models.stretched()), prompts_for()
    rows = [LONG, ROWS[1], (LONG[0][:30], [8], 0)]
    expected = torch.stack([plain_nats(plain, prompts[n], text, target).sum() for text, target, n in rows])
    assert relative(backbone.loss(batch_of(rows), prompts), expected) < 1e-5
    prefix = backbone.prefix(prompts)  # of the length of prompts alone, so it is shared
    alone = [backbone.score(batch_of([row]), prefix, CHOICES) for row in rows]
    assert relative(backbone.score(batch_of(rows), prefix, CHOICES), torch.cat(alone)) < 1e-5


def test_text_is_scaled_where_the_model_scales_outside_its_embedding_module():
    backbone, plain = backbone_of("scaled_seq2seq"), model_of(odd_models.scaled_seq2seq())
    assert backbone.ways_for(0).embed_scale == pytest.approx(32**0.5)
    rows = [(text, target, 0) for text, target, _ in ROWS]
    expected = []
    for text, target, _ in rows:
        decoded = torch.tensor([[0, *target[:-1]]])
        logits = plain(input_ids=torch.tensor([text]), decoder_input_ids=decoded).logits[0]
        expected.append(torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum"))
    assert relative(backbone.loss(batch_of(rows), torch.zeros(1, 0, 32)), torch.stack(expected)) < 1e-5
    ids = torch.tensor([ROWS[0][0][:3]])
    with torch.no_grad():
        behind = [([*ROWS[0][0][3:]], ROWS[0][1], 0)]
        assert relative(backbone.loss(batch_of(behind), backbone.embed(ids)), torch.stack(expected)[:1]) < 1e-5


def test_an_encoder_is_refused_in_words():
    with pytest.raises(BackboneError, match=r"'roberta' model sees later tokens: .* expected a causal or a seq"):
        backbone_of("encoder")


def test_numbers_that_are_not_finite_name_the_precision():
    model = model_of(odd_models.alibi())
    model.get_input_embeddings().weight.data *= 1e30
    with pytest.raises(BackboneError, match=r"in float32 this 'bloom' model gives no finite numbers .* SPOT_DTYPE="):
        Backbone(model, byte_tokenizer(), BackboneId("bloom", "causal", 32, 300, "0"))


def test_a_model_that_only_fails_is_refused_with_its_words(monkeypatch, tiny):
    backbone = frozen(tiny, "llama")

    def broken(*arguments: object, **named: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(backbone.model, "forward", broken)
    with pytest.raises(BackboneError, match=r"read a row of 12 tokens: its calls fail inside transformers \(Runt"):
        probe(backbone._rows)


def test_too_little_memory_is_no_word_on_a_way(monkeypatch, tiny):
    backbone = frozen(tiny, "llama")

    def full(*arguments: object) -> None:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(CausalRows, "prefix", full)
    with pytest.raises(torch.OutOfMemoryError):
        probe(backbone._rows)


@pytest.mark.parametrize("wrong", ["keys", "positions", "mask"])
def test_each_wrong_number_is_seen(monkeypatch, tiny, wrong):
    """Errors of the sizes that were met: kept values by a hundredth, positions by one, a pad that is seen."""
    backbone = frozen(tiny, "llama")
    if wrong == "keys":
        prefix = CausalRows.prefix

        def changed(self, prompts):
            made = prefix(self, prompts)
            for layer in made.states.layers:
                layer.values = layer.values * 1.01
            return made

        monkeypatch.setattr(CausalRows, "prefix", changed)
        assert not probe(backbone._rows).shares
        return
    run = backbone._network.run

    def shifted(module, **arguments):
        if wrong == "positions" and "position_ids" in arguments:
            arguments["position_ids"] = arguments["position_ids"] + 1
        if wrong == "mask" and "attention_mask" in arguments:
            del arguments["attention_mask"]
        return run(module, **arguments)

    monkeypatch.setattr(backbone._network, "run", shifted)
    ways = probe(backbone._rows)
    assert not ways.tree
    assert ways.decoding == "equal"
    assert ways == replace(ways, shares=True, together="padded")


class Repacks(torch.nn.Linear):
    """As a quantised layer on some CPUs: from its first call without a gradient on it passes none."""

    repacked = False

    def forward(self, states):
        self.repacked |= not states.requires_grad
        return super().forward(states.detach() if self.repacked else states)


def test_a_model_that_loses_its_gradient_when_it_answers_is_refused(tiny):
    model, tokenizer = tiny("llama")
    layer = model.model.layers[1].mlp.down_proj
    layer.__class__ = Repacks
    with pytest.raises(BackboneError, match=r"another gradient once it has been called without one \(by .*repack"):
        Backbone(model, tokenizer, BackboneId("tiny", "causal", 32, VOCABULARY, "0" * 16))
