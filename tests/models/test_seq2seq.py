"""Rows of a sequence-to-sequence model: where its decoder starts, and token by token against the model alone."""

import pytest
import torch

from spot.errors import BackboneError
from spot.models.batch import Prefix
from spot.models.network import Network
from spot.models.seq2seq import Seq2SeqRows
from spot.models.ways import Ways
from tests.support.batches import CHOICES, ROWS, batch_of, prompts_for, relative

WAYS = Ways(shares=False, together="padded", tree=False, decoding="padded")


def plain_nats(model, text: list[int], target: list[int], number: int) -> torch.Tensor:
    vectors = torch.cat([prompts_for()[number], model.get_input_embeddings()(torch.tensor(text))])[None]
    decoded = torch.tensor([[model.config.decoder_start_token_id, *target[:-1]]])
    logits = model(inputs_embeds=vectors, decoder_input_ids=decoded).logits[0].float()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="none")


@pytest.mark.parametrize("family", ["t5", "t5v11"])
def test_tokens_and_choices_have_the_nats_of_the_model_alone(tiny, family):
    plain, rows = tiny(family)[0], Seq2SeqRows(Network(tiny(family)[0]))
    batch, prefix = batch_of(ROWS, "left"), Prefix(prompts_for())
    nats, scores = rows.nats(batch, prefix, WAYS), rows.pair_scores(batch, prefix, [CHOICES])
    for tokens, choices, (text, target, number) in zip(nats, scores, ROWS, strict=True):
        assert relative(tokens[: len(target)], plain_nats(plain, text, target, number)) < 1e-5
        expected = [-plain_nats(plain, text, list(choice), number).sum() for choice in CHOICES]
        assert relative(choices, torch.stack(expected)) < 1e-5


@pytest.mark.parametrize("decoding", ["padded", "whole"])
def test_steps_decode_token_by_token(tiny, decoding):
    plain, rows = tiny("t5")[0], Seq2SeqRows(Network(tiny("t5")[0]))
    sent = torch.tensor([[8, 9, 4], [12, 7, 5], [20, 21, 22]])
    steps = rows.steps(batch_of(ROWS), Prefix(prompts_for()), Ways(**{**vars(WAYS), "decoding": decoding}))
    logits = [next(steps), *(steps.send(token[:, None]) for token in sent.T[:-1])]
    nats = -torch.stack(logits, dim=1).log_softmax(-1).gather(2, sent[:, :, None])[:, :, 0]
    for row, target, (text, _, number) in zip(nats, sent.tolist(), ROWS, strict=True):
        assert relative(row, plain_nats(plain, text, target, number)) < 1e-5


def test_the_decoder_starts_as_generation_has_it_else_as_the_configuration_says(tiny):
    model, _ = tiny("t5")
    assert Seq2SeqRows(Network(model)).start == 0
    model.generation_config.decoder_start_token_id = 7
    assert Seq2SeqRows(Network(model)).start == 7
    model.generation_config.decoder_start_token_id = model.config.decoder_start_token_id = None
    assert Seq2SeqRows(Network(model)).start == 1  # its begin token
    model.config.bos_token_id = model.generation_config.bos_token_id = None
    with pytest.raises(BackboneError, match=r"nothing says with which token the decoder of this 't5' model starts"):
        Seq2SeqRows(Network(model))
