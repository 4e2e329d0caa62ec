"""Say what happens while runs train: values that a log takes as they are, and that read as a sentence.

Each is the message of a record of `logging`, level INFO, below `spot.training`: `record.msg` is the value, and
`record.getMessage()` its sentence.
"""

from dataclasses import dataclass

from spot.config import TuneConfig
from spot.training.result import CurvePoint


@dataclass(frozen=True, kw_only=True)
class Evaluated:
    """A run was evaluated on its selection rows.

    Attributes:
        run: its digest.
        title: of its task or mixture.
        start: kind of its initial value, as `TuneConfig.init`; `prompt` where it started from prompts.
        parents: digests of these prompts.
        seed: of the run.
        steps: that it will take at most.
        learning_rate: its full step size.
        loss: mean over the rows that trained since the evaluation before, nats; None at the start.
        point: of the learning curve.
        config: all settings of the run.
    """

    run: str
    title: str
    start: str
    parents: tuple[str, ...]
    seed: int
    steps: int
    learning_rate: float
    loss: float | None
    point: CurvePoint
    config: TuneConfig

    def __str__(self) -> str:
        """One line for people."""
        loss = "" if self.loss is None else f", loss {self.loss:.3f} nats"
        return (
            f"{self.title}, seed {self.seed}: step {self.point.step} of {self.steps}, {self.point.score:.1f} on "
            f"selection rows{loss}"
        )
