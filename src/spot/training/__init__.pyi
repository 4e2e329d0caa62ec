from .door import tune as tune
from .door import tune_model as tune_model
from .loop import Diverged as Diverged
from .result import CurvePoint as CurvePoint
from .result import RunResult as RunResult
from .run import Run as Run
