from .comparison import TransferReport as TransferReport
from .door import transfer as transfer
from .plans import plan as plan
