"""The engine against plain transformers: the same model with the prompt's vectors put before every row by hand."""

import hashlib
import logging
from dataclasses import replace

import pytest
import torch
from torch.nn.functional import cross_entropy

from spot.errors import BackboneError
from spot.models import backbone as backbone_module
from spot.models.backbone import Backbone
from spot.models.batch import IGNORED
from spot.models.causal import CausalRows
from tests.support.batches import CHOICES, ROWS, batch_of, frozen, prompts_for, relative
from tests.support.tiny_models import FAMILIES, POSITIONS

RELATIVE = 1e-5


def by_hand(backbone: Backbone, row, prompts: torch.Tensor) -> torch.Tensor:
    """The loss of one row, alone and unpadded, with its prompt concatenated to the embedded input."""
    text, target, number = row
    model, prompt = backbone.model, prompts[number]
    embed = model.get_input_embeddings()
    if backbone.id.kind == "seq2seq":
        vectors = torch.cat([prompt, embed(torch.tensor(text))])[None]
        logits = model(inputs_embeds=vectors, labels=torch.tensor([target])).logits[0]
    else:
        vectors = torch.cat([prompt, embed(torch.tensor(text + target))])[None]
        first = len(prompt) + len(text) - 1
        logits = model(inputs_embeds=vectors, use_cache=False).logits[0, first : first + len(target)]
    return cross_entropy(logits, torch.tensor(target), reduction="sum")


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_gradient_equal_concatenation(tiny, family, side, checkpointing):
    backbone = frozen(tiny, family, gradient_checkpointing=checkpointing)
    expected_prompts = prompts_for().requires_grad_()
    plain = frozen(tiny, family)
    expected = torch.stack([by_hand(plain, row, expected_prompts) for row in ROWS])
    expected.sum().backward()
    prompts = prompts_for().requires_grad_()
    losses = backbone.loss(batch_of(ROWS, side), prompts)
    losses.sum().backward()
    assert relative(losses.detach(), expected.detach()) < RELATIVE
    assert relative(prompts.grad, expected_prompts.grad) < RELATIVE


@pytest.mark.parametrize("family", FAMILIES)
def test_a_row_has_one_loss_alone_padded_and_in_a_gang(tiny, family):
    backbone = frozen(tiny, family)
    prompts = prompts_for(count=3)
    gang = [(text, target, number % 3) for number, (text, target, _) in enumerate(ROWS * 2)]
    together = backbone.loss(batch_of(gang), prompts)
    alone = torch.cat([backbone.loss(batch_of([(t, a, 0)]), prompts[number][None]) for t, a, number in gang])
    assert relative(together, alone) < RELATIVE


@pytest.mark.parametrize("family", FAMILIES)
def test_without_a_prompt_the_model_is_itself(tiny, family):
    backbone = frozen(tiny, family)
    rows = [(text, target, 0) for text, target, _ in ROWS]
    none = torch.zeros(1, 0, 32)
    for side in ("left", "right"):
        expected = torch.stack([by_hand(backbone, row, none) for row in rows])
        assert relative(backbone.loss(batch_of(rows, side), none), expected) < RELATIVE


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_scores_equal_each_choice_by_hand(tiny, family, checkpointing):
    backbone = frozen(tiny, family, gradient_checkpointing=checkpointing)
    plain, prompts = frozen(tiny, family), prompts_for()
    with torch.no_grad():
        pairs = [(text, list(choice), number) for text, _, number in ROWS for choice in CHOICES]
        expected = torch.stack([-by_hand(plain, pair, prompts) for pair in pairs]).reshape(len(ROWS), len(CHOICES))
    for side in ("left", "right"):
        assert relative(backbone.score(batch_of(ROWS, side), prompts, CHOICES), expected) < RELATIVE


@pytest.mark.parametrize("family", FAMILIES)
def test_rows_of_unlike_choices_have_the_scores_that_they_have_alone(tiny, family):
    backbone, prompts = frozen(tiny, family), prompts_for()
    sets = [CHOICES, [(5,), (6,)], [(5, 6, 7), (5, 9)], [tuple(range(3, 3 + length)) for length in range(1, 25)]]
    which = torch.tensor([3, 1, 0, 2, 1, 0, 3, 2, 2])
    batch = replace(batch_of(ROWS * 3), choice_index=which)
    scores = backbone.score_each(batch, prompts, sets)
    assert scores.shape == (9, 24)
    for row, number in enumerate(which.tolist()):
        alone = backbone.score(batch_of([(ROWS * 3)[row]]), prompts, sets[number])[0]
        assert relative(scores[row, : len(alone)], alone) < RELATIVE
        assert not scores[row, len(alone) :].any()


@pytest.mark.parametrize("family", FAMILIES)
def test_generation_does_not_depend_on_padding_or_neighbours(tiny, family):
    backbone = frozen(tiny, family)
    prompts = prompts_for()
    together = {side: backbone.generate(batch_of(ROWS, side), prompts, 6) for side in ("left", "right")}
    alone = [backbone.generate(batch_of([row]), prompts, 6)[0] for row in ROWS]
    assert together["left"] == together["right"] == alone


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_greedy_generation_equals_transformers(tiny, family):
    backbone = frozen(tiny, family)
    prompts = prompts_for()
    text, target, number = ROWS[0]
    vectors = torch.cat([prompts[number], backbone.embed(torch.tensor(text))])[None]
    mask = torch.ones(vectors.shape[:2], dtype=torch.long)
    expected = backbone.model.generate(inputs_embeds=vectors, attention_mask=mask, max_new_tokens=6, do_sample=False)
    words = backbone.tokenizer.batch_decode(expected, skip_special_tokens=True)
    assert backbone.generate(batch_of([(text, target, number)]), prompts, 6) == words


@pytest.mark.parametrize("family", ["llama", "t5"])
def test_a_row_ends_at_the_end_of_training_and_where_the_model_itself_would_end(tiny, family):
    backbone = frozen(tiny, family)
    backbone.model.generation_config.eos_token_id = None
    backbone.tokenizer.eos_token = None
    row = batch_of(ROWS[:1])
    [whole] = backbone.generate(row, prompts_for(), 6)
    tokens = backbone.tokenizer(whole, add_special_tokens=False)["input_ids"]
    end = tokens[-1]
    expected = backbone.tokenizer.decode(tokens[: tokens.index(end)])
    assert expected != whole
    assert backbone.generate(row, prompts_for(), 6, end=end) == [expected]
    backbone.model.generation_config.eos_token_id = [299, end]
    assert backbone.generate(row, prompts_for(), 6) == [expected]
    assert backbone.generate(row, prompts_for(), 6, end=298) == [expected]


def test_a_row_whose_numbers_are_not_finite_has_no_text_and_its_neighbours_have_theirs(tiny):
    backbone = frozen(tiny, "llama")
    prompts = prompts_for()
    expected = backbone.generate(batch_of(ROWS), prompts, 6)
    prompts[1] = float("nan")  # of the second row
    texts = backbone.generate(batch_of(ROWS), prompts, 6)
    assert texts == [expected[0], None, expected[2]]


@pytest.mark.filterwarnings("ignore")  # PEFT's own deprecations and its word on position ids
@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "qwen2", "t5", "t5v11"])
def test_loss_and_gradient_equal_peft_on_unpadded_rows(tiny, family):
    from peft import PromptTuningConfig, get_peft_model

    backbone = frozen(tiny, family)
    task = "SEQ_2_SEQ_LM" if backbone.id.kind == "seq2seq" else "CAUSAL_LM"
    model, _ = tiny(family)
    theirs = get_peft_model(
        model, PromptTuningConfig(task_type=task, num_virtual_tokens=5, num_transformer_submodules=1)
    )
    weight = theirs.prompt_encoder["default"].embedding.weight
    weight.data.copy_(prompts_for()[0])
    text, target, _ = ROWS[2]
    if backbone.id.kind == "seq2seq":
        output = theirs(input_ids=torch.tensor([text]), labels=torch.tensor([target]))
    else:
        labels = torch.tensor([[IGNORED] * len(text) + target])
        output = theirs(input_ids=torch.tensor([text + target]), labels=labels)
    output.loss.backward()
    prompts = prompts_for()[:1].requires_grad_()
    loss = backbone.loss(batch_of([(text, target, 0)]), prompts)[0] / len(target)
    loss.backward()
    assert float(loss.detach()) == pytest.approx(float(output.loss.detach()), rel=RELATIVE)
    assert relative(prompts.grad[0], weight.grad) < RELATIVE


@pytest.mark.parametrize("family", ["llama", "gpt2", "opt", "qwen2", "gemma2"])
def test_causal_families_share_the_prefix(tiny, family):
    backbone = frozen(tiny, family)
    assert backbone.shares_prefix
    assert all(layer.keys.shape[2] == 5 for layer in backbone.prefix(prompts_for()).states.layers)


def test_prompts_without_a_gradient_through_their_states_are_read_once_a_row_and_that_is_said(
    tiny, monkeypatch, caplog
):
    prefix = CausalRows.prefix

    def without_gradient(self, prompts):
        return prefix(self, prompts.detach())

    monkeypatch.setattr(CausalRows, "prefix", without_gradient)
    with caplog.at_level(logging.WARNING, logger="spot.models.backbone"):
        backbone = frozen(tiny, "llama")
    assert not backbone.shares_prefix
    assert "a prompt is read once a row: shared, its states fail inside transformers" in caplog.text
    expected = torch.stack([by_hand(backbone, row, prompts_for()) for row in ROWS])
    assert relative(backbone.loss(batch_of(ROWS), prompts_for()), expected) < RELATIVE


def test_gradient_checkpointing_shares_prompts_where_there_is_no_gradient(tiny, caplog):
    with caplog.at_level(logging.WARNING, logger="spot.models.backbone"):
        backbone = frozen(tiny, "llama", gradient_checkpointing=True)
    assert backbone.shares_prefix
    assert not caplog.text
    assert backbone.prefix(prompts_for()).states is None
    with torch.no_grad():
        assert backbone.prefix(prompts_for()).states is not None


def test_ways_are_compared_once_for_each_stretch_of_lengths_and_said_once(tiny, monkeypatch, caplog):
    beyond = []
    compare = backbone_module.probe
    monkeypatch.setattr(backbone_module, "probe", lambda rows, more: beyond.append(more) or compare(rows, more))
    with caplog.at_level(logging.WARNING, logger="spot.models.backbone"):
        backbone = frozen(tiny, "gemma2")  # its window is 8 tokens, its positions 512
        for tokens in (3, 8, 9, 12, 500, 9):
            assert backbone.ways_for(tokens).shares
    assert beyond == [0, 8]
    assert caplog.text.count("labels of several tokens are read one by one") == 1


def test_a_row_longer_than_the_learned_positions_is_refused(tiny):
    backbone = frozen(tiny, "gpt2")
    long_row = batch_of([([3] * POSITIONS, [4], 0)])
    with pytest.raises(BackboneError, match=rf"a row of {POSITIONS + 6} tokens, .* 512 positions; expected shorter"):
        backbone.loss(long_row, prompts_for())


@pytest.mark.parametrize("family", FAMILIES)
def test_the_vectors_of_the_vocabulary_are_what_the_first_layer_is_given(tiny, family):
    backbone = frozen(tiny, family)
    ids = torch.tensor([[3, 4, 5]])
    assert torch.equal(backbone.embeddings()[ids], backbone.embed(ids))


@pytest.mark.parametrize("family", FAMILIES)
def test_no_weight_moves_and_none_has_a_gradient(tiny, family):
    backbone = frozen(tiny, family)

    def weights() -> str:
        digest = hashlib.sha256()
        for name, tensor in sorted(backbone.model.state_dict().items()):
            digest.update(name.encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    before = weights()
    prompts = prompts_for().requires_grad_()
    optimiser = torch.optim.AdamW([prompts], lr=0.1)
    for _ in range(3):
        optimiser.zero_grad()
        backbone.loss(batch_of(ROWS), prompts).sum().backward()
        optimiser.step()
    assert weights() == before
    assert all(parameter.grad is None for parameter in backbone.model.parameters())
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())


def test_the_gradient_of_one_run_never_touches_another(tiny):
    backbone = frozen(tiny, "llama")
    prompts = prompts_for().requires_grad_()
    only_first = [row for row in ROWS if row[2] == 0]
    backbone.loss(batch_of(only_first), prompts).sum().backward()
    assert prompts.grad[0].abs().sum() > 0
    assert prompts.grad[1].abs().sum() == 0
