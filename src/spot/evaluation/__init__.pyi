from .classes import ClassReport as ClassReport
from .classes import class_report as class_report
from .evaluation import Evaluation as Evaluation
from .evaluation import Prediction as Prediction
from .evaluation import evaluate as evaluate
