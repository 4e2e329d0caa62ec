from .card import Baked as Baked
from .checkpoint import export_checkpoint as export_checkpoint
from .vllm import export_vllm as export_vllm
