from . import tasks as tasks
from .config import TransferConfig as TransferConfig
from .config import TuneConfig as TuneConfig
from .errors import SpotError as SpotError
from .evaluation.evaluation import evaluate as evaluate
from .library.library import Library as Library
from .library.library import open_library as open_library
from .models.backbone import Backbone as Backbone
from .prompts.prompt import SoftPrompt as SoftPrompt
from .retrieval.search import retrieve as retrieve
from .training.tuning import tune_prompt as tune_prompt

__version__: str
