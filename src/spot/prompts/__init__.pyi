from .overlap import Sketch as Sketch
from .prompt import BackboneId as BackboneId
from .prompt import KeyRecipe as KeyRecipe
from .prompt import SoftPrompt as SoftPrompt
from .prompt import header as header
from .prompt import load as load
from .prompt import save as save
