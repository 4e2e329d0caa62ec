"""Embed, compute losses, score and generate on a frozen model with a soft prompt in front of every row.

Letters: B rows, S input tokens, T target tokens, P prompt tokens, D width, R prompts in one call, C choices,
V vocabulary.

A causal model sees its prompt before anything else, so the keys and values of the prompt are the same for every row:
they are computed once a prompt (`Backbone.prefix`), then expanded to the rows, and the gradient flows back through the
expansion. A sequence-to-sequence model reads the prompt before the embedded encoder input.
"""

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, PreTrainedModel, PreTrainedTokenizerBase
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_outputs import BaseModelOutput

from spot.errors import BackboneError
from spot.models.batch import IGNORED, Batch, Prefix, prompt_before_text
from spot.models.checkpoints import locate
from spot.models.choice_tree import ChoiceTree, tree_mask
from spot.models.device import placement
from spot.models.loading import load_model
from spot.prompts.prompt import BackboneId

log = logging.getLogger(__name__)

LOGIT_BYTES = 256 * 2**20  # most bytes of float32 logits that scoring holds at a time


class Backbone:
    """A frozen language model, its tokenizer and its identity. No parameter of it ever receives a gradient."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        backbone_id: BackboneId,
        *,
        gradient_checkpointing: bool = False,
    ):
        """Freeze `model`. `Backbone.load` is the usual way to make one.

        Args:
            model: a seq2seq or causal language model with its head.
            tokenizer: its tokenizer.
            backbone_id: what prompts tuned here will name.
            gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
        """
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.id = backbone_id
        self.shares_prefix = backbone_id.kind == "causal"
        self._window = _sliding_window(model)
        # A slice of the hidden states that is not contiguous would be multiplied row by row, each row reading the
        # whole vocabulary projection anew.
        projection = model.get_output_embeddings()
        if projection is not None:
            projection.register_forward_pre_hook(lambda _, states: (states[0].contiguous(),))
        self._checkpointed: list[GradientCheckpointingLayer] = []
        if self.shares_prefix:
            self._check_prefix()
        if gradient_checkpointing:
            model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
            self._checkpointed = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
            for layer in self._checkpointed:  # these checkpoint in training mode alone, where OPT's drop out themselves
                vars(layer).update({name: 0.0 for name in vars(layer) if name.endswith("dropout")})

    @classmethod
    def of(cls, backbone: "Backbone | str | BackboneId") -> "Backbone":
        """A backbone as it is, or the one of a name or of what a prompt says, loaded.

        Raises:
            BackboneError: it is neither, or cannot be had.
        """
        if isinstance(backbone, Backbone):
            return backbone
        if not isinstance(backbone, str | BackboneId):
            raise BackboneError(f"found {backbone!r:.60} for a backbone; expected one, or the name of one to load")
        return cls.load(backbone)

    @classmethod
    def load(
        cls,
        name: str | BackboneId = "embedded",
        *,
        device: str | None = None,
        dtype: torch.dtype | None = None,
        gradient_checkpointing: bool = False,
    ) -> "Backbone":
        """Load a frozen model.

        Args:
            name: `embedded`, a local folder in Hugging Face layout, or a hub id, as a user gives it; or what a prompt
                says of its backbone, for which nothing is fetched, see `checkpoints.locate`.
            device: where it runs, see `device.placement`.
            dtype: of the weights, likewise. Prompts are float32 everywhere.
            gradient_checkpointing: trade time for memory in training.

        Raises:
            BackboneError: the model cannot be had or is of another kind, or there is no such device.
        """
        place, precision = placement(device, dtype)
        checkpoint = locate(name)
        model, tokenizer = load_model(checkpoint, place, precision)
        return cls(model, tokenizer, checkpoint.id, gradient_checkpointing=gradient_checkpointing)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.model.device

    @property
    def parameters(self) -> int:
        """Number of frozen parameters, each counted once."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    @property
    def max_positions(self) -> int | None:
        """Longest sequence in tokens, prompt included, that the model has positions for; None where it has no end."""
        if self.id.kind == "seq2seq":
            return None
        return getattr(self.model.config, "max_position_embeddings", None)

    def embeddings(self) -> Tensor:
        """The input embedding, [V, D] float32."""
        return self._input_embedding.weight.detach().float()

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids [B, S] to input vectors [B, S, D], through the model's own embedding module."""
        return self._input_embedding(input_ids)

    def prefix(self, prompts: Tensor) -> Prefix:
        """Prepare prompts [R, P, D] for any number of batches; differentiable.

        Returns:
            The prompts with, for causal models that can share them, the keys and values of every layer.
        """
        prompts = prompts.to(self.device)
        # A checkpointed layer runs twice and has no place to keep keys and values in between.
        recomputes = bool(self._checkpointed) and torch.is_grad_enabled()
        if not self.shares_prefix or recomputes or prompts.shape[1] == 0:
            return Prefix(prompts)
        return Prefix(prompts, tuple(_keys_and_values(layer) for layer in self._prefill(prompts).layers))

    def loss(self, batch: Batch, prompts: Tensor | Prefix) -> Tensor:
        """Negative log-probability of each row's target.

        Args:
            batch: B rows with labels [B, T].
            prompts: [R, P, D], or what `prefix` made of them; row b uses prompts[prompt_index[b]]. P may be 0.

        Returns:
            [B] nats, summed over the row's target tokens.
        """
        return _nats(self._target_logits(batch, self._as_prefix(prompts)), batch.labels)

    @torch.no_grad()
    def score(self, batch: Batch, prompts: Tensor | Prefix, choices: Sequence[Sequence[int]]) -> Tensor:
        """Log-probability of every choice as the target of every row; the input is read once a row.

        Args:
            batch: B rows; their labels are not looked at.
            prompts: as for `loss`.
            choices: C sequences of token ids.

        Returns:
            [B, C] nats, summed over the tokens of a choice.
        """
        prefix = self._as_prefix(prompts)
        tree = ChoiceTree.of(choices)
        shared = prefix.length == 0 or prefix.cache is not None
        packs = self.id.kind == "causal" and (not tree.tokens or (shared and self._fits_window(batch, prefix, tree)))
        positions = (1 + len(tree.tokens)) if packs else sum(len(choice) for choice in choices)
        rows = max(1, LOGIT_BYTES // (4 * self.id.vocabulary * positions))
        parts = [batch.rows(start, start + rows) for start in range(0, len(batch.input_ids), rows)]
        if packs:
            return torch.cat([self._score_tree(part, prefix, tree) for part in parts])
        return torch.cat([self._score_each(part, prefix, choices) for part in parts])

    @torch.no_grad()
    def generate(self, batch: Batch, prompts: Tensor | Prefix, max_new_tokens: int) -> list[str]:
        """Greedy continuation of every row, without special tokens.

        Args:
            batch: B rows; their labels are not looked at.
            prompts: as for `loss`.
            max_new_tokens: most tokens to generate a row; a row ends at the end-of-sequence token.
        """
        prefix = self._as_prefix(prompts)
        seq2seq = self.id.kind == "seq2seq"
        if seq2seq:
            memory, mask = self._encode(batch, prefix)
            start = self.model.config.decoder_start_token_id
            token = torch.full_like(batch.input_ids[:, :1], start)
            arguments = {"encoder_outputs": BaseModelOutput(memory), "attention_mask": mask, "decoder_input_ids": token}
        else:
            arguments = self._causal_arguments(batch.aligned("left"), prefix, batch.labels[:, :0])
        position = prefix.length + batch.attention_mask.sum(1, keepdim=True) - 1
        ended = torch.zeros_like(batch.input_ids[:, 0], dtype=torch.bool)
        tokens: list[Tensor] = []
        for _ in range(max_new_tokens):
            output = self._run(self.model, **{**arguments, "use_cache": True})
            token = output.logits[:, -1:].argmax(dim=-1)
            ended |= torch.isin(token[:, 0], self._ends)
            tokens.append(token.masked_fill(ended[:, None], self._ends[0]))
            if ended.all():
                break
            position = position + 1
            arguments["past_key_values"] = output.past_key_values
            if seq2seq:
                arguments["decoder_input_ids"] = token
            else:
                mask = arguments["attention_mask"]
                arguments = {
                    "input_ids": token,
                    "attention_mask": torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1),
                    "position_ids": position,
                    "past_key_values": output.past_key_values,
                }
        return self.tokenizer.batch_decode(torch.cat(tokens, dim=1), skip_special_tokens=True)

    @property
    def _input_embedding(self) -> Any:
        """The model's module from token ids to vectors, with a `weight` [V, D]; its class is the model's own affair."""
        return self.model.get_input_embeddings()

    @property
    def _ends(self) -> Tensor:
        """The end-of-sequence token ids."""
        ends = self.model.generation_config.eos_token_id
        ends = self.tokenizer.eos_token_id if ends is None else ends
        return torch.tensor(ends, device=self.device).reshape(-1)

    def _run(self, module: torch.nn.Module, **arguments: object) -> Any:
        """Call the model or its encoder, with gradient checkpointing exactly where there is a gradient.

        Returns:
            A transformers `ModelOutput`; each kind of model has one of its own.
        """
        for layer in self._checkpointed:
            layer.training = torch.is_grad_enabled()  # of the layer alone: dropout inside stays in evaluation mode
        return module(**arguments)

    def _as_prefix(self, prompts: Tensor | Prefix) -> Prefix:
        return prompts if isinstance(prompts, Prefix) else self.prefix(prompts)

    def _prefill(self, prompts: Tensor) -> DynamicCache:
        """Run prompts [R, P, D] alone through a causal model, keeping keys and values of every layer."""
        cache = DynamicCache(config=self.model.config)
        self._run(
            self.model,
            inputs_embeds=prompts.to(self.model.dtype),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return cache

    def _check_prefix(self) -> None:
        """Share the prefix only if every layer keeps all its positions, with a gradient; else say so, once."""
        probe = self.embeddings()[None, :3].clone().requires_grad_()
        with torch.enable_grad():
            layers = getattr(self._prefill(probe), "layers", [])
        keys = [getattr(layer, "keys", None) for layer in layers]
        whole = [part is not None and part.ndim == 4 and part.shape[2] == 3 and part.requires_grad for part in keys]
        if len(whole) != self.model.config.get_text_config().num_hidden_layers or not all(whole):
            self.shares_prefix = False
            log.warning(
                "%s: the prompt is run once a row: %d of %d layers keep its keys and values with a gradient",
                self.id.name,
                sum(whole),
                len(whole),
            )

    def _fits_window(self, batch: Batch, prefix: Prefix, tree: ChoiceTree | None = None) -> bool:
        """Whether no layer's sliding window is shorter than the whole row."""
        targets = batch.labels.shape[1] if tree is None else tree.depth
        return self._window is None or prefix.length + batch.input_ids.shape[1] + targets <= self._window

    def _target_logits(self, batch: Batch, prefix: Prefix) -> Tensor:
        """Logits [B, T, V] at the positions that predict the T target tokens, and nowhere else."""
        if self.id.kind == "seq2seq":
            memory, mask = self._encode(batch, prefix)
            output = self._run(
                self.model,
                encoder_outputs=BaseModelOutput(memory),
                attention_mask=mask,
                labels=batch.labels,
                use_cache=False,
            )
            return output.logits
        arguments = self._causal_arguments(batch.aligned("left"), prefix, batch.labels[:, :-1])
        return self._run(self.model, **arguments, logits_to_keep=batch.labels.shape[1]).logits

    def _encode(self, batch: Batch, prefix: Prefix) -> tuple[Tensor, Tensor]:
        """Encoder states [B, P + S, D] of prompt and input, and their mask."""
        batch = batch.aligned("right")
        prompts = prefix.vectors.to(self.model.dtype)[batch.prompt_index]
        mask = functional.pad(batch.attention_mask, (prefix.length, 0), value=1)
        vectors = torch.cat([prompts, self.embed(batch.input_ids)], dim=1)
        memory = self._run(self.model.get_encoder(), inputs_embeds=vectors, attention_mask=mask)
        return memory.last_hidden_state, mask

    def _causal_arguments(self, batch: Batch, prefix: Prefix, targets: Tensor) -> dict[str, Any]:
        """What a causal model takes for left-padded rows and target tokens [B, T - 1]; pads cost no position."""
        target_mask = (targets != IGNORED).long()
        ids = torch.cat([batch.input_ids, targets.masked_fill(target_mask == 0, 0)], dim=1)
        text_mask = torch.cat([batch.attention_mask, target_mask], dim=1)
        positions = prefix.length + (text_mask.cumsum(dim=1) - 1).clamp(min=0)
        mask = functional.pad(text_mask, (prefix.length, 0), value=1)
        if prefix.length == 0:
            return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}
        if prefix.cache is not None and self._fits_window(batch, prefix):
            cache = self._expanded(prefix.cache, batch.prompt_index)
            return {
                "input_ids": ids,
                "attention_mask": mask,
                "position_ids": positions,
                "past_key_values": cache,
                "use_cache": True,
            }
        prompts = prefix.vectors.to(self.model.dtype)[batch.prompt_index]
        vectors, mask = prompt_before_text(prompts, self.embed(ids), text_mask)
        positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
        return {"inputs_embeds": vectors, "attention_mask": mask, "position_ids": positions, "use_cache": False}

    def _expanded(self, layers: Sequence[tuple[Tensor, Tensor]], prompt_index: Tensor) -> DynamicCache:
        """A cache for the rows whose keys and values are those of their prompts."""
        cache = DynamicCache(config=self.model.config)
        for layer, (keys, values) in enumerate(layers):
            if len(keys) == 1:
                rows = (len(prompt_index), -1, -1, -1)
                cache.update(keys.expand(rows), values.expand(rows), layer)
            else:
                cache.update(keys[prompt_index], values[prompt_index], layer)
        return cache

    def _score_tree(self, batch: Batch, prefix: Prefix, tree: ChoiceTree) -> Tensor:
        """Score choices that stand behind the text as one tree: a token that choices share is read once a row."""
        batch = batch.aligned("left")
        nodes = len(tree.tokens)
        arguments = self._causal_arguments(batch, prefix, batch.labels[:, :0])
        if nodes:
            tokens = torch.tensor(tree.tokens, device=self.device)[None].expand(len(batch.input_ids), -1)
            depth = torch.tensor(tree.depths, device=self.device)[None]
            arguments["input_ids"] = torch.cat([batch.input_ids, tokens], dim=1)
            last = prefix.length + batch.attention_mask.sum(dim=1, keepdim=True) - 1
            arguments["position_ids"] = torch.cat([arguments["position_ids"], last + depth], dim=1)
            arguments["attention_mask"] = tree_mask(batch.attention_mask, prefix.length, tree, self.model.dtype)
        logits = self._run(self.model, **arguments, logits_to_keep=1 + nodes).logits.float()
        return tree.gather(logits - logits.logsumexp(dim=-1, keepdim=True))

    def _score_each(self, batch: Batch, prefix: Prefix, choices: Sequence[Sequence[int]]) -> Tensor:
        """Score each (row, choice) pair as a target of its own; a seq2seq encoder still runs once a row."""
        rows = len(batch.input_ids)
        longest = max(len(choice) for choice in choices)
        padded = [list(choice) + [IGNORED] * (longest - len(choice)) for choice in choices]
        labels = torch.tensor(padded, device=self.device).repeat(rows, 1)  # [B C, T]
        pairs = torch.arange(rows, device=self.device).repeat_interleave(len(choices))
        if self.id.kind == "seq2seq":
            memory, mask = self._encode(batch, prefix)
            output = self._run(
                self.model, encoder_outputs=BaseModelOutput(memory[pairs]), attention_mask=mask[pairs], labels=labels
            )
            logits = output.logits
        else:
            paired = Batch(
                input_ids=batch.input_ids[pairs],
                attention_mask=batch.attention_mask[pairs],
                labels=labels,
                prompt_index=batch.prompt_index[pairs],
            )
            logits = self._target_logits(paired, prefix)
        return -_nats(logits, labels).reshape(rows, len(choices))


def _nats(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross entropy of logits [B, T, V] with labels [B, T], summed over each row's target tokens: [B]."""
    # Flat, so that the vocabulary is summed along memory: along another axis float32 loses 2e-5 of the loss.
    flat = logits.flatten(0, 1).float()
    losses = functional.cross_entropy(flat, labels.flatten(), ignore_index=IGNORED, reduction="none")
    return losses.reshape(labels.shape).sum(dim=1)


def _keys_and_values(layer: Any) -> tuple[Tensor, Tensor]:
    """Of one layer of a cache that `Backbone._check_prefix` has found fit to be shared."""
    return layer.keys, layer.values


def _sliding_window(model: PreTrainedModel) -> int | None:
    """The shortest sliding window of any layer in tokens, or None."""
    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None)
    if layers is not None and not any("sliding" in kind for kind in layers):
        return None
    return window
