from .loop import Diverged as Diverged
from .state import Run as Run
from .tuning import tune_model as tune_model
from .tuning import tune_prompt as tune_prompt
