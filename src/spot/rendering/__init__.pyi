from .html import render as render
from .tables import cell_text as cell_text
from .tables import table_text as table_text
