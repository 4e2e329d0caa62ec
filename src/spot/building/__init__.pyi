from .door import BuildOutcome as BuildOutcome
from .door import build_library as build_library
from .door import plan_addition as plan_addition
from .door import plan_library as plan_library
from .recipe import LibraryRecipe as LibraryRecipe
from .recipe import read_recipe as read_recipe
