from .cells import read_plan as read_plan
from .report.page import report_study as report_study
from .running import run_study as run_study
from .status import study_status as study_status
from .teaching import teach as teach
