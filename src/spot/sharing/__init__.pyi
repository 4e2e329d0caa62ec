from .door import PullOutcome as PullOutcome
from .door import PushOutcome as PushOutcome
from .door import SyncOutcome as SyncOutcome
from .door import pull_library as pull_library
from .door import push_library as push_library
from .door import sync_library as sync_library
