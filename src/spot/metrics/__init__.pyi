from .scores import METRICS as METRICS
from .scores import bootstrap_interval as bootstrap_interval
from .scores import nested_bootstrap_interval as nested_bootstrap_interval
from .scores import primary as primary
from .scores import problems as problems
from .scores import score as score
from .scores import score_title as score_title
