from .entries import Entry as Entry
from .history import TransferRecord as TransferRecord
from .library import Library as Library
from .library import open_library as open_library
from .library import resolve as resolve
