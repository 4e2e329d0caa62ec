"""Name the ways of computing rows that are known to be exact for one model: what `models.probe` has compared."""

from dataclasses import dataclass
from typing import Literal

from pydantic import with_config

from spot.storage.values import STRICT

Together = Literal["padded", "equal", "alone"]
Decoding = Literal["padded", "equal", "whole"]


@with_config(STRICT)
@dataclass(frozen=True, kw_only=True)
class Ways:
    """How the rows of a model are computed, so that each has the numbers that it has alone.

    Attributes:
        shares: the states of a prompt are computed once and given to all its rows; else each row reads its prompt.
        together: rows of one call: of any length with pads behind them, of `equal` lengths, or each `alone`.
        tree: the labels of a row are read as one tree of tokens; else each pair of row and label is a row.
        decoding: tokens are generated from kept states for rows of any length (`padded`) or of `equal` lengths, or
            the `whole` row is read again for each token.
        embed_scale: what the model multiplies its embedding module's vectors by before its first layer.
        notes: for each faster way that is not taken, which and why.
    """

    shares: bool
    together: Together
    tree: bool
    decoding: Decoding
    embed_scale: float = 1.0
    notes: tuple[str, ...] = ()

    @property
    def rows_that_generate(self) -> Together:
        """The rows of one call where tokens are generated."""
        return "equal" if self.together == "padded" and self.decoding == "equal" else self.together
