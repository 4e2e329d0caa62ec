"""Tiny models with tokenizers of each kind, and prompts for them, that the tests of exports start from."""

from pathlib import Path

import numpy as np
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

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
