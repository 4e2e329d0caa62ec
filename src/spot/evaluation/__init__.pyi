from .evaluation import Evaluation as Evaluation
from .evaluation import Prediction as Prediction
from .evaluation import evaluate as evaluate
