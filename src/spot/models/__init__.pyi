from .backbone import Backbone as Backbone
from .batch import Batch as Batch
from .checkpoints import locate as locate
