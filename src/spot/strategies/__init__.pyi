from .comparison import TransferReport as TransferReport
from .door import transfer as transfer
from .plans import plan_transfer as plan_transfer
