from .door import PromptReport as PromptReport
from .door import report as report
from .subject import Subject as Subject
from .subject import read_subject as read_subject
