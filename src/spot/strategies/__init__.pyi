from .plans import plan as plan
from .report import TransferReport as TransferReport
from .transfers import transfer as transfer
