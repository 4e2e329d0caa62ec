"""Build a tiny random model of every family that transformers can load as a language model.

One table of usual field names shrinks most configurations, those inside composites too; a second one holds what is
peculiar to a family. A family whose layers are of several kinds gets one layer of each.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import EncoderDecoderConfig, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerFast
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
    MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
)

WIDTH, VOCABULARY, POSITIONS, WINDOW = 32, 200, 128, 16
PAD, EOS, BOS, UNK, IMAGE = 0, 1, 2, 3, 190
SPREAD = 0.25  # standard deviation of the noise on every weight

# Field of a configuration -> value, wherever a configuration has the field.
SMALL: dict[str, Any] = {
    # width
    **dict.fromkeys(["hidden_size", "d_model", "n_embd", "emb_dim", "dim", "embed_dim", "encoder_hidden_dim"], WIDTH),
    **dict.fromkeys(["attention_hidden_size", "lru_width", "input_embedding_size", "output_embedding_size"], WIDTH),
    **dict.fromkeys(["output_hidden_size", "lang_embed_dim", "spkr_embed_dim", "unit_embed_dim"], WIDTH),
    **dict.fromkeys(["out_hidden_size", "vision_output_dim", "text_hidden_size", "projection_dim"], WIDTH),
    # width of the feed-forward layers
    **dict.fromkeys(["intermediate_size", "ffn_dim", "d_ff", "dim_ff", "dff", "d_inner", "feed_forward_size"], 48),
    **dict.fromkeys(["encoder_ffn_dim", "decoder_ffn_dim", "t2u_encoder_ffn_dim", "t2u_decoder_ffn_dim"], 48),
    **dict.fromkeys(["intermediate_size_mlp", "dense_intermediate_size", "speech_encoder_intermediate_size"], 48),
    **dict.fromkeys(["ffn_hidden_size", "prefix_dense_intermediate_size"], 48),
    **dict.fromkeys(["moe_intermediate_size", "shared_expert_intermediate_size", "shared_intermediate_size"], 24),
    **dict.fromkeys(["expert_ffn_hidden_size", "moe_shared_expert_intermediate_size"], 24),
    "shared_experts_intermediate_size": 24,
    # layers
    **dict.fromkeys(["num_hidden_layers", "n_layer", "n_layers", "num_layers", "depth", "encoder_layers"], 2),
    **dict.fromkeys(["decoder_layers", "num_decoder_layers", "num_encoder_layers", "speech_encoder_layers"], 2),
    **dict.fromkeys(["t2u_encoder_layers", "t2u_decoder_layers", "num_blocks", "num_adapter_layers"], 2),
    **dict.fromkeys(["num_global_layers", "num_layers_per_stack"], 1),
    # heads
    **dict.fromkeys(["num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads"], 4),
    **dict.fromkeys(["encoder_attention_heads", "decoder_attention_heads", "speech_encoder_attention_heads"], 4),
    **dict.fromkeys(["num_encoder_attention_heads", "num_decoder_attention_heads", "swa_num_attention_heads"], 4),
    **dict.fromkeys(["t2u_encoder_attention_heads", "t2u_decoder_attention_heads"], 4),
    **dict.fromkeys(["num_key_value_heads", "swa_num_key_value_heads", "num_kv_heads"], 2),
    **dict.fromkeys(["head_dim", "d_kv", "kv_channels", "attention_head_size", "dim_head", "swa_head_dim"], 8),
    **dict.fromkeys(["d_head", "linear_head_dim", "query_pre_attn_scalar", "mamba_head_dim", "mamba_d_head"], 8),
    **dict.fromkeys(["attention_head_dim", "global_head_dim"], 8),
    "rotary_dim": 4,
    # low-rank attention and its indexer
    **dict.fromkeys(["kv_lora_rank", "q_lora_rank", "o_lora_rank"], 16),
    **dict.fromkeys(["qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"], 8),
    **dict.fromkeys(["index_head_dim", "indexer_head_dim"], 8),
    # Few heads, each cut at zero, would give many keys the same score, and which of them is looked at would be chance.
    **dict.fromkeys(["index_n_heads", "indexer_n_heads"], 16),
    "index_topk": 8,
    # recurrent layers
    **dict.fromkeys(["linear_num_key_heads", "linear_num_value_heads", "linear_num_heads"], 2),
    **dict.fromkeys(["linear_key_head_dim", "linear_value_head_dim"], 8),
    **dict.fromkeys(["mamba_d_state", "state_size", "ssm_state_size"], 8),
    **dict.fromkeys(["mamba_chunk_size", "chunk_size"], 8),
    **dict.fromkeys(["mamba_n_heads", "mamba_num_heads", "n_mamba_heads"], 8),
    "mamba_d_ssm": 64,
    # experts
    **dict.fromkeys(["num_experts", "n_routed_experts", "num_local_experts", "moe_num_experts"], 4),
    **dict.fromkeys(["num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts"], 2),
    **dict.fromkeys(["n_shared_experts", "num_shared_experts", "moe_num_shared_experts"], 1),
    **dict.fromkeys(["n_group", "topk_group"], 1),
    # words
    **dict.fromkeys(["vocab_size", "src_vocab_size", "tgt_vocab_size", "vocab_size_per_layer_input"], VOCABULARY),
    **dict.fromkeys(
        ["unpadded_vocab_size", "char_vocab_size", "t2u_vocab_size", "unit_hifi_gan_vocab_size"], VOCABULARY
    ),
    "type_vocab_size": 2,
    "pad_token_id": PAD,
    "eos_token_id": EOS,
    "bos_token_id": BOS,
    "decoder_start_token_id": BOS,
    "sep_token_id": EOS,
    "forced_eos_token_id": None,
    "forced_bos_token_id": None,
    # positions
    **dict.fromkeys(["max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "context_length"], POSITIONS),
    **dict.fromkeys(["max_encoder_position_embeddings", "max_decoder_position_embeddings"], POSITIONS),
    **dict.fromkeys(["max_source_positions", "max_target_positions", "t2u_max_position_embeddings"], POSITIONS),
    **dict.fromkeys(["sliding_window", "attention_chunk_size", "attention_window_size", "local_attention"], WINDOW),
    **dict.fromkeys(["sliding_window_size", "attention_window", "keep_window_size"], WINDOW),
    # what makes a model larger or other than its equations
    "initializer_range": 0.02,
    "logit_scale": 1.0,
    "use_mamba_kernels": False,
    # pictures and sounds
    "image_size": 32,
    "patch_size": 8,
    "num_mel_bins": 16,
}
SPECIAL = re.compile(r"(image|video|audio|vision|boi|eoi|boa|eoa|timestamp|mask|eod)\w*_(id|index)$")

# Family -> fields that the table above does not know or sets wrongly for it.
SLIDING_THEN_FULL = ["sliding_attention", "full_attention"]
MAMBA_THEN_ATTENTION = ["linear_attention", "full_attention"]
PECULIAR: dict[str, dict[str, Any]] = {
    "bamba": {"attn_layer_indices": [1]},
    "blt": {"encoder_hash_byte_group_vocab": 50, "encoder_hash_byte_group_size": [3, 4]},
    "blt_local_decoder": {"hidden_size_global": WIDTH, "num_key_value_heads": 4},
    "blt_local_encoder": {"hidden_size_global": WIDTH, "num_key_value_heads": 4},
    "bigbird_pegasus": {"block_size": 8, "num_random_blocks": 1},
    "big_bird": {"block_size": 8, "num_random_blocks": 1},
    "cohere_compass_text": {
        "layer_types": SLIDING_THEN_FULL,
        "rope_parameters": {
            kind: {"rope_type": "default", "rope_theta": 10000.0} for kind in ("sliding_attention", "full_attention")
        },
    },
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 48},
    },
    "deepseek_v4": {
        "num_hidden_layers": 3,
        "layer_types": ["sliding_attention", "heavily_compressed_attention", "compressed_sparse_attention"],
        "mlp_layer_types": ["hash_moe", "moe", "moe"],
    },
    **{name: {"layer_types": SLIDING_THEN_FULL} for name in ("dots1", "laguna", "mellum", "ministral", "smollm3")},
    **{name: {"mlp_layer_types": ["dense", "sparse"]} for name in ("cohere2_moe", "minimax_m3_vl_text")},
    "dots3_note_text": {
        **{f"swa_{name}": 4 for name in ("num_attention_heads", "num_key_value_heads")},
        **{f"swa_{name}": 16 for name in ("q_lora_rank", "kv_lora_rank", "head_dim")},
        **{f"swa_{name}": 8 for name in ("qk_nope_head_dim", "v_head_dim")},
    },
    "electra": {"embedding_size": WIDTH},
    "emu3": {"vocabulary_map": {"<image>": IMAGE, "<|extra_200|>": IMAGE + 1, "<|visual token 000000|>": IMAGE + 2}},
    "emu3_vqgan": {"base_channels": 32, "hidden_size": WIDTH, "codebook_size": 8, "channel_multiplier": [1, 1]},
    "gemma3n_text": {
        "layer_types": ["sliding_attention", "full_attention"] * 2,
        "num_hidden_layers": 4,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8,
        "laurel_rank": 8,
        "vocab_size_per_layer_input": VOCABULARY,
        "activation_sparsity_pattern": [0.5, 0.0, 0.0, 0.0],
    },
    "gemma4_text": {"hidden_size_per_layer_input": 8},
    "glm4v_text": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}},
    "got_ocr2_vision": {"output_channels": 16, "mlp_dim": 48, "window_size": 2, "image_size": 64},
    "got_ocr2": {"image_seq_length": 4},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "window_size": WINDOW},
    "granite_speech_encoder": {"hidden_dim": 32, "input_dim": 16, "output_dim": 8, "context_size": 20, "dim_head": 8},
    "granite_speech_plus_encoder": {
        "hidden_dim": 32,
        "input_dim": 16,
        "output_dim": 8,
        "context_size": 20,
        "dim_head": 8,
    },
    "granitemoehybrid": {"layer_types": MAMBA_THEN_ATTENTION},
    "granitemoe_swa": {"layer_types": SLIDING_THEN_FULL},
    "granite_swa": {"layer_types": SLIDING_THEN_FULL},
    "hrm_text": {"num_layers_per_stack": None},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "lfm2": {"layer_types": ["conv", "full_attention"]},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"], "num_dense_layers": 1},
    "llama4_vision_model": {"projector_input_dim": 32, "projector_output_dim": 32, "vision_output_dim": 32},
    "longcat_flash": {"zero_expert_num": 2, "qk_head_dim": 16},
    "longt5": {"local_radius": 7, "decoder_start_token_id": PAD},
    "mamba2": {"num_heads": 8, "n_groups": 2},
    "nemotron_h": {"n_groups": 2},
    "inkling_text": {"logits_mup_width_multiplier": 1.0, "mlp_layer_types": ["dense", "sparse"]},
    "phi4_multimodal_audio": {
        "ext_pw_out_channel": 32,
        "depthwise_separable_out_channel": 32,
        "nemo_conv_channels": 16,
        "input_size": 16,
    },
    "qwen2_5_vl_text": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}},
    "qwen2_vl_text": {"rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}},
    "qwen3_asr_encoder": {"downsample_hidden_size": 8, "output_dim": 32},
    "qwen4_exp_text": {"indexer_kv_heads": 1, "indexer_budget": 8, "indexer_compress_ratio": 2, "hc_lowrank": 8},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "reformer": {
        "attn_layers": ["local", "lsh"],
        "axial_pos_shape": [8, 16],
        "axial_pos_embds_dim": [8, 24],
        "local_attn_chunk_length": 8,
        "lsh_attn_chunk_length": 8,
        "num_buckets": 4,
        "hash_seed": 1,
    },
    "roc_bert": {
        "pronunciation_embed_dim": 8,
        "pronunciation_vocab_size": VOCABULARY,
        "shape_embed_dim": 8,
        "shape_vocab_size": VOCABULARY,
    },
    **{name: {"decoder_start_token_id": PAD} for name in ("mt5", "switch_transformers", "t5", "umt5")},
    "plbart": {"decoder_start_token_id": BOS},
    "xlm": {"causal": True},
    "xlstm": {"hidden_size": 64, "embedding_dim": 64, "v_dim_factor": 1.0, "qk_dim_factor": 1.0},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "linear_attention", "hybrid", "hybrid"],
    },
    "zamba2": {
        "num_hidden_layers": 4,
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    },
    "zaya": {"num_experts_per_tok": 1, "layer_types": ["hybrid", "hybrid_sliding"], "router_hidden_size": 16},
}

VISION = (
    "mistral3 llava llava_next qwen2_vl qwen2_5_vl qwen3_vl paligemma smolvlm idefics3 internvl kimi_k25 glm4v"
).split()
# Family whose part for pictures needs another package -> the class of its text model; the files hold that part alone,
# under the names that the whole has.
WITHOUT_PICTURES = {"gemma3n": "Gemma3nForCausalLM"}
NOT_TRIED = {
    **dict.fromkeys(
        ["gemma4_assistant", "gemma4_unified_assistant"], "drafts for another model, and is none by itself"
    ),
    **dict.fromkeys(["musicgen", "musicgen_melody", "moshi"], "reads and writes codes of sound beside words"),
    **dict.fromkeys(["vibevoice_asr", "nemo_speechlm", "dots3_note"], "its parts do not shrink together"),
}

Kind = Literal["causal", "seq2seq", "decoder", "vision"]


@dataclass(frozen=True)
class Family:
    """One entry of the table.

    Attributes:
        name: the `model_type`, with `@variant` or its kind in brackets behind it where that alone is not enough.
        model_type: of its configuration.
        kind: which of the mappings of transformers names its class; `decoder` is the decoder alone of a
            sequence-to-sequence family.
        settings: fields of the configuration that this entry sets otherwise than its family.
        saved_as: the class whose weights are in the files, where it is not the one that the mapping names.
        generation: settings of its generation_config.json.
    """

    name: str
    model_type: str
    kind: Kind
    settings: Mapping[str, Any] = field(default_factory=dict)
    saved_as: str = ""
    generation: Mapping[str, Any] = field(default_factory=dict)

    @property
    def model_class(self) -> type[PreTrainedModel]:
        """The class that the family's users save."""
        if self.saved_as:
            return getattr(transformers, self.saved_as)
        name = _MAPPINGS[self.kind][self.model_type]
        if self.model_type in WITHOUT_PICTURES:
            return getattr(transformers, WITHOUT_PICTURES[self.model_type])
        if self.kind == "causal" and "text_config" in CONFIG_MAPPING[self.model_type].sub_configs:
            name = MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.get(self.model_type, name)
        return getattr(transformers, name if isinstance(name, str) else name[0])

    def config(self) -> PreTrainedConfig:
        """Its tiny configuration."""
        settings = dict(self.settings)
        names = {part.name for part in dataclasses.fields(CONFIG_MAPPING[self.model_type])}
        if self.kind == "causal" and "is_decoder" in names:
            settings = {"is_decoder": True, **settings}
        return tiny_config(self.model_type, **settings)

    def build(self, seed: int = 0) -> PreTrainedModel:
        """A random model in evaluation mode; the same for the same seed."""
        config = self.config()
        if self.model_type in WITHOUT_PICTURES:
            config = config.get_text_config()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.model_class(config).eval()
            with torch.no_grad():
                for weight in model.parameters():
                    weight += SPREAD * torch.randn_like(weight)
        return model

    def read(self, folder: Path) -> PreTrainedModel:
        """The model that was saved into a folder, as transformers reads it by the class that wrote it."""
        settings = {"config": self.config().get_text_config()} if self.model_type in WITHOUT_PICTURES else {}
        return self.model_class.from_pretrained(folder, **settings).eval()

    def save(self, folder: Path) -> PreTrainedModel:
        """Write a random model and a tokenizer into a folder, as a user has them.

        Returns:
            The model.
        """
        model = self.build()
        if self.model_type in WITHOUT_PICTURES:
            config = self.config()
            config.architectures = [self.model_type.capitalize() + "ForConditionalGeneration"]
            config.save_pretrained(folder)
            weights = {
                name.replace("model.", "model.language_model.", 1): value for name, value in model.state_dict().items()
            }
            tied = weights.pop("lm_head.weight")
            assert tied.data_ptr() == model.get_input_embeddings().weight.data_ptr()
            save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
        else:
            for name, value in self.generation.items():
                setattr(model.generation_config, name, value)
            model.save_pretrained(folder)
        word_tokenizer(self.kind == "seq2seq").save_pretrained(folder)
        return model


def word_tokenizer(ends: bool = False) -> PreTrainedTokenizerFast:
    """One token a word, `w17` for the id 17, so that a text says which ids it was made of.

    Args:
        ends: whether each text ends with the end token, as those of sequence-to-sequence models do.
    """
    vocabulary = {"<pad>": PAD, "</s>": EOS, "<s>": BOS, "<unk>": UNK}
    vocabulary |= {f"w{number}": number for number in range(len(vocabulary), VOCABULARY)}
    tokenizer = Tokenizer(models.WordLevel(vocab=vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if ends:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", EOS)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<s>",
        unk_token="<unk>",
        model_max_length=POSITIONS,
        clean_up_tokenization_spaces=False,
    )


def tiny_config(model_type: str, **settings: Any) -> PreTrainedConfig:
    """The configuration of a tiny model of a family."""
    if model_type == "encoder-decoder":
        return EncoderDecoderConfig.from_encoder_decoder_configs(
            tiny_config("bert"), tiny_config("bert"), decoder_start_token_id=BOS, pad_token_id=PAD, eos_token_id=EOS
        )
    return _shrunk(CONFIG_MAPPING[model_type], settings)


def _shrunk(config_class: type[PreTrainedConfig], settings: Mapping[str, Any]) -> PreTrainedConfig:
    values = {**_small(config_class), **PECULIAR.get(config_class.model_type, {}), **settings}
    inner = _inner(config_class)
    for name in values.keys() & inner.keys():
        values[name] = _shrunk(inner[name], values[name])
    return config_class(**values)


@cache
def _plain(config_class: type[PreTrainedConfig]) -> PreTrainedConfig:
    """A configuration with all its defaults."""
    return config_class()


def _inner(config_class: type[PreTrainedConfig]) -> dict[str, type[PreTrainedConfig]]:
    """The classes of the configurations inside a composite one."""
    parts = {name: getattr(_plain(config_class), name, None) for name in config_class.sub_configs}
    return {name: type(part) for name, part in parts.items() if isinstance(part, PreTrainedConfig)}


def _small(config_class: type[PreTrainedConfig]) -> dict[str, Any]:
    """What the table says about the fields that a class of configurations has."""
    names = {part.name for part in dataclasses.fields(config_class) if part.init}
    values = {name: value for name, value in SMALL.items() if name in names}
    values |= {name: IMAGE for name in names if SPECIAL.search(name)}
    if "kv_lora_rank" in names:  # keys of all heads come from one low-rank vector
        values |= {"num_key_value_heads": 4} if "num_key_value_heads" in names else {}
    values |= {name: {} for name in _inner(config_class)}
    depth = next((name for name in ("num_hidden_layers", "num_layers", "n_layer") if name in values), None)
    lists = _kinds(config_class, names)
    if depth and lists:
        values[depth] = max(2, *(len(kinds) for kinds in lists.values()))
        values |= {name: [kinds[at % len(kinds)] for at in range(values[depth])] for name, kinds in lists.items()}
    return values


def _kinds(config_class: type[PreTrainedConfig], names: set[str]) -> dict[str, list[str]]:
    """Field that lists the kinds of layers -> each kind once, in the order of the layers."""
    plain = _plain(config_class)
    layers = getattr(plain, "num_hidden_layers", None)
    kinds = {}
    for name in sorted(names & {"layer_types", "mlp_layer_types", "layers_block_type", "indexer_types"}):
        listed = getattr(plain, name, None)
        if listed and len(listed) == layers:
            kinds[name] = list(dict.fromkeys(listed))
    return kinds


def _rope(**settings: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_theta": 10000.0, **settings}}


_MAPPINGS: dict[Kind, Mapping[str, Any]] = {
    "causal": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "decoder": MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
    "seq2seq": MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
    "vision": MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
}
_ALTERNATING = {"use_sliding_window": True, "layer_types": ["sliding_attention", "full_attention"]}
_SHORT = 24  # positions that the rotary variants were made for; rows of the tests are shorter and longer
# What the defaults of a family hide, or what its files may lack.
_VARIANTS = (
    Family("qwen2@sliding", "qwen2", "causal", _ALTERNATING),
    Family("mistral@full", "mistral", "causal", {"sliding_window": None}),
    Family("phi3@sliding", "phi3", "causal", {"sliding_window": 6}),
    Family("starcoder2@sliding", "starcoder2", "causal", {"sliding_window": 6}),
    Family("falcon@alibi", "falcon", "causal", {"alibi": True}),
    Family("falcon@new", "falcon", "causal", {"new_decoder_architecture": True}),
    Family("bert@encoder", "bert", "causal", {"is_decoder": False}),
    Family("roberta@encoder", "roberta", "causal", {"is_decoder": False}),
    Family("xlm@encoder", "xlm", "causal", {"causal": False}),
    Family(
        "llama@yarn", "llama", "causal", _rope(rope_type="yarn", factor=4.0, original_max_position_embeddings=_SHORT)
    ),
    Family(
        "llama@dynamic", "llama", "causal", {"max_position_embeddings": _SHORT} | _rope(rope_type="dynamic", factor=4.0)
    ),
    Family(
        "phi3@longrope",
        "phi3",
        "causal",
        {"original_max_position_embeddings": _SHORT}
        | _rope(
            rope_type="longrope",
            short_factor=[1.0] * 4,
            long_factor=[1.0, 2.0, 3.0, 4.0],
            original_max_position_embeddings=_SHORT,
        ),
    ),
    Family("opt@350m", "opt", "causal", {"word_embed_proj_dim": 16, "do_layer_norm_before": False}),
    Family("electra@factored", "electra", "causal", {"embedding_size": 16}),
    Family("bloom@residual", "bloom", "causal", {"apply_residual_connection_post_layernorm": True}),
    Family("t5@gated", "t5", "seq2seq", {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}),
    Family(
        "longt5@tglobal", "longt5", "seq2seq", {"encoder_attention_type": "transient-global", "global_block_size": 4}
    ),
    Family("switch_transformers@capacity", "switch_transformers", "seq2seq", {"expert_capacity": 2}),
    Family("nllb-moe@capacity", "nllb-moe", "seq2seq", {"expert_capacity": 2}),
    Family("bart@scaled", "bart", "seq2seq", {"scale_embedding": True}),
    Family("bart@forced", "bart", "seq2seq", generation={"forced_bos_token_id": 7, "forced_eos_token_id": EOS}),
    Family("big_bird@sparse", "big_bird", "causal", {"attention_type": "block_sparse", "block_size": 4}),
    Family(
        "granite@scaled",
        "granite",
        "causal",
        {
            "embedding_multiplier": 12.0,
            "logits_scaling": 8.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.25,
        },
    ),
    # Real checkpoints that differ from their family's defaults in what a prompt meets.
    Family(
        "llama@llama3",
        "llama",
        "causal",
        _rope(
            rope_type="llama3",
            factor=8.0,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
            original_max_position_embeddings=_SHORT,
        ),
    ),
    Family("llama@linear", "llama", "causal", _rope(rope_type="linear", factor=2.0)),
    Family("llama@tied", "llama", "causal", {"tie_word_embeddings": True}),
    Family("mistral@narrow", "mistral", "causal", {"sliding_window": 3}),
    Family("gpt_oss@narrow", "gpt_oss", "causal", {"sliding_window": 3}),
    Family("gpt_neo@narrow", "gpt_neo", "causal", {"window_size": 3}),
    Family("llama4_text@narrow", "llama4_text", "causal", {"attention_chunk_size": 4}),
    Family("recurrent_gemma@narrow", "recurrent_gemma", "causal", {"attention_window_size": 4}),
    Family("gemma3_text@bidirectional", "gemma3_text", "causal", {"use_bidirectional_attention": True}),
    Family(
        "gemma4_text@shared",
        "gemma4_text",
        "causal",
        {"num_hidden_layers": 4, "layer_types": SLIDING_THEN_FULL * 2, "num_kv_shared_layers": 2},
    ),
    Family("gemma4_text@plain", "gemma4_text", "causal", {"hidden_size_per_layer_input": 0, "attention_k_eq_v": True}),
    Family(
        "gemma4_text@experts",
        "gemma4_text",
        "causal",
        {
            "hidden_size_per_layer_input": 0,
            "enable_moe_block": True,
            "num_experts": 4,
            "top_k_experts": 2,
            "moe_intermediate_size": 24,
        },
    ),
    Family(
        "qwen4_exp_text@ple",
        "qwen4_exp_text",
        "causal",
        {
            "ple_layer_ids": [1],
            "ngram_vocab_size_base": 50,
            "make_ngram_vocab_size_divisible_by": 1,
            "split_ngram_parts": 1,
            "heads_per_ngram": 2,
        },
    ),
    Family("qwen3@sliding", "qwen3", "causal", _ALTERNATING),
    Family(
        "falcon_h1@scaled",
        "falcon_h1",
        "causal",
        {"embedding_multiplier": 5.6, "lm_head_multiplier": 0.4, "key_multiplier": 0.5},
    ),
    Family("granitemoehybrid@recurrent", "granitemoehybrid", "causal", {"layer_types": ["linear_attention"] * 2}),
    Family("lfm2@recurrent", "lfm2", "causal", {"layer_types": ["conv"] * 2}),
    Family(
        "gpt2@inverse", "gpt2", "causal", {"scale_attn_by_inverse_layer_idx": True, "reorder_and_upcast_attn": True}
    ),
    Family("gpt_bigcode@heads", "gpt_bigcode", "causal", {"multi_query": False}),
    Family("gpt_neox@sequential", "gpt_neox", "causal", {"use_parallel_residual": False}),
    Family(
        "falcon@rw",
        "falcon",
        "causal",
        {"alibi": True, "parallel_attn": False, "bias": True, "multi_query": False, "num_kv_heads": 4},
    ),
    Family("deepseek_v2@whole", "deepseek_v2", "causal", {"q_lora_rank": None}),
    Family("xlm@sinusoidal", "xlm", "causal", {"sinusoidal_embeddings": True}),
    *(
        Family(f"{name}@scaled", name, "seq2seq", {"scale_embedding": True})
        for name in ("pegasus", "marian", "mbart", "mvp", "blenderbot", "blenderbot-small")
    ),
    Family(
        "marian@vocabularies",
        "marian",
        "seq2seq",
        {"decoder_vocab_size": 190, "share_encoder_decoder_embeddings": False, "tie_word_embeddings": False},
    ),
    Family("mbart@language", "mbart", "seq2seq", {"decoder_start_token_id": 9}),
    Family("llama@headless", "llama", "causal", saved_as="LlamaModel"),
    Family("t5@encoder", "t5", "seq2seq", saved_as="T5EncoderModel"),
)


def _families() -> dict[str, Family]:
    causal, seq2seq = _MAPPINGS["causal"], _MAPPINGS["seq2seq"]
    entries = []
    for name in causal:
        if name in seq2seq and causal[name] != seq2seq[name]:
            entries.append(Family(f"{name} (decoder)", name, "decoder"))
        else:
            entries.append(Family(name, name, "causal"))
    for name in seq2seq:
        both = name in causal and causal[name] == seq2seq[name]
        entries.append(Family(f"{name} (seq2seq)" if both else name, name, "seq2seq"))
    entries += [Family(name, name, "vision") for name in VISION]
    return {entry.name: entry for entry in (*entries, *_VARIANTS) if entry.model_type not in NOT_TRIED}


FAMILIES = _families()
