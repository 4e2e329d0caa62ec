"""Draw small tokenizers of every kind, each with a twin by construction that knows no special tokens at all."""

import random
from collections.abc import Iterable
from dataclasses import dataclass

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

KINDS = ("bytes", "bpe", "sentencepiece", "unigram", "wordpiece")
WORDS = ("the", "film", "was", "good", "bad", "yes", "no", "answer", "text", "sentence")
CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:;!?'\"()[]{}<>|/_-+#=&%$*@\n"
SPECIALS = ("<pad>", "<s>", "</s>", "<unk>", "<|endoftext|>", "<|im_start|>", "<extra_id_0>", "<extra_id_1>", "en_XX")
HIDDEN = {name: f"\ufdd0{number}\ufdd0" for number, name in enumerate(SPECIALS)}  # no text spells these
BLANK = "\u2581"


@dataclass(frozen=True)
class Drawn:
    """A tokenizer, and what is known of it by construction.

    Attributes:
        kind: of KINDS.
        tokenizer: as a user brings it.
        twin: the same, made with the names in HIDDEN for its special tokens.
        special: special token -> id.
        before: ids that stand before one text.
        behind: ids that stand behind one text.
        end: the end token's id, or None.
    """

    kind: str
    tokenizer: PreTrainedTokenizerFast
    twin: Tokenizer
    special: dict[str, int]
    before: tuple[int, ...]
    behind: tuple[int, ...]
    end: int | None


def draw(seed: int) -> Drawn:
    """The tokenizer of a number: its kind, its vocabulary, its special tokens and where they stand."""
    chance = random.Random(seed)
    kind = KINDS[seed % len(KINDS)]
    # In the vocabulary of the model, as in SentencePiece's, or added behind it.
    is_inside = kind in ("sentencepiece", "unigram", "wordpiece") or chance.random() < 0.5
    names = chance.sample(SPECIALS, len(SPECIALS))
    state = chance.getstate()
    backend = _model(kind, names if is_inside else [], names.index("<unk>"), chance)
    chance.setstate(state)
    twin = _model(kind, [HIDDEN[name] for name in names] if is_inside else [], names.index("<unk>"), chance)
    is_trimmed = chance.random() < 0.2
    for model, tokens in ((backend, names), (twin, [HIDDEN[name] for name in names])):
        model.add_special_tokens(
            [AddedToken(token, lstrip=is_trimmed, rstrip=is_trimmed, normalized=False) for token in tokens]
        )
    special = {name: backend.token_to_id(name) for name in SPECIALS}
    before = chance.choice([(), ("<s>",), ("</s>",), ("en_XX",), ("<s>", "en_XX")])
    behind = chance.choice([(), ("</s>",), ("</s>", "en_XX"), ("</s>",)])
    if before or behind:
        backend.post_processor = processors.TemplateProcessing(
            single=" ".join([*before, "$A", *behind]),
            pair=" ".join([*before, "$A", "$B", *behind]),
            special_tokens=[(name, special[name]) for name in {*before, *behind}],
        )
    has_end = chance.random() < 0.8
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        unk_token="<unk>",
        model_max_length=10**6,
        clean_up_tokenization_spaces=False,
        **({"bos_token": "<s>"} if chance.random() < 0.5 else {}),
        **({"eos_token": "</s>"} if has_end else {}),
    )
    return Drawn(
        kind,
        tokenizer,
        twin,
        special,
        tuple(special[name] for name in before),
        tuple(special[name] for name in behind),
        special["</s>"] if has_end else (special["</s>"] if behind else None),
    )


def _model(kind: str, names: list[str], unknown: int, chance: random.Random) -> Tokenizer:
    """A tokenizer with these special tokens at the head of its vocabulary, the one for unknown words among them."""
    if kind == "wordpiece":
        known = [*names, *WORDS, *CHARACTERS.strip(), *(f"##{letter}" for letter in CHARACTERS.strip())]
        tokenizer = Tokenizer(models.WordPiece(vocab=_numbered(dict.fromkeys(known)), unk_token=names[unknown]))
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        if chance.random() < 0.5:
            tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.decoder = decoders.WordPiece()
        return tokenizer
    if kind == "unigram":
        pieces = [BLANK, *CHARACTERS.replace(" ", ""), *WORDS, *(BLANK + word for word in WORDS)]
        scores = [(name, 0.0) for name in names]
        scores += [(piece, -8.0 + 3 * (len(piece) > 1) - chance.random()) for piece in dict.fromkeys(pieces)]
        tokenizer = Tokenizer(models.Unigram(scores, unk_id=unknown))
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=chance.choice(["always", "first", "never"]))
        tokenizer.decoder = decoders.Metaspace()
        return tokenizer
    if kind == "sentencepiece":  # BPE over blanks that are characters, as of Llama
        letters = [BLANK, *CHARACTERS.replace(" ", "").replace("\n", ""), *(f"<0x{byte:02X}>" for byte in range(256))]
        # Pieces that join into special tokens, as byte pairs of a real vocabulary do.
        merges = [
            ("<", "s"),
            ("<s", ">"),
            (BLANK, "t"),
            ("h", "e"),
            (BLANK + "t", "he"),
            ("o", "o"),
            ("</", "s"),
            ("<", "/"),
        ]
        merges = chance.sample(merges, len(merges))
        known = [*names, *letters, *(piece for pair in merges if (piece := "".join(pair)) not in SPECIALS)]
        inside = _numbered(dict.fromkeys(known))
        joined = [pair for pair in merges if all(part in inside for part in (*pair, "".join(pair)))]
        tokenizer = Tokenizer(models.BPE(vocab=inside, merges=joined, unk_token=None, byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend(BLANK), normalizers.Replace(" ", BLANK)]
            if chance.random() < 0.7
            else [normalizers.Replace(" ", BLANK)]
        )
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace(BLANK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
        return tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [("Ġ", "t"), ("h", "e"), ("Ġt", "he"), ("<", "s"), ("o", "o"), ("|", ">")] if kind == "bpe" else []
    known = [*names, *alphabet, *("".join(pair) for pair in merges)]
    tokenizer = Tokenizer(models.BPE(vocab=_numbered(known), merges=chance.sample(merges, len(merges))))
    is_split = kind == "bpe" or chance.random() < 0.5
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=is_split)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _numbered(tokens: Iterable[str]) -> dict[str, int]:
    return {token: number for number, token in enumerate(tokens)}
