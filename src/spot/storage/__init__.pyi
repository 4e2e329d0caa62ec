from .files import cache_dir as cache_dir
from .files import lock as lock
from .files import write_whole as write_whole
from .jsonl import append_lines as append_lines
from .jsonl import read_lines as read_lines
from .run_dir import RunDir as RunDir
