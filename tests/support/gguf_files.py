"""Write tiny models as GGUF files, as llama.cpp's converter does."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gguf import MODEL_ARCH, GGMLQuantizationType, GGUFWriter, TokenType, get_tensor_name_map
from gguf.quants import quantize
from transformers import PreTrainedModel, PreTrainedTokenizerFast

ARCHITECTURES = {"llama": MODEL_ARCH.LLAMA, "qwen2": MODEL_ARCH.QWEN2}


def write_gguf(
    path: Path,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerFast,
    *,
    blocks: GGMLQuantizationType = GGMLQuantizationType.F32,
    architecture: str = "",
    words: str = "gpt2",
    tokens: Sequence[str] | None = None,
    more: Mapping[str, int] | None = None,
) -> Path:
    """Write a tiny model of `tiny_models` to `path`.

    Args:
        path: of the file.
        model: a tiny Llama or Qwen 2.
        tokenizer: with a token a byte.
        blocks: how the matrices of the layers are stored.
        architecture: what the file says that it is, where that is not the truth.
        words: the kind that the file says its tokenizer is of.
        tokens: the vocabulary, where it is not that of the tokenizer.
        more: further fields.
    """
    config: Any = model.config
    writer = GGUFWriter(path, architecture or config.model_type)
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_vocab_size(config.vocab_size)
    for key, number in (more or {}).items():
        writer.add_uint32(key, number)
    known = sorted(tokenizer.get_vocab().items(), key=lambda entry: entry[1])
    spelled = list(tokens or [word for word, _ in known])
    spelled += [f"[PAD{number}]" for number in range(len(spelled), config.vocab_size)]
    special = set(tokenizer.all_special_ids)
    writer.add_tokenizer_model(words)
    writer.add_tokenizer_pre("default")
    writer.add_token_list(spelled)
    writer.add_token_types([TokenType.CONTROL if n in special else TokenType.NORMAL for n in range(len(spelled))])
    writer.add_token_scores([0.0] * len(spelled))  # merges would be made of these, and one byte has none
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_unk_token_id(tokenizer.unk_token_id)
    names = get_tensor_name_map(ARCHITECTURES[config.model_type], config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        numbers = tensor.numpy().astype(np.float32)
        if config.model_type == "llama" and name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config.num_attention_heads if "q_proj" in name else config.num_key_value_heads
            numbers = _interleaved(numbers, heads)
        base, _, ending = name.rpartition(".")
        spelled_name = names.get_name(base)
        assert spelled_name is not None, name
        fits = numbers.ndim == 2 and numbers.shape[1] % 32 == 0
        if fits and blocks != GGMLQuantizationType.F32:
            writer.add_tensor(f"{spelled_name}.{ending}", quantize(numbers, blocks), raw_dtype=blocks)
        else:
            writer.add_tensor(f"{spelled_name}.{ending}", numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _interleaved(matrix: np.ndarray, heads: int) -> np.ndarray:
    """The rows of each head as llama.cpp rotates them: pairs beside each other, and not half a head apart."""
    rows, width = matrix.shape
    return matrix.reshape(heads, 2, rows // heads // 2, width).swapaxes(1, 2).reshape(rows, width)
