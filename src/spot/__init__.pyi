from . import tasks as tasks
from .classifier import SoftPromptClassifier as SoftPromptClassifier
from .config import TransferConfig as TransferConfig
from .config import TuneConfig as TuneConfig
from .errors import SpotError as SpotError
from .evaluation.door import MixtureScores as MixtureScores
from .evaluation.door import TaskScores as TaskScores
from .evaluation.door import evaluate as evaluate
from .evaluation.door import predict as predict
from .evaluation.predictions import Prediction as Prediction
from .library.library import Library as Library
from .library.library import open_library as open_library
from .models.backbone import Backbone as Backbone
from .prompts.prompt import SoftPrompt as SoftPrompt
from .reading import Reading as Reading
from .retrieval.ranking import retrieve as retrieve
from .strategies.door import transfer as transfer
from .strategies.report import TransferReport as TransferReport
from .tasks.splits import Splits as Splits
from .tasks.splits import split_rows as split_rows
from .tasks.task import Task as Task
from .training.door import tune as tune
from .training.door import tune_model as tune_model

__version__: str
