from .arms import Baseline as Baseline
from .arms import Fitted as Fitted
from .arms import Terms as Terms
from .arms import Unsuitable as Unsuitable
from .door import check_baselines as check_baselines
from .door import fit_baseline as fit_baseline
