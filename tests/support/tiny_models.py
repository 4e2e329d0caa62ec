"""Build tiny frozen models of each family, two layers of width 32, and a tokenizer with one token a byte."""

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    T5Config,
)

FAMILIES = ("t5", "t5v11", "llama", "gpt2", "opt", "qwen2", "gemma2")
SEQ2SEQ = ("t5", "t5v11")
VOCABULARY = 300  # rows of the embedding: the tokenizer's 259 tokens, then rows that no text reaches, as T5 has them
POSITIONS = 512
PAD, EOS, UNK = "<pad>", "</s>", "<unk>"

IDS = {"pad_token_id": 0, "eos_token_id": 1, "bos_token_id": 1, "vocab_size": VOCABULARY}
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.15,  # wide enough that a wrong mask or position moves the loss
    "tie_word_embeddings": True,
}
T5 = {"d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4, "decoder_start_token_id": 0}


def tiny_config(family: str) -> PreTrainedConfig:
    """The configuration of a two-layer model of a family, width 32, without dropout."""
    match family:
        case "t5":
            return T5Config(**IDS, **T5, feed_forward_proj="relu", dropout_rate=0.0)
        case "t5v11":
            return T5Config(**IDS, **T5, feed_forward_proj="gated-gelu", dropout_rate=0.0, tie_word_embeddings=False)
        case "llama":
            return LlamaConfig(**IDS, **SMALL)
        case "qwen2":
            return Qwen2Config(**IDS, **SMALL)
        case "gemma2":
            # Every other layer looks back 8 positions only: the case where the prompt's keys are dropped.
            return Gemma2Config(**IDS, **SMALL, head_dim=8, query_pre_attn_scalar=8, sliding_window=8)
        case "gpt2":
            return GPT2Config(
                **IDS,
                n_embd=32,
                n_layer=2,
                n_head=4,
                n_positions=POSITIONS,
                initializer_range=0.15,
                resid_pdrop=0.0,
                embd_pdrop=0.0,
                attn_pdrop=0.0,
            )
        case "opt":
            return OPTConfig(
                **IDS,
                hidden_size=32,
                word_embed_proj_dim=32,
                ffn_dim=48,
                num_hidden_layers=2,
                num_attention_heads=4,
                max_position_embeddings=POSITIONS,
                init_std=0.15,
                dropout=0.0,
            )
    raise ValueError(f"no tiny model of the family {family!r}; known: {', '.join(FAMILIES)}")


def byte_tokenizer(family: str = "llama") -> PreTrainedTokenizerFast:
    """One token a byte, ids 3 to 258 after pad, end and unknown; the T5 family ends each text as T5's own does."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([PAD, EOS, UNK, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    if family in SEQ2SEQ:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"$A {EOS}", pair=f"$A {EOS} $B {EOS}", special_tokens=[(EOS, 1)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNK,
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )
