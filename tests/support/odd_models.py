"""Tiny causal models that break one habit of others each, for what compares numbers and for what falls back."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    BloomConfig,
    FalconH1Config,
    GPTNeoConfig,
    Lfm2Config,
    LlamaConfig,
    MptConfig,
    PegasusConfig,
    PreTrainedConfig,
    RobertaConfig,
)

from spot.models.backbone import Backbone
from spot.prompts.prompt import BackboneId
from tests.support.tiny_models import byte_tokenizer

HABITS = ("convolution", "hybrid", "alibi", "alibi_by_key", "window", "late_positions")
WORDS = {"vocab_size": 300, "pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1}
LAYERS: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
}
SPREAD = {"initializer_range": 0.15}


def convolution() -> PreTrainedConfig:
    """A layer that keeps a convolution's state, and one of attention."""
    return Lfm2Config(**WORDS, **LAYERS, **SPREAD, layer_types=["conv", "full_attention"], conv_L_cache=3)


def hybrid() -> PreTrainedConfig:
    """Both a recurrent state and keys in every layer."""
    mamba = {"mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 8}
    return FalconH1Config(**WORDS, **LAYERS, **SPREAD, **mamba, mamba_n_groups=1, head_dim=8)


def alibi() -> PreTrainedConfig:
    """Distances by index, whatever the mask says; no mask of four dimensions."""
    return BloomConfig(
        **WORDS, **SPREAD, hidden_size=32, n_layer=2, n_head=4, hidden_dropout=0.0, attention_dropout=0.0
    )


def alibi_by_key() -> PreTrainedConfig:
    """Distances by the index of the key."""
    return MptConfig(vocab_size=300, d_model=32, n_layers=2, n_heads=4, max_seq_len=64, **SPREAD)


def window() -> PreTrainedConfig:
    """Every other layer sees 16 tokens back, and says so under a name of its own."""
    return GPTNeoConfig(
        **WORDS,
        **SPREAD,
        hidden_size=32,
        num_layers=2,
        num_heads=4,
        attention_types=[[["global", "local"], 1]],
        window_size=16,
        max_position_embeddings=512,
        resid_dropout=0.0,
        embed_dropout=0.0,
        attention_dropout=0.0,
    )


def late_positions() -> PreTrainedConfig:
    """Positions begin behind that of the pad token."""
    layers = {key: value for key, value in LAYERS.items() if key != "num_key_value_heads"}
    dropout = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    return RobertaConfig(**WORDS | {"pad_token_id": 2}, **layers, **SPREAD, **dropout, is_decoder=True)


def encoder() -> PreTrainedConfig:
    """Sees later tokens."""
    config = late_positions()
    config.is_decoder = False
    return config


def stretched() -> PreTrainedConfig:
    """Angles of positions that depend on the longest row of a call, beyond 24 tokens."""
    rope = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 100.0, "original_max_position_embeddings": 24}
    return LlamaConfig(**WORDS, **LAYERS | {"max_position_embeddings": 24}, **SPREAD, rope_parameters=rope)


def scaled_seq2seq() -> PreTrainedConfig:
    """Multiplies the vectors of token ids outside its embedding module."""
    layers = {"encoder_layers": 2, "decoder_layers": 2, "encoder_attention_heads": 4, "decoder_attention_heads": 4}
    dropout = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
    sizes = {"d_model": 32, "encoder_ffn_dim": 48, "decoder_ffn_dim": 48, "max_position_embeddings": 64}
    return PegasusConfig(
        **WORDS, **layers, **dropout, **sizes, init_std=0.15, scale_embedding=True, decoder_start_token_id=0
    )


def plain_nats(model: Any, prompt: Tensor, text: list[int], target: list[int]) -> Tensor:
    """Negative log-probabilities [T] of a causal row, alone: prompt vectors [P, D] before its embedded text."""
    vectors = torch.cat([prompt, model.get_input_embeddings()(torch.tensor(text + target[:-1]))])[None]
    logits = model(inputs_embeds=vectors, use_cache=False).logits[0, -len(target) :].float()
    return torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="none")


def model_of(config: PreTrainedConfig) -> Any:
    """A model with random weights, always the same."""
    torch.manual_seed(0)
    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    return auto.from_config(config).eval()


def backbone_of(habit: str) -> Backbone:
    """The model with a habit as a backbone."""
    config = globals()[habit]()
    kind = "seq2seq" if config.is_encoder_decoder else "causal"
    return Backbone(model_of(config), byte_tokenizer(), BackboneId(habit, kind, 32, 300, "0"))
