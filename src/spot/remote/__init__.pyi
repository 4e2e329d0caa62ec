from .address import Address as Address
from .address import is_address as is_address
from .address import parse as parse
from .manifest import Manifest as Manifest
from .manifest import StoredFile as StoredFile
from .opening import open_store as open_store
from .shared_index import read_index as read_index
from .store import Store as Store
