from .comparison import compare_runs as compare_runs
from .listing import CacheEntry as CacheEntry
from .listing import find_entry as find_entry
from .listing import list_cache as list_cache
from .removal import remove_entries as remove_entries
from .showing import show_run as show_run
