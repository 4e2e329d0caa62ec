from .classes import ClassReport as ClassReport
from .classes import class_report as class_report
from .door import MixtureScores as MixtureScores
from .door import TaskScores as TaskScores
from .door import evaluate as evaluate
from .door import predict as predict
from .predictions import Prediction as Prediction
from .scoring import Evaluation as Evaluation
