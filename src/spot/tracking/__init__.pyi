from .door import Tracking as Tracking
from .door import track as track
