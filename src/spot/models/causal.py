"""Run the rows of a causal model: prompt, text, target, and pads behind them, which no token before them can see.

A row is laid out as the model alone would read it: without a mask and with positions of the model's own counting, so
that the numbers of its tokens are the model's own, whatever its layers do with masks, positions and distances. A
prompt stands before all rows, so what the layers keep of it is computed once a prompt and given to the rows, and the
gradient flows back through that.

Letters: B rows, S input tokens, T target tokens, P prompt tokens, D width, R prompts in one call, V vocabulary.
"""

from collections.abc import Generator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from spot.models.batch import IGNORED, Batch, Prefix, pads_last, token_nats
from spot.models.choice_tree import ChoiceTree, gather, tree_mask
from spot.models.network import Network
from spot.models.prompt_states import KeptRows, empty_states, states_of_rows
from spot.models.ways import Ways


class CausalRows:
    """The rows of one causal model. Every method takes the ways to go; `models.probe` finds those that are exact."""

    def __init__(self, network: Network) -> None:
        """Of a frozen model."""
        self.network = network
        self._states = "past_key_values" if network.takes("past_key_values") else "cache_params"

    def prefix(self, prompts: Tensor) -> Prefix:
        """Run prompts [R, P, D] alone and keep what every layer holds of them; differentiable."""
        states = empty_states(self.network.model.config)
        no_text = torch.zeros(len(prompts), 0, dtype=torch.long, device=prompts.device)
        # A copy, because some models scale in place what they are given.
        arguments = self._vectors(prompts.to(self.network.model.dtype).clone(), no_text)
        last = torch.full((len(prompts), 1), prompts.shape[1] - 1, device=prompts.device)
        _, output = self.network.logits(last, **arguments, **{self._states: states}, use_cache=True)
        return Prefix(prompts, output[self._states])

    def nats(self, batch: Batch, prefix: Prefix, ways: Ways) -> Tensor:
        """Negative log-probability of each target token, [B, T]; 0 where there is none."""
        batch = batch.packed()
        target = batch.labels != IGNORED
        ids = torch.cat([batch.input_ids, batch.labels[:, :-1].clamp(min=0)], dim=1)
        ids, _ = pads_last(ids, torch.cat([batch.attention_mask, target[:, :-1].long()], dim=1))
        steps = torch.arange(batch.labels.shape[1], device=ids.device)
        last = batch.attention_mask.sum(dim=1, keepdim=True) - 1
        logits, _ = self._logits(ids, last + steps * target, batch.prompt_index, prefix, ways)
        return token_nats(logits, batch.labels)

    def tree_scores(self, batch: Batch, prefix: Prefix, trees: Sequence[ChoiceTree], ways: Ways) -> Tensor:
        """Log-probabilities [B, C] of choices that stand behind the text as a tree: a shared token is read once.

        Args:
            batch: the rows; their `choice_index` picks each row's tree.
            prefix: their prompts.
            trees: the sets of choices; C is the number in the largest, and rows of smaller ones are padded with 0.
            ways: that are exact.
        """
        batch = batch.packed()
        device, (rows, width) = batch.input_ids.device, batch.input_ids.shape
        which = batch.choices()
        of_rows = [trees[number] for number in which]
        nodes = max(len(tree.tokens) for tree in of_rows)
        last = batch.attention_mask.sum(dim=1, keepdim=True) - 1
        if not nodes:
            logits, _ = self._logits(batch.input_ids, last, batch.prompt_index, prefix, ways)
        else:
            tokens = _node_numbers([tree.tokens for tree in of_rows], nodes, device)
            depths = _node_numbers([tree.depths for tree in of_rows], nodes, device)
            at = torch.cat([last, torch.arange(width, width + nodes, device=device).expand(rows, -1)], dim=1)
            positions = torch.cat([torch.arange(width, device=device).expand(rows, -1), last + depths], dim=1)
            logits, _ = self._logits(
                torch.cat([batch.input_ids, tokens], dim=1),
                at,
                batch.prompt_index,
                prefix,
                ways,
                position_ids=prefix.length + positions,
                attention_mask=tree_mask(batch.attention_mask, prefix.length, trees, which, self.network.model.dtype),
            )
        return gather(logits.float().log_softmax(dim=-1), trees, which)

    def steps(self, batch: Batch, prefix: Prefix, ways: Ways) -> Generator[Tensor, Tensor, None]:
        """Go on behind the rows: gives the logits [B, V] of the next token, is sent the tokens [B, 1] taken."""
        batch = batch.packed()
        ids, mask, index = batch.input_ids, batch.attention_mask, batch.prompt_index
        if ways.decoding == "whole":
            while True:
                logits, _ = self._logits(ids, mask.sum(dim=1, keepdim=True) - 1, index, prefix, ways)
                token = yield logits[:, -1]
                ids, mask = torch.cat([ids, token], dim=1), functional.pad(mask, (0, 1), value=1)
                ids, mask = pads_last(ids, mask)
        logits, rows = self.begin(batch, prefix, ways)
        while True:
            token = yield logits
            logits, rows = self.go_on(token, rows)

    def begin(self, batch: Batch, prefix: Prefix, ways: Ways) -> tuple[Tensor, KeptRows]:
        """Read rows and keep what the layers hold of them: the logits [B, V] of the next token, and what is kept."""
        batch = batch.packed()
        mask = batch.attention_mask
        last = mask.sum(dim=1, keepdim=True) - 1
        logits, output = self._logits(batch.input_ids, last, batch.prompt_index, prefix, ways, keep=True)
        states = output[self._states]
        if ways.decoding == "equal":
            return logits[:, -1], KeptRows(states)
        return logits[:, -1], KeptRows(states, functional.pad(mask, (prefix.length, 0), value=1), prefix.length + last)

    def go_on(self, token: Tensor, rows: KeptRows) -> tuple[Tensor, KeptRows]:
        """Read one more token [B, 1] of each row: the logits [B, V] of the next, and what is kept."""
        arguments: dict[str, Any] = {"input_ids": token, self._states: rows.states, "use_cache": True}
        mask, position = rows.mask, rows.position
        if mask is not None and position is not None:
            mask, position = functional.pad(mask, (0, 1), value=1), position + 1
            arguments |= {"attention_mask": mask, "position_ids": position}
        logits, output = self.network.logits(torch.zeros_like(token), **arguments)
        return logits[:, -1], KeptRows(output[self._states], mask, position)

    def _logits(
        self,
        ids: Tensor,
        at: Tensor,
        index: Tensor,
        prefix: Prefix,
        ways: Ways,
        *,
        keep: bool = False,
        **others: Tensor,
    ) -> tuple[Tensor, Any]:
        """Read rows [B, L] of token ids behind their prompts; logits [B, T, V] at positions [B, T] of the ids.

        Args:
            ids: the rows.
            at: the positions.
            index: the prompt of each row.
            prefix: the prompts.
            ways: whether their states are shared.
            keep: whether the model is to keep its states, for further tokens.
            others: of the model's own arguments.
        """
        arguments: dict[str, Any] = {"input_ids": ids, "use_cache": keep, **others}
        if prefix.states is not None and ways.shares:
            if ids.shape[1] == 1 and torch.is_grad_enabled():
                # A call of one token takes a way of generating, which has no backward pass in some recurrent layers.
                arguments["input_ids"] = functional.pad(ids, (0, 1))
            arguments |= {self._states: states_of_rows(prefix.states, index), "use_cache": True}
            return self.network.logits(at, **arguments)
        if keep:
            arguments[self._states] = empty_states(self.network.model.config)
        if prefix.length:
            del arguments["input_ids"]
            arguments |= self._vectors(prefix.vectors.to(self.network.model.dtype)[index], ids)
        return self.network.logits(prefix.length + at, **arguments)

    def _vectors(self, prompts: Tensor, ids: Tensor) -> dict[str, Tensor]:
        """The arguments for prompts [B, P, D] before token ids [B, L]."""
        vectors = torch.cat([prompts, self.network.embed(ids).to(prompts.dtype)], dim=1) if ids.shape[1] else prompts
        # Where a model looks token ids up a second time, the tokens of a prompt have the first id's entry there.
        return {"inputs_embeds": vectors, **self.network.beside_vectors(functional.pad(ids, (prompts.shape[1], 0)))}


def _node_numbers(numbers: Sequence[Sequence[int]], nodes: int, device: torch.device) -> Tensor:
    """A number of each node of each row's tree, [B, nodes]; 0 where a row's tree has fewer."""
    return torch.tensor([[*row, *[0] * (nodes - len(row))] for row in numbers], device=device)
