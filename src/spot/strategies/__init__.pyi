from .door import transfer as transfer
from .plans import plan as plan
from .report import TransferReport as TransferReport
