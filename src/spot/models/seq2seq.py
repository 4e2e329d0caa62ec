"""Run the rows of a sequence-to-sequence model: the prompt stands before the encoder's input, the target is decoded.

Letters: B rows, S input tokens, T target tokens, P prompt tokens, D width, C choices, V vocabulary.
"""

import logging
from collections.abc import Generator, Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spot.errors import BackboneError
from spot.models.batch import Batch, Prefix, choice_pairs, token_nats, unpaired
from spot.models.network import Network
from spot.models.ways import Ways

log = logging.getLogger(__name__)


class Seq2SeqRows:
    """The rows of one sequence-to-sequence model."""

    def __init__(self, network: Network) -> None:
        """Of a frozen model.

        Raises:
            BackboneError: nothing says with which token its decoder starts.
        """
        self.network = network
        self.start = _decoder_start(network)
        forced = getattr(network.model.generation_config, "forced_bos_token_id", None)
        if forced is not None:
            log.warning(
                "this %r model generates the token %s first (forced_bos_token_id); with a prompt it does not, because "
                "targets are trained from the decoder's start on",
                network.model.config.model_type,
                forced,
            )

    def prefix(self, prompts: Tensor) -> Prefix:
        """Prompts [R, P, D] as they are: what the encoder makes of a prompt is another thing for each row."""
        return Prefix(prompts)

    def nats(self, batch: Batch, prefix: Prefix, _: Ways) -> Tensor:
        """Negative log-probability of each target token, [B, T]; 0 where there is none."""
        memory, mask = self._encode(batch, prefix)
        return self._decoded_nats(memory, mask, batch.labels)

    def pair_scores(self, batch: Batch, prefix: Prefix, choice_sets: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        """Log-probabilities [B, C] of each row's choices as its targets; the encoder reads a row once."""
        memory, mask = self._encode(batch, prefix)
        pairs, labels = choice_pairs(choice_sets, batch)
        memory = copy(memory)
        memory.last_hidden_state = memory.last_hidden_state[pairs]
        return unpaired(-self._decoded_nats(memory, mask[pairs], labels).sum(dim=1), choice_sets, batch)

    def steps(self, batch: Batch, prefix: Prefix, ways: Ways) -> Generator[Tensor, Tensor, None]:
        """Decode: gives the logits [B, V] of the next token, is sent the tokens [B, 1] taken."""
        memory, mask = self._encode(batch, prefix)
        token = torch.full_like(batch.input_ids[:, :1], self.start)
        decoded, states = token, None
        first = torch.zeros_like(token)
        while True:
            arguments: dict[str, Any] = {"encoder_outputs": copy(memory), "attention_mask": mask}
            if ways.decoding == "whole":
                at = torch.full_like(token, decoded.shape[1] - 1)
                logits, _ = self.network.logits(at, decoder_input_ids=decoded, use_cache=False, **arguments)
            else:
                arguments |= {"past_key_values": states, "use_cache": True}
                logits, output = self.network.logits(first, decoder_input_ids=token, **arguments)
                states = output.past_key_values
            token = yield logits[:, -1]
            decoded = torch.cat([decoded, token], dim=1)

    def _encode(self, batch: Batch, prefix: Prefix) -> tuple[Any, Tensor]:
        """The encoder's output of [B, P + S, D] states for prompt and input, and their mask."""
        batch = batch.packed()
        prompts = prefix.vectors.to(self.network.model.dtype)[batch.prompt_index]
        mask = functional.pad(batch.attention_mask, (prefix.length, 0), value=1)
        vectors = torch.cat([prompts, self.network.embed(batch.input_ids).to(prompts.dtype)], dim=1)
        encoder = self.network.model.get_encoder()
        return self.network.run(encoder, input_ids=None, inputs_embeds=vectors, attention_mask=mask), mask

    def _decoded_nats(self, memory: Any, mask: Tensor, labels: Tensor) -> Tensor:
        """Negative log-probability of labels [B, T] for rows that are encoded."""
        # The decoder's input is made here: some models make it of the labels in a way of their own, others in none.
        inputs = functional.pad(labels[:, :-1].clamp(min=0), (1, 0), value=self.start)
        at = torch.arange(labels.shape[1], device=mask.device).expand(len(labels), -1)
        logits, _ = self.network.logits(
            at,
            # FSMT masks later tokens only where it is told of an input; all others look at the encoder's output alone.
            input_ids=inputs,
            decoder_input_ids=inputs,
            encoder_outputs=memory,
            attention_mask=mask,
            use_cache=False,
        )
        return token_nats(logits, labels)


def _decoder_start(network: Network) -> int:
    """The token that the decoder starts with: as generation has it, else the begin token of the decoder."""
    model = network.model
    decoder = model.config.get_text_config(decoder=True)
    for settings, name in (
        (model.generation_config, "decoder_start_token_id"),
        (model.config, "decoder_start_token_id"),
        (decoder, "decoder_start_token_id"),
        (decoder, "bos_token_id"),
        (model.generation_config, "bos_token_id"),
    ):
        start = getattr(settings, name, None)
        if isinstance(start, int):
            return start
    raise BackboneError(
        f"nothing says with which token the decoder of this {model.config.model_type!r} model starts; expected "
        "decoder_start_token_id in its generation_config.json or config.json. Add it there."
    )
