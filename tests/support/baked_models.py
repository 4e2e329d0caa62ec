"""Tiny models with tokenizers of each kind, and prompts for them, that the tests of exports start from."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AlbertTokenizer,
    GemmaTokenizer,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
    T5Tokenizer,
)

from spot.models.checkpoints import locate
from spot.prompts.prompt import SoftPrompt
from spot.reading import Reading

READING = Reading(template="w9 {text}", cue=" w7", labels=(("one", "w20"), ("two", "w21"), ("three", "w22 w23")))
TEXT = "w11 w12 w13"
SENTENCES = ["The film is good.", "yes: 12 of them", "été 東京", "two  blanks", "Is it? No!\nNever."] * 3
MARK = "\u2581"


def prompts_for(folder: Path, sizes: dict[str, int], reading: Reading = READING) -> list[SoftPrompt]:
    """A prompt of random vectors a task."""
    backbone = locate(str(folder)).id
    generator = np.random.default_rng(0)
    return [
        SoftPrompt(
            value=generator.normal(size=(size, backbone.width)).astype(np.float32),
            backbone=backbone,
            task=task,
            step=1,
            reading=reading,
            scores={"accuracy": 91.25},
        )
        for task, size in sizes.items()
    ]


def tokenizers() -> dict[str, PreTrainedTokenizerFast]:
    """Tokenizers with the rules for the beginning of a text that models have, each with a begin token."""
    characters = sorted(
        {letter for text in SENTENCES for letter in text} | set("abcdefghijklmnopqrstuvwxyzYHN-_.:?!,0123456789w ")
    )
    special = ["<unk>", "<s>", "</s>"]
    plain = {token: number for number, token in enumerate([*special, MARK, *characters])}
    table = {token: number for number, token in enumerate([*special, *sorted(pre_tokenizers.ByteLevel.alphabet())])}

    def of(model: models.Model, **parts: object) -> PreTrainedTokenizerFast:
        backend = Tokenizer(model)
        for name, part in parts.items():
            setattr(backend, name, part)
        backend.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
        return PreTrainedTokenizerFast(
            tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>", model_max_length=512
        )

    def pieces() -> models.BPE:
        return models.BPE(vocab=plain, merges=[], unk_token="<unk>")

    def byte_pieces() -> models.BPE:
        return models.BPE(vocab=table, merges=[], unk_token="<unk>")

    def marked(scheme: str) -> pre_tokenizers.PreTokenizer:
        return pre_tokenizers.Metaspace(replacement=MARK, prepend_scheme=scheme)

    return {
        "bytes": of(
            byte_pieces(), pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False), decoder=decoders.ByteLevel()
        ),
        "bytes with a blank": of(
            byte_pieces(), pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True), decoder=decoders.ByteLevel()
        ),
        "nfc": of(
            byte_pieces(), normalizer=normalizers.NFC(), pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=False)
        ),
        "lower case": of(
            pieces(),
            normalizer=normalizers.Sequence([normalizers.Lowercase(), normalizers.NFD()]),
            pre_tokenizer=marked("always"),
        ),
        "mark always": of(pieces(), pre_tokenizer=marked("always")),
        "mark first": of(pieces(), pre_tokenizer=marked("first")),
        "mark never": of(pieces(), pre_tokenizer=marked("never")),
        "mark by rule": of(
            pieces(), normalizer=normalizers.Sequence([normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)])
        ),
        "unigram": of(
            models.Unigram([(token, -float(number)) for token, number in plain.items()], unk_id=0),
            pre_tokenizer=marked("always"),
        ),
    }


def tokenizers_of_families() -> dict[str, PreTrainedTokenizerBase]:
    """Tokenizers as transformers builds them for families, with few words."""
    letters = sorted({letter for text in SENTENCES for letter in text} | set("abcdefghijklmnopqrstuvwxyz"))
    pieces = [MARK, *(f"<0x{byte:02X}>" for byte in range(256)), *letters]
    table = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]

    def numbered(*special: str) -> dict[str, int]:
        return {token: number for number, token in enumerate((*special, *pieces))}

    def scored(*special: str) -> list[tuple[str, float]]:
        return [(token, -float(number)) for token, number in numbered(*special).items()]

    llama = numbered("<unk>", "<s>", "</s>")
    return {
        "llama": LlamaTokenizer(vocab=llama, merges=[], add_bos_token=True),
        "llama as it was": LlamaTokenizer(vocab=llama, merges=[], legacy=True),
        "gemma": GemmaTokenizer(vocab=numbered("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"), merges=[]),
        "t5": T5Tokenizer(vocab=scored("<pad>", "</s>", "<unk>"), extra_ids=3),
        "albert": AlbertTokenizer(vocab=scored("<pad>", "<unk>", "[CLS]", "[SEP]", "[MASK]")),
        "qwen2": Qwen2Tokenizer(vocab={token: number for number, token in enumerate(table)}, merges=[]),
    }
