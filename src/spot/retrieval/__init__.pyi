from .embeddings import SIMILARITIES as SIMILARITIES
from .embeddings import similarity as similarity
from .embeddings import task_embedding as task_embedding
from .ranking import RANK_BY as RANK_BY
from .ranking import Ranking as Ranking
from .ranking import retrieve as retrieve
from .search import Ranked as Ranked
