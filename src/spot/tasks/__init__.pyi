from .registry import get as get
from .registry import names as names
from .splits import Splits as Splits
from .splits import split_rows as split_rows
from .task import Example as Example
from .task import Task as Task
