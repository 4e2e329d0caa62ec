from .scores import METRICS as METRICS
from .scores import bootstrap_interval as bootstrap_interval
from .scores import primary as primary
from .scores import score as score
