from .door import transfer as transfer
from .plans import plan_transfer as plan_transfer
from .report import TransferReport as TransferReport
