"""Run a frozen network: gradient checkpointing exactly where there is a gradient, logits only where they are asked for.

Letters: B rows, L tokens in a call, T positions asked for, D width, V vocabulary.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from spot.errors import BackboneError


class Network:
    """A model as the engine calls it."""

    def __init__(self, model: PreTrainedModel, *, gradient_checkpointing: bool = False) -> None:
        """Freeze `model` and take hold of its vocabulary projection.

        Raises:
            BackboneError: gradient checkpointing is asked for, and the model has none.
        """
        self.model = model.eval().requires_grad_(False)
        self.embed_scale = 1.0
        self._at: Tensor | None = None
        self._tokens = 0
        projection = model.get_output_embeddings()
        if projection is not None:
            projection.register_forward_pre_hook(self._pick)
        self._recomputing = True
        self._stretched = [module for module in model.modules() if "dynamic" in str(getattr(module, "rope_type", ""))]
        self._checkpointed: list[GradientCheckpointingLayer] = []
        if gradient_checkpointing:
            self._checkpointed = _checkpoint(model)

    @property
    def device(self) -> torch.device:
        """Where rows are read: that of the embedding, also where its weights wait on a disk."""
        place = getattr(getattr(self.embedding, "_hf_hook", None), "execution_device", None)
        return self.model.device if place is None else torch.empty(0, device=place).device

    @property
    def checkpoints(self) -> bool:
        """Whether layers run twice where there is a gradient."""
        return bool(self._checkpointed)

    @property
    def recomputes(self) -> bool:
        """Whether layers run twice now: such a layer has no place to keep states in between."""
        return self.checkpoints and self._recomputing and torch.is_grad_enabled()

    @contextmanager
    def keeping_activations(self) -> Iterator[None]:
        """Recompute nothing inside, whatever the model was loaded with."""
        self._recomputing = False
        try:
            yield
        finally:
            self._recomputing = True

    @property
    def embedding(self) -> Any:
        """The module from token ids to vectors, with a `weight` [V, D]; its class is the model's own affair."""
        return self.model.get_input_embeddings()

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids [B, L] to the vectors [B, L, D] that stand before the first layer when the model reads the ids."""
        vectors = self.embedding(input_ids)
        return vectors if self.embed_scale == 1.0 else vectors * self.embed_scale

    def run(self, module: torch.nn.Module, **arguments: object) -> Any:
        """Call the model or its encoder.

        Returns:
            A transformers `ModelOutput`; each kind of model has one of its own.
        """
        for layer in self._checkpointed:
            layer.training = self.recomputes  # of the layer alone: dropout inside stays in evaluation mode
        for rotary in self._stretched:
            _forget_longest(rotary)
        return module(**arguments)

    def logits(self, at: Tensor, **arguments: Any) -> tuple[Tensor, Any]:
        """Call the model for the logits at some positions.

        Args:
            at: [B, T] positions among the L tokens of this call.
            arguments: of the model, with `input_ids`, `inputs_embeds` or `decoder_input_ids` of L tokens.

        Returns:
            Logits [B, T, V], and all that the model gave.
        """
        tokens = next(
            arguments[name] for name in ("decoder_input_ids", "input_ids", "inputs_embeds") if name in arguments
        )
        self._at, self._tokens = at, tokens.shape[1]
        try:
            output = self.run(self.model, **arguments)
        finally:
            asked, self._at = self._at, None
        logits = output.logits
        # `_pick` leaves nothing to ask for; a model that projects in another way gives the logits of all its tokens.
        return logits if asked is None else _gathered(logits, at), output

    def beside_vectors(self, input_ids: Tensor) -> dict[str, Tensor]:
        """What a model takes of token ids [B, L] beside their vectors: the second embedding of Gemma 3n, 4, Qwen 4."""
        config = self.model.config.get_text_config(decoder=True)
        if getattr(config, "hidden_size_per_layer_input", None):
            decoder: Any = self.model.get_decoder()
            return {"per_layer_inputs": decoder.get_per_layer_inputs(input_ids)}
        return {"ple_input_ids": input_ids} if getattr(config, "ple_layer_ids", None) else {}

    def takes(self, name: str) -> bool:
        """Whether the model's forward has an argument of that name."""
        return name in inspect.signature(self.model.forward).parameters

    def _pick(self, _: torch.nn.Module, states: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
        """Give the projection the positions that are asked for alone.

        They are contiguous: a slice that is not would be multiplied row by row, each row reading the whole projection.
        """
        if self._at is None or not states or states[0].shape[:-1] != (len(self._at), self._tokens):
            return None
        at, self._at = self._at, None
        return (_gathered(states[0], at), *states[1:])


def _forget_longest(rotary: Any) -> None:
    """Let angles that depend on the longest row so far depend on the rows of this call alone."""
    for name in [name for name in vars(rotary) if name.endswith("max_seq_len_cached")]:
        kind = name.removesuffix("max_seq_len_cached")  # of the layers, where each kind has angles of its own
        setattr(rotary, name, rotary.original_max_seq_len)
        angles = getattr(rotary, f"{kind}inv_freq")
        angles_before = getattr(rotary, f"{kind}original_inv_freq")
        setattr(rotary, f"{kind}inv_freq", angles_before.to(angles.device))


def _gathered(states: Tensor, at: Tensor) -> Tensor:
    """Of states [B, L, D] those at positions [B, T]."""
    return states.gather(1, at[:, :, None].expand(-1, -1, states.shape[-1]))


def _checkpoint(model: PreTrainedModel) -> list[GradientCheckpointingLayer]:
    """Turn gradient checkpointing on; the layers that do it.

    Raises:
        BackboneError: the model has none.
    """
    try:
        model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    except ValueError as error:
        raise BackboneError(
            f"a {model.config.model_type!r} model has no gradient checkpointing; expected a run without "
            "gradient_checkpointing. Leave it out, or take smaller batches."
        ) from error
    layers = [layer for layer in model.modules() if isinstance(layer, GradientCheckpointingLayer)]
    for layer in layers:  # these checkpoint in training mode alone, where OPT's drop out themselves
        vars(layer).update({name: 0.0 for name in vars(layer) if name.endswith("dropout")})
    return layers
