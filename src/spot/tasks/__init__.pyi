from .registry import get as get
from .registry import names as names
from .task import Example as Example
from .task import Task as Task
from .task import roles as roles
