from .files import cache_dir as cache_dir
from .files import lock as lock
from .files import write_whole as write_whole
from .run_dir import RunDir as RunDir
