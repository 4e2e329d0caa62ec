from .comparison import TransferReport as TransferReport
from .plans import plan as plan
from .transfers import transfer as transfer
