"""Embed, compute losses, score and generate on a frozen model with a soft prompt in front of every row.

Letters: B rows, S input tokens, T target tokens, P prompt tokens, D width, R prompts in one call, C choices,
V vocabulary.

What a row's numbers are is decided by the model alone: one row, unpadded, read from left to right. `models.probe`
compares the ways of computing them on the model at hand, and the fastest exact ones are gone.
"""

import logging
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from spot.errors import BackboneError
from spot.models.attention import widen_attention
from spot.models.batch import Batch, Prefix, choice_pairs, unpaired
from spot.models.causal import CausalRows
from spot.models.checkpoints import locate
from spot.models.choice_tree import ChoiceTree
from spot.models.decoding import Decoder
from spot.models.device import default_precision, is_spread, placement
from spot.models.loading import load_model
from spot.models.network import Network
from spot.models.positions import edges, most_positions, table_positions
from spot.models.probe import probe
from spot.models.probed import recall, remember
from spot.models.prompt_states import joined_states, keeps_positions
from spot.models.seq2seq import Seq2SeqRows
from spot.models.ways import Ways
from spot.prompts.prompt import BackboneId

log = logging.getLogger(__name__)

ENDED, LOST = -1, -2  # in place of a token: behind a row's end, and where the model's numbers are not finite
LOGIT_BYTES = 256 * 2**20  # most bytes of float32 logits that scoring holds at a time
SMALL_TREE = 8  # nodes of a tree of choices up to which rows with and without one are read together


class Backbone:
    """A frozen language model, its tokenizer and its identity. No parameter of it ever receives a gradient."""

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        backbone_id: BackboneId,
        *,
        gradient_checkpointing: bool = False,
        remembers: bool = False,
        quantise: str | None = None,
    ):
        """Freeze `model` and find the exact ways to compute its rows. `Backbone.load` is the usual way to make one.

        Args:
            model: a seq2seq or causal language model with its head.
            tokenizer: its tokenizer.
            backbone_id: what prompts tuned here will name.
            gradient_checkpointing: recompute activations in the backward pass: less memory, about a third more time.
            quantise: what its linear layers were made while it was loaded; None where the files say all.
            remembers: the id's fingerprint is that of the model's files, so the user's cache may say what was compared.

        Raises:
            BackboneError: the model sees later tokens, or no way to put a prompt before its rows is exact.
        """
        self.model = model
        self.tokenizer = tokenizer
        self.id = backbone_id
        self.quantise = quantise
        self._network = Network(model, gradient_checkpointing=gradient_checkpointing)
        self._rows = Seq2SeqRows(self._network) if backbone_id.kind == "seq2seq" else CausalRows(self._network)
        self.edges = edges(model)
        self._table = table_positions(model)
        self._ways: dict[int, Ways] = {}
        self._said: set[str] = set()
        self._remembers = remembers
        self.ways_for(0)

    @classmethod
    def of(
        cls, backbone: "Backbone | str | BackboneId", quantise: str | None = None, dtype: str | None = None
    ) -> "Backbone":
        """A backbone as it is, or the one of a name or of what a prompt says, loaded with `quantise` and `dtype`.

        Raises:
            BackboneError: it is neither, or cannot be had.
        """
        if isinstance(backbone, Backbone):
            return backbone
        if not isinstance(backbone, str | BackboneId):
            raise BackboneError(f"found {backbone!r:.60} for a backbone; expected one, or the name of one to load")
        return cls.load(backbone, quantise=quantise, dtype=dtype)

    @classmethod
    def load(
        cls,
        name: str | BackboneId = "embedded",
        *,
        device: str | None = None,
        dtype: torch.dtype | str | None = None,
        gradient_checkpointing: bool = False,
        quantise: str | None = None,
    ) -> "Backbone":
        """Load a frozen model.

        Args:
            name: `embedded`, a local folder in Hugging Face layout, a GGUF file or a folder with one, or a hub id, as a
                user gives it; or what a prompt says of its backbone, for which nothing is
                fetched, see `checkpoints.locate`.
            device: where it runs, see `device.placement`.
            dtype: of the weights, likewise. Prompts are float32 everywhere.
            gradient_checkpointing: trade time for memory in training.
            quantise: `4bit` or `8bit`: the linear layers hold their numbers in so many bits (bitsandbytes).

        Raises:
            BackboneError: the model cannot be had or is of another kind, or there is no such device.
            MissingExtra: the package that quantises is not installed.
        """
        place, precision = placement(device, dtype)
        checkpoint = locate(name)
        model, tokenizer = load_model(checkpoint, place, precision, quantise, spread=is_spread(device))
        widen_attention(model)
        return cls(
            model,
            tokenizer,
            checkpoint.id,
            gradient_checkpointing=gradient_checkpointing,
            remembers=True,
            quantise=quantise,
        )

    @property
    def device(self) -> torch.device:
        """Where rows are read: of weights that are spread over several devices the first."""
        return self._network.device

    @property
    def precision(self) -> str | None:
        """The precision of the weights that are not quantised; None where it is the device's default."""
        dtype = self.model.dtype
        return None if dtype == default_precision(self.device) else str(dtype).removeprefix("torch.")

    @property
    def parameters(self) -> int:
        """Number of frozen parameters, each counted once; two that share a byte count as two."""
        return self.model.num_parameters()

    @property
    def trains(self) -> bool:
        """Whether its weights could be trained: those of quantised layers cannot."""
        return getattr(self.model, "hf_quantizer", None) is None

    @property
    def max_positions(self) -> int | None:
        """Longest sequence in tokens, prompt included, that the model has positions for; None where it has no end."""
        return most_positions(self.model)

    @property
    def shares_prefix(self) -> bool:
        """Whether what the layers keep of a prompt is computed once for all its rows."""
        return self.ways_for(0).shares

    def ways_for(self, tokens: int) -> Ways:
        """The exact ways to compute rows of so many tokens, prompt included; compared at the first such row.

        Behind the lengths that `positions.edges` names, where a window or a chunk of the model ends, the numbers are
        compared anew.

        Raises:
            BackboneError: the model has no positions for them, or no way is exact.
        """
        crossed = bisect_left(self.edges, tokens)
        if crossed not in self._ways:
            beyond = self.edges[crossed - 1] if crossed else 0
            self._ways[crossed] = ways = self._compared(beyond)
            for note in ways.notes:
                slower = note.partition(":")[0]
                if slower not in self._said:
                    self._said.add(slower)
                    where = f", rows of more than {beyond} tokens" if beyond else ""
                    log.warning("%s%s: %s", self.id.name, where, note)
        return self._ways[crossed]

    def embeddings(self) -> Tensor:
        """What the model's first layer is given for each token id, [V, D] float32."""
        ids = torch.arange(self.id.vocabulary, device=self.device)
        return self._network.embed(ids[None])[0].detach().float()

    def embed(self, input_ids: Tensor) -> Tensor:
        """Token ids [B, S] to the vectors [B, S, D] that the model's first layer is given for them."""
        return self._network.embed(input_ids)

    def behind(self, prompt: Tensor, input_ids: Tensor) -> dict[str, Tensor]:
        """What the model's body is given for token ids [B, S] behind a prompt [P, D]: vectors [B, P + S, D], and more.

        The body is the encoder of a seq2seq model. Where a model looks token ids up a second time, the tokens of the
        prompt have the first id's entry there.
        """
        vectors = self.embed(input_ids)
        prompts = prompt.to(vectors)[None].expand(len(input_ids), -1, -1)
        ids = functional.pad(input_ids, (len(prompt), 0))
        beside = self._network.beside_vectors(ids) if self.id.kind == "causal" else {}
        return {"inputs_embeds": torch.cat([prompts, vectors], dim=1), **beside}

    def prefix(self, prompts: Tensor) -> Prefix:
        """Prepare prompts [R, P, D] for any number of batches; differentiable.

        Returns:
            The prompts with, for causal models that can share it, what every layer keeps of them.
        """
        prompts = prompts.to(self.device)
        if prompts.shape[1] == 0 or self._network.recomputes or not self.shares_prefix:
            return Prefix(prompts)
        return self._rows.prefix(prompts)

    def loss(self, batch: Batch, prompts: Tensor | Prefix) -> Tensor:
        """Negative log-probability of each row's target.

        Args:
            batch: B rows with labels [B, T].
            prompts: [R, P, D], or what `prefix` made of them; row b uses prompts[prompt_index[b]]. P may be 0.

        Returns:
            [B] nats, summed over the row's target tokens.
        """
        prefix = self._as_prefix(prompts)
        ways = self._ways_of(batch, prefix, batch.labels.shape[1])
        return batch.in_groups(ways.together, lambda part: self._rows.nats(part, prefix, ways).sum(dim=1))

    @torch.no_grad()
    def score(self, batch: Batch, prompts: Tensor | Prefix, choices: Sequence[Sequence[int]]) -> Tensor:
        """Log-probability of every choice as the target of every row.

        Args:
            batch: B rows; their labels are not looked at.
            prompts: as for `loss`.
            choices: C sequences of token ids.

        Returns:
            [B, C] nats, summed over the tokens of a choice.
        """
        return self.score_each(replace(batch, choice_index=None), prompts, [choices])

    @torch.no_grad()
    def score_each(
        self, batch: Batch, prompts: Tensor | Prefix, choice_sets: Sequence[Sequence[Sequence[int]]]
    ) -> Tensor:
        """Log-probability of each row's own choices as its target: rows of several tasks in one call.

        Args:
            batch: B rows; `choice_index` says which set of choices each of them has.
            prompts: as for `loss`.
            choice_sets: sets of sequences of token ids.

        Returns:
            [B, C] nats, C choices in the largest set; 0 behind the choices of a row with fewer.
        """
        prefix = self._as_prefix(prompts)
        trees = [ChoiceTree.of(choices) for choices in choice_sets]
        batch = replace(batch, labels=batch.labels[:, :0])
        widest = max(map(len, choice_sets))
        scores, groups = [], _of_like_size([len(trees[number].tokens) for number in batch.choices()])
        for group in groups:
            rows = batch.rows(torch.tensor(group, device=batch.input_ids.device))
            sizes = [len(trees[number].tokens) for number in rows.choices()]
            ways = self._ways_of(rows, prefix, max(sizes))
            score, positions = self._scoring(prefix, choice_sets, trees, max(sizes), ways)
            most = max(1, LOGIT_BYTES // (4 * self.id.vocabulary * positions))
            for start in range(0, len(group), most):
                part = rows.rows(slice(start, start + most)).in_groups(ways.together, score)
                scores.append(functional.pad(part, (0, widest - part.shape[1])))
        order = torch.tensor([row for group in groups for row in group], device=batch.input_ids.device)
        return torch.cat(scores)[order.argsort()]

    @torch.no_grad()
    def generate(
        self, batch: Batch, prompts: Tensor | Prefix, max_new_tokens: int, end: int | None = None
    ) -> list[str | None]:
        """Greedy continuation of every row, without special tokens.

        Args:
            batch: B rows; their labels are not looked at.
            prompts: as for `loss`.
            max_new_tokens: most tokens to generate a row.
            end: the token that ended the answers in training; a row ends there, and where the model's own generation
                would end.

        Returns:
            B texts; None for a row where the model's numbers are not finite.
        """
        prefix = self._as_prefix(prompts)
        ways = self._ways_of(batch, prefix, max_new_tokens)
        batch = replace(batch, labels=batch.labels[:, :0])
        ends = self._ends(end)
        tokens = batch.in_groups(
            ways.rows_that_generate, lambda part: self._greedy(part, prefix, ways, max_new_tokens, ends)
        )
        texts = []
        for row in tokens.tolist():
            known = [token for token in row if token >= 0]
            texts.append(None if LOST in row else self.tokenizer.decode(known, skip_special_tokens=True))
        return texts

    def decoder(self) -> Decoder:
        """What generates rows token by token, while others join and leave."""
        return Decoder(self._rows, self._ways_of, self.ways_for)

    def join_prefixes(self, prefixes: Sequence[Prefix]) -> Prefix:
        """Prompts of one length that were prepared one by one, as one: row b of a batch then uses `prompt_index[b]`.

        Where a model keeps more of a prompt than keys and values, its states are computed anew.
        """
        if len(prefixes) == 1:
            return prefixes[0]
        vectors = torch.cat([prefix.vectors for prefix in prefixes])
        states = [prefix.states for prefix in prefixes if prefix.states is not None]
        if len(states) == len(prefixes) and all(map(keeps_positions, states)):
            return Prefix(vectors, joined_states(states))
        return self.prefix(vectors)

    def ends(self, trained: int | None = None) -> tuple[int, ...]:
        """The token ids that end a row: that of training, those of the model's own generation, or the tokenizer's."""
        return tuple(self._ends(trained).tolist())

    def _ends(self, trained: int | None) -> Tensor:
        """The token ids that end a row: that of training, those of the model's own generation, or the tokenizer's."""
        own = getattr(self.model.generation_config, "eos_token_id", None)
        named: list[Any] = [trained, *(own if isinstance(own, list) else [own])]
        ends = [token for token in named if token is not None]
        if not ends and self.tokenizer.eos_token_id is not None:
            ends = [self.tokenizer.eos_token_id]
        return torch.tensor(ends, dtype=torch.long, device=self.device)

    def _compared(self, beyond: int) -> Ways:
        """The ways for rows of more than so many tokens, from the user's cache or compared now."""
        ways = recall(self.id.fingerprint, self._network, beyond) if self._remembers else None
        if ways is None:
            ways = probe(self._rows, beyond)
            if self._remembers:
                remember(self.id.fingerprint, self._network, beyond, ways)
        self._network.embed_scale = ways.embed_scale
        return ways

    def _as_prefix(self, prompts: Tensor | Prefix) -> Prefix:
        return prompts if isinstance(prompts, Prefix) else self.prefix(prompts)

    def _ways_of(self, batch: Batch, prefix: Prefix, more: int) -> Ways:
        """The ways for a batch whose rows go on by `more` tokens.

        Raises:
            BackboneError: as `ways_for`, or the rows are longer than the model's table of positions.
        """
        tokens = prefix.length + batch.input_ids.shape[1] + (0 if self.id.kind == "seq2seq" else more)
        if self._table is not None and tokens > self._table:
            raise BackboneError(
                f"{self.id.name}: a row of {tokens} tokens, prompt included, is longer than the model's {self._table} "
                "positions; expected shorter rows. Give fewer max_input_tokens, or a shorter prompt."
            )
        return self.ways_for(tokens)

    def _scoring(
        self,
        prefix: Prefix,
        choice_sets: Sequence[Sequence[Sequence[int]]],
        trees: Sequence[ChoiceTree],
        nodes: int,
        ways: Ways,
    ) -> tuple[Callable[[Batch], Tensor], int]:
        """How rows are scored whose trees have at most so many nodes, and how many logits that holds for each."""
        rows = self._rows
        pairs = max(sum(len(choice) for choice in choices) for choices in choice_sets)
        if isinstance(rows, Seq2SeqRows):
            if ways.together == "padded":
                return lambda part: rows.pair_scores(part, prefix, choice_sets), pairs
        elif not nodes or (ways.tree and (prefix.length == 0 or (ways.shares and prefix.states is not None))):
            return lambda part: rows.tree_scores(part, prefix, trees, ways), 1 + nodes
        return lambda part: self._score_pairs(part, prefix, choice_sets), pairs

    def _score_pairs(self, batch: Batch, prefix: Prefix, choice_sets: Sequence[Sequence[Sequence[int]]]) -> Tensor:
        """Score each (row, choice) pair as a row of its own."""
        pairs, labels = choice_pairs(choice_sets, batch)
        return unpaired(-self.loss(replace(batch.rows(pairs), labels=labels), prefix), choice_sets, batch)

    def _greedy(self, batch: Batch, prefix: Prefix, ways: Ways, most: int, ends: Tensor) -> Tensor:
        """The likeliest token at each step, [B, `most`]; ENDED behind a row's end, LOST where no number is finite."""
        steps = self._rows.steps(batch, prefix, ways)
        logits = next(steps)
        ended = torch.zeros_like(batch.input_ids[:, 0], dtype=torch.bool)
        tokens: list[Tensor] = []
        while True:
            token = logits.argmax(dim=-1)
            lost = ~ended & ~torch.isfinite(logits.gather(1, token[:, None])[:, 0])
            ended |= torch.isin(token, ends)
            tokens.append(token.masked_fill(ended, ENDED).masked_fill(lost, LOST))
            ended |= lost
            if ended.all() or len(tokens) == most:
                return functional.pad(torch.stack(tokens, dim=1), (0, most - len(tokens)), value=ENDED)
            logits = steps.send(token[:, None])


def _of_like_size(nodes: Sequence[int]) -> list[list[int]]:
    """Rows by the size of their trees of choices, so that few stand beside a much larger one and are padded to it."""
    groups: dict[int, list[int]] = defaultdict(list)
    for row, count in enumerate(nodes):
        groups[(count // SMALL_TREE).bit_length()].append(row)
    return list(groups.values())
