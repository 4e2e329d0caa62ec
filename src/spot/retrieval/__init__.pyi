from .ranking import Ranking as Ranking
from .ranking import rank as rank
from .search import retrieve as retrieve
from .search import similarity as similarity
from .search import task_embedding as task_embedding
