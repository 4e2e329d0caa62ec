"""Name models by their shape alone, for estimates: configurations as their makers publish them, and no weights."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from transformers import Gemma3TextConfig, LlamaConfig, PreTrainedConfig, T5Config


def _t5(width: int, inner: int, layers: int, heads: int) -> PreTrainedConfig:
    """T5 1.1, whose checkpoints after language model adaptation the paper tunes."""
    more: dict[str, Any] = {"tie_word_embeddings": False, "decoder_start_token_id": 0}
    return T5Config(
        vocab_size=32128,
        d_model=width,
        d_kv=64,
        d_ff=inner,
        num_layers=layers,
        num_heads=heads,
        feed_forward_proj="gated-gelu",
        architectures=["T5ForConditionalGeneration"],
        **more,
    )


def _llama(width: int, inner: int, layers: int, heads: int, states: int, vocabulary: int = 128256) -> PreTrainedConfig:
    """Llama 3, and what is built like it."""
    return LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=inner,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=states,
        max_position_embeddings=8192,
        tie_word_embeddings=width < 4096,
        architectures=["LlamaForCausalLM"],
    )


def _gemma_270m() -> PreTrainedConfig:
    return Gemma3TextConfig(
        vocab_size=262144,
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        sliding_window=512,
        query_pre_attn_scalar=256,
        architectures=["Gemma3ForCausalLM"],
    )


SHAPES: Mapping[str, Callable[[], PreTrainedConfig]] = {
    "t5-small": partial(_t5, 512, 1024, 8, 6),
    "t5-base": partial(_t5, 768, 2048, 12, 12),
    "t5-large": partial(_t5, 1024, 2816, 24, 16),
    "t5-xl": partial(_t5, 2048, 5120, 24, 32),
    "t5-xxl": partial(_t5, 4096, 10240, 24, 64),
    "smollm2-135m": partial(_llama, 576, 1536, 30, 9, 3, 49152),
    "gemma-270m": _gemma_270m,
    "llama-1b": partial(_llama, 2048, 8192, 16, 32, 8),
    "llama-8b": partial(_llama, 4096, 14336, 32, 32, 8),
    "llama-70b": partial(_llama, 8192, 28672, 80, 64, 8),
}
