from .requests import Engine as Engine
from .requests import Refusal as Refusal
from .requests import Sampling as Sampling
from .requests import Served as Served
from .requests import Token as Token
from .settings import ServeSettings as ServeSettings
